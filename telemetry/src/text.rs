//! Strings captured on the request path and rendered off it.
//!
//! A shared name is reference-counted, an address moved, and what a peer sent copied: a few
//! bytes, in place. A header value instead would hold the buffer of its whole head until the
//! thread that writes let go of it, far from the thread whose allocator misses it.
//! Bytes are looked at, and addresses formatted, only by the thread that writes.

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
    /// Bytes that a peer sent.
    Short(Short),
    /// A peer's address.
    Address(SocketAddr),
}

/// Up to [`Short::MOST`] bytes, in place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Short {
    length: u8,
    bytes: [u8; Self::MOST],
}

impl Short {
    /// Holds a UUID, most host names and most paths.
    pub const MOST: usize = 46;

    /// None of more bytes than there is room for.
    fn new(text: &[u8]) -> Option<Self> {
        let mut bytes = [0; Self::MOST];
        bytes.get_mut(..text.len())?.copy_from_slice(text);
        let length = u8::try_from(text.len()).ok()?;
        Some(Self { length, bytes })
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }
}

impl Text {
    /// What a peer sent. Allocates where it is long.
    pub fn copied(bytes: &[u8]) -> Self {
        Short::new(bytes).map_or_else(
            || Self::Owned(String::from_utf8_lossy(bytes).into()),
            Self::Short,
        )
    }

    /// The string itself. Bytes that are not UTF-8 become U+FFFD.
    pub fn render(&self) -> Cow<'_, str> {
        match self {
            Self::Static(text) => Cow::Borrowed(text),
            Self::Shared(text) => Cow::Borrowed(text),
            Self::Owned(text) => Cow::Borrowed(text),
            Self::Short(text) => String::from_utf8_lossy(text.as_bytes()),
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

impl From<&HeaderValue> for Text {
    fn from(value: &HeaderValue) -> Self {
        Self::copied(value.as_bytes())
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
            ((&HeaderValue::from_static("header")).into(), "header"),
            (address.into(), "[::1]:80"),
            (highest.into(), "255.255.255.255:65535"),
        ];
        for (text, shown) in cases {
            assert_eq!(text.render(), shown);
        }
    }

    #[test]
    fn what_was_sent_is_copied_whatever_its_length() {
        for length in [0, 1, Short::MOST, Short::MOST + 1, 500] {
            let sent = "x".repeat(length);
            let text = Text::copied(sent.as_bytes());
            assert_eq!(text.render(), sent);
            assert_eq!(matches!(text, Text::Short(_)), length <= Short::MOST);
        }
    }

    #[test]
    fn replaces_bytes_that_are_not_utf8() {
        for (sent, shown) in [
            (b"a\xffb".to_vec(), "a\u{fffd}b".to_owned()),
            (
                [&[b'x'; 50][..], b"\xff"].concat(),
                "x".repeat(50) + "\u{fffd}",
            ),
        ] {
            assert_eq!(Text::copied(&sent).render(), shown);
        }
    }
}
