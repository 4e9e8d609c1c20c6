//! Whether one request fulfils the conditions of one route or permission.

use http::{HeaderMap, HeaderValue, Method};
use meridian_model::route::{HeaderMatch, PathMatch, QueryMatch, RouteMatch, ValueMatch};
use std::borrow::Cow;

/// What routing may know about a request. Borrowed, so that asking costs nothing.
#[derive(Debug, Clone, Copy)]
pub struct RequestFacts<'a> {
    /// Host in any case, as [`super::Router::host_of`] has it.
    pub host: &'a str,
    /// Normalized path, without the query.
    pub path: &'a str,
    /// Raw query, without the `?`.
    pub query: Option<&'a str>,
    /// Method.
    pub method: &'a Method,
    /// Headers. An HTTP/2 request has its `:authority` here as `host`, if
    /// conditions on `host` are to see it.
    pub headers: &'a HeaderMap,
}

/// Whether all conditions hold, those of an intention's permission or of a route.
///
/// Allocates only where a header is not ASCII, or where a query parameter is
/// percent-encoded; each bounded by the request's head.
pub fn conditions_hold(conditions: &RouteMatch, request: &RequestFacts<'_>) -> bool {
    method_holds(&conditions.methods, request.method) && all_but_method_hold(conditions, request)
}

/// As [`conditions_hold`], without looking at the method: tells 405 from 404.
pub(super) fn all_but_method_hold(conditions: &RouteMatch, request: &RequestFacts<'_>) -> bool {
    path_holds(&conditions.path, request.path)
        && conditions
            .headers
            .iter()
            .all(|wanted| header_holds(wanted, request.headers))
        && conditions
            .query
            .iter()
            .all(|wanted| query_holds(wanted, request.query))
}

/// Whether `rest` of a path stands at the border between two path elements.
pub(super) fn at_element_border(rest: &str) -> bool {
    rest.is_empty() || rest.starts_with('/')
}

/// The text that an element prefix is compared with: the model writes it
/// without a trailing slash, and `/` alone is the empty prefix.
pub(super) fn element_prefix(written: &str) -> &str {
    written.strip_suffix('/').unwrap_or(written)
}

fn method_holds(accepted: &[Method], method: &Method) -> bool {
    accepted.is_empty() || accepted.contains(method)
}

/// Whether a normalized path, without the query, fulfils a condition.
pub(crate) fn path_holds(condition: &PathMatch, path: &str) -> bool {
    match condition {
        PathMatch::Any => true,
        PathMatch::Exact(wanted) => path == wanted,
        PathMatch::ExactIgnoringCase(wanted) => path.eq_ignore_ascii_case(wanted),
        PathMatch::Prefix(wanted) => path.starts_with(wanted.as_str()),
        PathMatch::PrefixIgnoringCase(wanted) => path
            .as_bytes()
            .get(..wanted.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(wanted.as_bytes())),
        PathMatch::ElementPrefix(wanted) => path
            .strip_prefix(element_prefix(wanted))
            .is_some_and(at_element_border),
        PathMatch::Regex(pattern) => pattern.matches(path),
    }
}

fn header_holds(condition: &HeaderMatch, headers: &HeaderMap) -> bool {
    let mut lines = headers.get_all(&condition.name).iter().peekable();
    if lines.peek().is_none() {
        return condition.value == ValueMatch::Present && condition.invert;
    }
    // Bytes that are no UTF-8 are replaced, so that a rule still sees the rest
    // instead of seeing nothing.
    let text = |line: &'_ HeaderValue| String::from_utf8_lossy(line.as_bytes()).into_owned();
    let met = lines.any(|line| match line.to_str() {
        Ok(plain) => condition.value.accepts(plain),
        Err(_) => condition.value.accepts(&text(line)),
    });
    met != condition.invert
}

fn query_holds(condition: &QueryMatch, query: Option<&str>) -> bool {
    query_value(query.unwrap_or_default(), &condition.name)
        .is_some_and(|value| condition.value.accepts(&value))
}

/// The first value of a query parameter, percent-decoded once. `+` stays as
/// it is: RFC 3986 gives it no meaning, only HTML forms do.
pub(crate) fn query_value<'a>(query: &'a str, name: &str) -> Option<Cow<'a, str>> {
    query.split('&').find_map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (percent_decoded(key) == name).then(|| percent_decoded(value))
    })
}

fn percent_decoded(text: &str) -> Cow<'_, str> {
    if !text.contains('%') {
        return Cow::Borrowed(text);
    }
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        match escaped_byte(bytes.get(at..).unwrap_or_default()) {
            Some(value) => {
                decoded.push(value);
                at += 3;
            }
            None => {
                decoded.push(byte);
                at += 1;
            }
        }
    }
    Cow::Owned(String::from_utf8_lossy(&decoded).into_owned())
}

