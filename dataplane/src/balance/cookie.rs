//! Cookies that keep a client at its endpoint.

use fastrand::Rng;
use http::header::COOKIE;
use http::{HeaderMap, HeaderValue};
use std::fmt::Write;
use std::time::Duration;

/// A cookie that the response has to set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GeneratedCookie {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: String,
    /// How long the client keeps it; zero for as long as its session.
    pub ttl: Duration,
    /// Its path; empty for the request's own.
    pub path: String,
}

impl GeneratedCookie {
    pub(super) fn new(name: &str, ttl: Duration, path: &str, rng: &mut Rng) -> Self {
        Self {
            name: name.to_owned(),
            value: format!("{:016x}", rng.u64(..)),
            ttl,
            path: path.to_owned(),
        }
    }

    /// The value of `set-cookie`; `None` where the configured name or path
    /// cannot stand in a header.
    pub fn header(&self) -> Option<HeaderValue> {
        let mut text = format!("{}=\"{}\"", self.name, self.value);
        // Writing to a string cannot fail.
        if !self.ttl.is_zero() {
            let _ = write!(text, "; Max-Age={}", self.ttl.as_secs());
        }
        if !self.path.is_empty() {
            let _ = write!(text, "; Path={}", self.path);
        }
        text.push_str("; HttpOnly");
        HeaderValue::try_from(text).ok()
    }
}

/// The value of a request's cookie, without the quotes around it.
pub(super) fn cookie_value<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a [u8]> {
    headers
        .get_all(COOKIE)
        .iter()
        .flat_map(|line| line.as_bytes().split(|byte| *byte == b';'))
        .find_map(|pair| {
            let value = pair.trim_ascii().strip_prefix(name.as_bytes())?;
            let value = value.strip_prefix(b"=")?;
            let quoted = value
                .strip_prefix(b"\"")
                .and_then(|value| value.strip_suffix(b"\""));
            Some(quoted.unwrap_or(value))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cookies_are_found_among_others() {
        let mut headers = HeaderMap::new();
        headers.append(COOKIE, HeaderValue::from_static("ab=0; a=1;c=\"2\""));
        headers.append(COOKIE, HeaderValue::from_static("d=3"));
        for (name, expected) in [
            ("a", Some("1")),
            ("c", Some("2")),
            ("d", Some("3")),
            ("b", None),
        ] {
            let value = cookie_value(&headers, name);
            assert_eq!(value, expected.map(str::as_bytes), "{name}");
        }
    }

    #[test]
    fn set_cookie_says_how_long_and_where() {
        let cookie = |ttl, path: &str| GeneratedCookie {
            name: "n".into(),
            value: "v".into(),
            ttl: Duration::from_secs(ttl),
            path: path.into(),
        };
        let header = |ttl, path| cookie(ttl, path).header().unwrap();
        assert_eq!(header(60, "/a"), "n=\"v\"; Max-Age=60; Path=/a; HttpOnly");
        assert_eq!(header(0, ""), "n=\"v\"; HttpOnly");
        assert_eq!(cookie(0, "/\n").header(), None);
    }
}
