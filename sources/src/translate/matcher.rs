//! Conditions on requests, which service-routers and intentions write alike.

use consul::chain::{HttpMatch, QueryMatch as WrittenQuery};
use http::{HeaderName, Method};
use meridian_model::Pattern;
use meridian_model::route::{HeaderMatch, PathMatch, QueryMatch, ValueMatch};

/// A condition on one header as Consul writes it; exactly one of the tests is set.
pub(crate) struct HeaderTest<'a> {
    pub(crate) name: &'a str,
    pub(crate) present: bool,
    pub(crate) exact: &'a str,
    pub(crate) prefix: &'a str,
    pub(crate) suffix: &'a str,
    pub(crate) contains: &'a str,
    pub(crate) regex: &'a str,
    pub(crate) ignore_case: bool,
    pub(crate) invert: bool,
}

/// The path condition; none set matches all. More than one set is Consul's fault, or a hole.
pub(crate) fn path(http: &HttpMatch) -> Result<PathMatch, String> {
    let fold = http.case_insensitive;
    match (
        http.path_exact.as_str(),
        http.path_prefix.as_str(),
        http.path_regex.as_str(),
    ) {
        ("", "", "") => Ok(PathMatch::Any),
        (exact, "", "") if fold => Ok(PathMatch::ExactIgnoringCase(exact.to_owned())),
        (exact, "", "") => Ok(PathMatch::Exact(exact.to_owned())),
        ("", prefix, "") if fold => Ok(PathMatch::PrefixIgnoringCase(prefix.to_owned())),
        ("", prefix, "") => Ok(PathMatch::Prefix(prefix.to_owned())),
        // An expression says itself whether it minds case, as with Consul's Envoy.
        ("", "", regex) => pattern(regex, false).map(PathMatch::Regex),
        _ => Err("more than one of PathExact, PathPrefix and PathRegex is set".to_owned()),
    }
}

/// The method condition; none set matches all.
pub(crate) fn methods(written: &[String]) -> Result<Vec<Method>, String> {
    written
        .iter()
        .map(|name| {
            Method::from_bytes(name.to_ascii_uppercase().as_bytes())
                .map_err(|_| format!("`{name}` is no method"))
        })
        .collect()
}

/// A header condition. Where several tests are set, the order is that of Consul's own code
/// (`agent/xds/rbac.go`, `routes.go`): exact, regex, prefix, suffix, contains, present.
pub(crate) fn header(test: &HeaderTest<'_>) -> Result<HeaderMatch, String> {
    let name = HeaderName::from_bytes(test.name.as_bytes())
        .map_err(|_| format!("`{}` is no header name", test.name))?;
    let fold = test.ignore_case;
    let folded = |before: &str, text: &str, after: &str| {
        pattern(&format!("(?s){before}{}{after}", regex::escape(text)), true).map(ValueMatch::Regex)
    };
    let value = match test {
        HeaderTest { exact, .. } if !exact.is_empty() && fold => folded("", exact, "")?,
        HeaderTest { exact, .. } if !exact.is_empty() => ValueMatch::Exact((*exact).to_owned()),
        HeaderTest { regex, .. } if !regex.is_empty() => ValueMatch::Regex(pattern(regex, fold)?),
        HeaderTest { prefix, .. } if !prefix.is_empty() && fold => folded("", prefix, ".*")?,
        HeaderTest { prefix, .. } if !prefix.is_empty() => ValueMatch::Prefix((*prefix).to_owned()),
        HeaderTest { suffix, .. } if !suffix.is_empty() && fold => folded(".*", suffix, "")?,
        HeaderTest { suffix, .. } if !suffix.is_empty() => ValueMatch::Suffix((*suffix).to_owned()),
        HeaderTest { contains, .. } if !contains.is_empty() && fold => {
            folded(".*", contains, ".*")?
        }
        HeaderTest { contains, .. } if !contains.is_empty() => {
            ValueMatch::Contains((*contains).to_owned())
        }
        HeaderTest { present: true, .. } => ValueMatch::Present,
        _ => return Err(format!("header `{}` has no condition", test.name)),
    };
    Ok(HeaderMatch {
        name,
        value,
        invert: test.invert,
    })
}

/// A query parameter's condition. An empty `Exact` is what Consul stores for "is there, empty".
pub(crate) fn query(written: &WrittenQuery) -> Result<QueryMatch, String> {
    if !written.unknown.is_empty() {
        return Err(format!(
            "query parameter `{}` has unknown conditions",
            written.name
        ));
    }
    let value = match written {
        WrittenQuery { regex, .. } if !regex.is_empty() => {
            ValueMatch::Regex(pattern(regex, false)?)
        }
        WrittenQuery { present: true, .. } => ValueMatch::Present,
        WrittenQuery { exact, .. } => ValueMatch::Exact(exact.clone()),
    };
    Ok(QueryMatch {
        name: written.name.clone(),
        value,
    })
}

fn pattern(text: &str, ignoring_case: bool) -> Result<Pattern, String> {
    if ignoring_case {
        Pattern::ignoring_case(text)
    } else {
        Pattern::new(text)
    }
    .map_err(|error| format!("`{text}` is no usable regular expression: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn test<'a>(name: &'a str) -> HeaderTest<'a> {
        HeaderTest {
            name,
            present: false,
            exact: "",
            prefix: "",
            suffix: "",
            contains: "",
            regex: "",
            ignore_case: false,
            invert: false,
        }
    }

    #[test]
    fn header_tests_that_ignore_case_match_the_same_way() {
        let cases = [
            (
                HeaderTest {
                    exact: "A.b",
                    ignore_case: true,
                    ..test("x")
                },
                "a.B",
                "aXB",
            ),
            (
                HeaderTest {
                    prefix: "Ab",
                    ignore_case: true,
                    ..test("x")
                },
                "aBc",
                "cab",
            ),
            (
                HeaderTest {
                    suffix: "Ab",
                    ignore_case: true,
                    ..test("x")
                },
                "caB",
                "abc",
            ),
            (
                HeaderTest {
                    contains: "Ab",
                    ignore_case: true,
                    ..test("x")
                },
                "xaBx",
                "a-b",
            ),
            (
                HeaderTest {
                    regex: "A+",
                    ignore_case: true,
                    ..test("x")
                },
                "aA",
                "ab",
            ),
        ];
        for (case, fits, fails) in cases {
            let made = header(&case).unwrap();
            assert!(made.value.accepts(fits), "{made:?} {fits}");
            assert!(!made.value.accepts(fails), "{made:?} {fails}");
        }
    }

    #[test]
    fn a_header_without_condition_is_refused() {
        assert!(header(&test("x")).is_err());
        assert!(
            header(&HeaderTest {
                present: true,
                ..test("no name")
            })
            .is_err()
        );
        assert_eq!(
            header(&HeaderTest {
                present: true,
                ..test("X-A")
            })
            .unwrap()
            .value,
            ValueMatch::Present
        );
    }

    #[test]
    fn two_path_conditions_are_refused() {
        let both = HttpMatch {
            path_exact: "/a".into(),
            path_prefix: "/b".into(),
            ..HttpMatch::default()
        };
        assert!(path(&both).is_err());
        assert_eq!(path(&HttpMatch::default()), Ok(PathMatch::Any));
    }
}