/// The byte that an escape at the start of `bytes` stands for.
pub(crate) fn escaped_byte(bytes: &[u8]) -> Option<u8> {
    let [b'%', high, low, ..] = bytes else {
        return None;
    };
    let digit = |byte: &u8| char::from(*byte).to_digit(16);
    u8::try_from(digit(high)? * 16 + digit(low)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderName;
    use meridian_model::Pattern;

    fn holds(
        conditions: &RouteMatch,
        path: &str,
        query: Option<&str>,
        headers: &HeaderMap,
    ) -> bool {
        conditions_hold(
            conditions,
            &RequestFacts {
                host: "h",
                path,
                query,
                method: &Method::GET,
                headers,
            },
        )
    }

    #[test]
    fn paths_match_as_their_kind_says() {
        let text = str::to_owned;
        let cases = [
            (PathMatch::Any, "/x", true),
            (PathMatch::Exact(text("/a")), "/a", true),
            (PathMatch::Exact(text("/a")), "/a/", false),
            (PathMatch::Exact(text("/a")), "/A", false),
            (PathMatch::ExactIgnoringCase(text("/a")), "/A", true),
            (PathMatch::Prefix(text("/a")), "/ab", true),
            (PathMatch::Prefix(text("/a")), "/b", false),
            (PathMatch::PrefixIgnoringCase(text("/a")), "/Ab", true),
            (PathMatch::PrefixIgnoringCase(text("/abc")), "/a", false),
            (PathMatch::ElementPrefix(text("/a")), "/a", true),
            (PathMatch::ElementPrefix(text("/a")), "/a/", true),
            (PathMatch::ElementPrefix(text("/a")), "/a/b", true),
            (PathMatch::ElementPrefix(text("/a")), "/ab", false),
            (PathMatch::ElementPrefix(text("/a/")), "/a", true),
            (PathMatch::ElementPrefix(text("/")), "/x", true),
            (PathMatch::ElementPrefix(text("")), "/x", true),
            (PathMatch::Regex(Pattern::new("/a.").unwrap()), "/ab", true),
            (
                PathMatch::Regex(Pattern::new("/a.").unwrap()),
                "/abc",
                false,
            ),
        ];
        for (path, given, expected) in cases {
            let conditions = RouteMatch {
                path,
                ..RouteMatch::default()
            };
            let actual = holds(&conditions, given, None, &HeaderMap::new());
            assert_eq!(actual, expected, "{conditions:?} on {given}");
        }
    }

    #[test]
    fn headers_match_by_any_line_and_inverted_by_none() {
        let text = str::to_owned;
        let cases: &[(ValueMatch, bool, &[&str], bool)] = &[
            (ValueMatch::Present, false, &["x"], true),
            (ValueMatch::Present, false, &[], false),
            (ValueMatch::Present, true, &[], true),
            (ValueMatch::Exact(text("a,b")), false, &["a", "b"], false),
            (ValueMatch::Exact(text("a,b")), false, &["a,b"], true),
            (ValueMatch::Exact(text("a")), false, &["a", "b"], true),
            (ValueMatch::Exact(text("b")), false, &["a", "b"], true),
            (ValueMatch::Exact(text("a")), true, &["b"], true),
            (ValueMatch::Exact(text("a")), true, &["b", "a"], false),
            (ValueMatch::Exact(text("a")), false, &[], false),
            (ValueMatch::Exact(text("a")), true, &[], false),
            (ValueMatch::Exact(text("")), false, &[], false),
            (ValueMatch::Prefix(text("a")), false, &["ab"], true),
            (ValueMatch::Suffix(text("b")), false, &["ab"], true),
            (ValueMatch::Contains(text("b")), false, &["abc"], true),
            (ValueMatch::Contains(text("d")), false, &["abc"], false),
        ];
        for (value, invert, given, expected) in cases {
            let name = HeaderName::from_static("x-test");
            let mut headers = HeaderMap::new();
            for value in *given {
                headers.append(name.clone(), HeaderValue::from_static(value));
            }
            let conditions = RouteMatch {
                headers: vec![HeaderMatch {
                    name,
                    value: value.clone(),
                    invert: *invert,
                }],
                ..RouteMatch::default()
            };
            let actual = holds(&conditions, "/", None, &headers);
            assert_eq!(actual, *expected, "{conditions:?} on {given:?}");
        }
    }

    #[test]
    fn a_header_that_is_no_text_is_still_seen() {
        let name = HeaderName::from_static("x-test");
        let mut headers = HeaderMap::new();
        headers.insert(name.clone(), HeaderValue::from_bytes(b"evil\xff").unwrap());
        let conditions = RouteMatch {
            headers: vec![HeaderMatch {
                name,
                value: ValueMatch::Prefix("evil".into()),
                invert: false,
            }],
            ..RouteMatch::default()
        };
        assert!(holds(&conditions, "/", None, &headers));
    }

    #[test]
    fn query_parameters_are_decoded_once_and_the_first_counts() {
        let cases = [
            ("a=1", "a", Some("1")),
            ("b=2&a=1&a=3", "a", Some("1")),
            ("a", "a", Some("")),
            ("%61=x%20y", "a", Some("x y")),
            ("a=%2541", "a", Some("%41")),
            ("a=%zz+", "a", Some("%zz+")),
            ("b=1", "a", None),
            ("", "a", None),
        ];
        for (query, name, expected) in cases {
            assert_eq!(query_value(query, name).as_deref(), expected, "{query}");
        }
    }

    #[test]
    fn methods_match_from_a_list() {
        let conditions = RouteMatch {
            methods: vec![Method::POST, Method::PUT],
            ..RouteMatch::default()
        };
        let headers = HeaderMap::new();
        for (method, expected) in [(Method::PUT, true), (Method::GET, false)] {
            let facts = RequestFacts {
                host: "h",
                path: "/",
                query: None,
                method: &method,
                headers: &headers,
            };
            assert_eq!(conditions_hold(&conditions, &facts), expected);
            assert!(all_but_method_hold(&conditions, &facts));
        }
    }
}
