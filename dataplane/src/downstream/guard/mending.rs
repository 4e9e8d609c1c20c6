//! Targets that are sound, and written in a way that no URI of ours takes: with characters that
//! RFC 3986 wants escaped, as many clients send them, or with the authority of `Host` in other
//! words.

use bytes::BytesMut;
use std::ops::Range;

/// A target to be written otherwise.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Mending {
    /// Where it is in the head.
    place: Range<usize>,
    target: Vec<u8>,
}

impl Mending {
    /// Of the target at `place`; only what is behind `skipped` of its bytes is kept.
    pub(super) fn new(head: &[u8], place: Range<usize>, skipped: usize) -> Self {
        let kept = &head[place.start + skipped..place.end];
        let mut target = Vec::with_capacity(kept.len() + kept.len() / 8 + 1);
        if skipped > 0 && !kept.starts_with(b"/") {
            target.push(b'/');
        }
        let query = memchr::memchr(b'?', kept).unwrap_or(kept.len());
        for (at, byte) in kept.iter().enumerate() {
            if is_taken(*byte, at >= query) {
                target.push(*byte);
            } else {
                target.extend_from_slice(&[b'%', digit(byte >> 4), digit(byte & 15)]);
            }
        }
        Self { place, target }
    }

    /// How long the target is now.
    pub(super) fn len(&self) -> usize {
        self.target.len()
    }

    /// The bytes of a head, and of what follows it, with the target written otherwise.
    pub(crate) fn apply(&self, bytes: &[u8]) -> BytesMut {
        let mut mended = BytesMut::with_capacity(bytes.len() + self.target.len());
        mended.extend_from_slice(&bytes[..self.place.start]);
        mended.extend_from_slice(&self.target);
        mended.extend_from_slice(&bytes[self.place.end..]);
        mended
    }

    /// What a number of bytes, the whole target among them, comes to.
    pub(crate) fn length(&self, before: usize) -> usize {
        before - self.place.len() + self.target.len()
    }
}

/// Whether our URI type takes a byte.
pub(super) fn is_taken(byte: u8, in_query: bool) -> bool {
    let refused = if in_query { b'"' } else { b'`' };
    is_target(byte) && !matches!(byte, b'<' | b'>') && byte != refused
}

/// Whether a byte may be in a target, escaped or not.
pub(super) fn is_target(byte: u8) -> bool {
    byte.is_ascii_graphic() && byte != b'#'
}

fn digit(nibble: u8) -> u8 {
    b"0123456789ABCDEF"[usize::from(nibble & 15)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mended(head: &str, target: &str, skipped: usize) -> String {
        let start = head.find(target).unwrap();
        let place = start..start + target.len();
        let mending = Mending::new(head.as_bytes(), place, skipped);
        let mended = mending.apply(head.as_bytes());
        assert_eq!(mending.length(head.len()), mended.len());
        String::from_utf8(mended.to_vec()).unwrap()
    }

    #[test]
    fn what_must_be_escaped_is_and_nothing_else() {
        let target = "/`a\"<b>?q={\"x\"}`%22";
        let head = format!("GET {target} HTTP/1.1\r\n\r\nrest<");
        let expected = "GET /%60a\"%3Cb%3E?q={%22x%22}`%22 HTTP/1.1\r\n\r\nrest<";
        assert_eq!(mended(&head, target, 0), expected);
    }

    #[test]
    fn the_authority_may_be_left_to_host() {
        for (target, expected) in [
            ("http://a/b?c", "/b?c"),
            ("http://a", "/"),
            ("http://a?b=>", "/?b=%3E"),
        ] {
            let head = format!("GET {target} HTTP/1.1\r\n");
            let expected = format!("GET {expected} HTTP/1.1\r\n");
            assert_eq!(mended(&head, target, "http://a".len()), expected);
        }
    }
}
