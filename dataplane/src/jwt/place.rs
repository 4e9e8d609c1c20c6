//! Where tokens stand in a request: headers, query parameters, cookies.
//!
//! A place that is filled twice holds no token: which of the two the
//! application would read cannot be known.

use crate::headers::RequestHeader;
use http::HeaderName;
use http::header::COOKIE;
use meridian_model::jwt::TokenLocation;

/// A place, prepared.
#[derive(Debug)]
pub(super) enum Place {
    Header { name: HeaderName, prefix: String },
    Query(String),
    Cookie(String),
}

impl Place {
    pub(super) fn prepare(location: &TokenLocation) -> Option<Self> {
        Some(match location {
            TokenLocation::Header { name, value_prefix } => Self::Header {
                name: name.parse().ok()?,
                prefix: value_prefix.clone(),
            },
            TokenLocation::Query(name) => Self::Query(name.clone()),
            TokenLocation::Cookie(name) => Self::Cookie(name.clone()),
        })
    }

    /// What stands there.
    pub(super) fn find<'h>(&self, head: &'h RequestHeader) -> Option<&'h str> {
        match self {
            Self::Header { name, prefix } => {
                let value = only(head.headers.get_all(name).iter())?.to_str().ok()?;
                // One or more spaces may follow a scheme (RFC 9110, 11.4).
                Some(value.strip_prefix(prefix.as_str())?.trim_matches(' '))
            }
            Self::Query(name) => {
                let pairs = head.uri.query()?.split('&');
                only(pairs.filter_map(|pair| value_of(pair, name)))
            }
            Self::Cookie(name) => {
                let lines = head.headers.get_all(COOKIE).iter();
                let pairs = lines
                    .filter_map(|line| line.to_str().ok())
                    .flat_map(|line| line.split(';'));
                only(pairs.filter_map(|pair| value_of(pair.trim_matches(' '), name)))
            }
        }
    }

    /// Takes the token out. `target` is path and query if they were changed already, and what
    /// becomes of them comes back. Cookies stay, as in Envoy.
    pub(super) fn remove(
        &self,
        head: &mut RequestHeader,
        target: Option<String>,
    ) -> Option<String> {
        match self {
            Self::Header { name, .. } => {
                head.remove_header(name);
                target
            }
            Self::Query(name) => target
                .or_else(|| head.uri.path_and_query().map(ToString::to_string))
                .map(|target| without(&target, name)),
            Self::Cookie(_) => target,
        }
    }
}

fn only<T>(mut found: impl Iterator<Item = T>) -> Option<T> {
    let first = found.next()?;
    found.next().is_none().then_some(first)
}

/// Tokens consist of characters that need no escapes, so escaped ones are none.
fn value_of<'a>(pair: &'a str, name: &str) -> Option<&'a str> {
    pair.strip_prefix(name)?.strip_prefix('=')
}

fn without(target: &str, name: &str) -> String {
    let Some((path, query)) = target.split_once('?') else {
        return target.to_owned();
    };
    let kept = query
        .split('&')
        .filter(|pair| value_of(pair, name).is_none());
    let kept: Vec<&str> = kept.collect();
    if kept.is_empty() {
        return path.to_owned();
    }
    format!("{path}?{}", kept.join("&"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(target: &str, headers: &[(&'static str, &str)]) -> RequestHeader {
        let mut head = RequestHeader::build("GET", target.as_bytes(), None).unwrap();
        for (name, value) in headers {
            head.append_header(*name, *value).unwrap();
        }
        head
    }

    fn find(location: &TokenLocation, head: &RequestHeader) -> Option<String> {
        let place = Place::prepare(location).unwrap();
        place.find(head).map(str::to_owned)
    }

    fn bearer() -> TokenLocation {
        TokenLocation::Header {
            name: "Authorization".into(),
            value_prefix: "Bearer ".into(),
        }
    }

    #[test]
    fn a_header_counts_once_and_with_its_prefix() {
        let cases: [(&[&str], Option<&str>); 6] = [
            (&["Bearer a.b.c"], Some("a.b.c")),
            (&["Bearer   a.b.c"], Some("a.b.c")),
            (&["bearer a.b.c"], None),
            (&["Basic x, Bearer a.b.c"], None),
            (&["a.b.c"], None),
            (&["Bearer a.b.c", "Bearer d.e.f"], None),
        ];
        for (values, expected) in cases {
            let headers: Vec<_> = values.iter().map(|v| ("authorization", *v)).collect();
            let head = request("/", &headers);
            assert_eq!(find(&bearer(), &head).as_deref(), expected, "{values:?}");
        }
    }

    #[test]
    fn parameters_and_cookies_are_found_by_their_whole_name() {
        let query = TokenLocation::Query("tok".into());
        let cookie = TokenLocation::Cookie("tok".into());
        let cases = [
            ("/?a=1&tok=x&b=2", "a=1; tok=x; b=2", Some("x")),
            ("/?xtok=x&tokx=x", "xtok=x; tokx=x", None),
            ("/?tok=x&tok=y", "tok=x; tok=y", None),
            ("/tok=x", "tok", None),
        ];
        for (target, cookies, expected) in cases {
            let head = request(target, &[("cookie", cookies)]);
            assert_eq!(find(&query, &head).as_deref(), expected, "{target}");
            assert_eq!(find(&cookie, &head).as_deref(), expected, "{cookies}");
        }
    }

    #[test]
    fn a_removed_parameter_leaves_the_others() {
        for (target, expected) in [
            ("/a?tok=x", "/a"),
            ("/a?b=1&tok=x&c", "/a?b=1&c"),
            ("/a", "/a"),
        ] {
            assert_eq!(without(target, "tok"), expected);
        }
    }
}
