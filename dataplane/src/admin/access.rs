//! Who may ask: a token, and protection from the operator's own browser.
//!
//! A page that somebody looks at on the proxy's machine can reach loopback: by
//! a form it posts, or by a name that it re-binds to 127.0.0.1. Both leave
//! marks, an `Origin` header and a foreign `Host`.

use super::problem::Problem;
use http::{HeaderMap, StatusCode, header};
use std::fmt;
use std::net::IpAddr;

/// The secret that operators present. Never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct AdminToken(String);

impl AdminToken {
    /// Takes a token's text; `None` when it is blank.
    pub fn new(text: &str) -> Option<Self> {
        let text = text.trim();
        (!text.is_empty()).then(|| Self(text.to_owned()))
    }

    /// Compares without telling by its duration how much was right. The length shows.
    fn is(&self, presented: &str) -> bool {
        let (own, presented) = (self.0.as_bytes(), presented.as_bytes());
        let differing = own
            .iter()
            .zip(presented)
            .fold(0, |sum, (a, b)| sum | (a ^ b));
        own.len() == presented.len() && std::hint::black_box(differing) == 0
    }
}

impl fmt::Debug for AdminToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AdminToken(..)")
    }
}

/// The rules of one listener.
#[derive(Debug)]
pub(super) struct Access {
    token: Option<AdminToken>,
}

impl Access {
    pub(super) fn new(token: Option<AdminToken>) -> Self {
        Self { token }
    }

    /// Whether the request may see details and change things.
    pub(super) fn admit(&self, headers: &HeaderMap) -> Result<(), Problem> {
        let Some(token) = &self.token else {
            return own_browser(headers);
        };
        let presented = headers
            .get(header::AUTHORIZATION)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.split_once(' '))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
            .map(|(_, token)| token.trim());
        match presented {
            Some(presented) if token.is(presented) => Ok(()),
            _ => Err(Problem::new(
                StatusCode::UNAUTHORIZED,
                "this listener wants `Authorization: Bearer <token>`",
            )),
        }
    }
}

/// Refuses what only a browser on a foreign page sends. With a token this is
/// not needed: the page doesn't know it.
fn own_browser(headers: &HeaderMap) -> Result<(), Problem> {
    let refused = |detail| Err(Problem::new(StatusCode::FORBIDDEN, detail));
    if headers.contains_key(header::ORIGIN) {
        return refused("requests of web pages are refused");
    }
    let host = headers
        .get(header::HOST)
        .and_then(|host| host.to_str().ok())
        .and_then(|host| host.parse::<http::uri::Authority>().ok());
    match host {
        Some(host) if is_own(host.host()) => Ok(()),
        _ => refused("ask by address or as localhost"),
    }
}

/// Names that no stranger's DNS can point here.
fn is_own(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost") || address.parse::<IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderName, HeaderValue};

    fn headers(pairs: &[(HeaderName, &'static str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (name.clone(), HeaderValue::from_static(value)))
            .collect()
    }

    #[test]
    fn the_token_decides_where_there_is_one() {
        let access = Access::new(AdminToken::new(" s3cret \n"));
        let admitted = |value| {
            access
                .admit(&headers(&[(header::AUTHORIZATION, value)]))
                .is_ok()
        };
        assert!(admitted("Bearer s3cret"));
        assert!(admitted("bearer  s3cret"));
        for wrong in [
            "Bearer s3cre",
            "Bearer s3crets",
            "Bearer S3cret",
            "Basic s3cret",
            "s3cret",
        ] {
            assert!(!admitted(wrong), "{wrong}");
        }
        assert!(access.admit(&HeaderMap::new()).is_err());
    }

    #[test]
    fn a_blank_token_is_none() {
        assert_eq!(AdminToken::new(" \n"), None);
    }

    #[test]
    fn pages_in_a_browser_are_refused_without_a_token() {
        let access = Access::new(None);
        let admitted = |pairs: &[_]| access.admit(&headers(pairs)).is_ok();
        for own in [
            "127.0.0.1:19000",
            "[::1]:19000",
            "localhost:19000",
            "LOCALHOST",
            "10.0.0.1",
        ] {
            assert!(admitted(&[(header::HOST, own)]), "{own}");
        }
        assert!(!admitted(&[(header::HOST, "rebound.example:19000")]));
        assert!(!admitted(&[]));
        assert!(!admitted(&[
            (header::HOST, "127.0.0.1:19000"),
            (header::ORIGIN, "http://evil.example"),
        ]));
    }

    #[test]
    fn a_token_is_never_printed() {
        assert!(!format!("{:?}", AdminToken::new("s3cret")).contains("s3cret"));
    }
}
