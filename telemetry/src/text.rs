//! Strings captured on the request path and rendered off it.
//!
//! A header value, a shared name or an address is moved or reference-counted;
//! bytes are looked at, and addresses formatted, only by the thread that writes.

use std::borrow::Cow;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use http::HeaderValue;

/// A string whose rendering is put off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Text {
    /// A name from this program.
    Static(&'static str),
    /// A name from the configuration, such as a route's.
    Shared(Arc<str>),
    /// A string made for this one request.
    Owned(Box<str>),
    /// Bytes that a peer sent. Cloning a header value copies nothing.
    Header(HeaderValue),
    /// A peer's address.
    Address(SocketAddr),
}

impl Text {
    /// The string itself. Bytes that are not UTF-8 become U+FFFD.
    pub fn render(&self) -> Cow<'_, str> {
        match self {
            Self::Static(text) => Cow::Borrowed(text),
            Self::Shared(text) => Cow::Borrowed(text),
            Self::Owned(text) => Cow::Borrowed(text),
            Self::Header(value) => String::from_utf8_lossy(value.as_bytes()),
            Self::Address(address) => Cow::Owned(written(address)),
        }
    }
}

/// As `Display` writes it. That one goes through the formatter for every number, which
/// cost more than all else of a log line.
fn written(address: &SocketAddr) -> String {
    let SocketAddr::V4(address) = address else {
        return address.to_string();
    };
    // The longest: 255.255.255.255:65535.
    let mut text = String::with_capacity(21);
    let mut digits = itoa::Buffer::new();
    for (position, octet) in address.ip().octets().into_iter().enumerate() {
        if position != 0 {
            text.push('.');
        }
        text.push_str(digits.format(octet));
    }
    text.push(':');
    text.push_str(digits.format(address.port()));
    text
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render())
    }
}

impl serde::Serialize for Text {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.render())
    }
}

impl From<&'static str> for Text {
    fn from(text: &'static str) -> Self {
        Self::Static(text)
    }
}

impl From<Arc<str>> for Text {
    fn from(text: Arc<str>) -> Self {
        Self::Shared(text)
    }
}

impl From<String> for Text {
    fn from(text: String) -> Self {
        Self::Owned(text.into_boxed_str())
    }
}

impl From<Box<str>> for Text {
    fn from(text: Box<str>) -> Self {
        Self::Owned(text)
    }
}

impl From<HeaderValue> for Text {
    fn from(value: HeaderValue) -> Self {
        Self::Header(value)
    }
}

impl From<SocketAddr> for Text {
    fn from(address: SocketAddr) -> Self {
        Self::Address(address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renders_every_form() {
        let address: SocketAddr = "[::1]:80".parse().unwrap();
        let highest: SocketAddr = "255.255.255.255:65535".parse().unwrap();
        let cases: [(Text, &str); 6] = [
            ("static".into(), "static"),
            (Arc::<str>::from("shared").into(), "shared"),
            (String::from("owned").into(), "owned"),
            (HeaderValue::from_static("header").into(), "header"),
            (address.into(), "[::1]:80"),
            (highest.into(), "255.255.255.255:65535"),
        ];
        for (text, shown) in cases {
            assert_eq!(text.render(), shown);
        }
    }

    #[test]
    fn replaces_header_bytes_that_are_not_utf8() {
        let value = HeaderValue::from_bytes(b"a\xffb").unwrap();
        assert_eq!(Text::from(value).render(), "a\u{fffd}b");
    }
}
