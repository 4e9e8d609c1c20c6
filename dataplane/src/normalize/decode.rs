//! Decoding escapes of a path, each at most once.

use super::Reason;
use crate::route::escaped_byte;
use meridian_model::listener::EscapedSlashes;

pub(super) struct Slashes {
    pub(super) path: Vec<u8>,
    /// Whether an escaped slash was decoded.
    pub(super) unescaped: bool,
}

/// Does with `%2F` and `%5C` what the listener wants.
pub(super) fn slashes(path: &[u8], action: EscapedSlashes) -> Result<Slashes, Reason> {
    let mut decoded = Slashes {
        path: Vec::with_capacity(path.len()),
        unescaped: false,
    };
    for piece in pieces(path) {
        match (piece, action) {
            (Piece::Escape(b'/' | b'\\', _), EscapedSlashes::Reject) => {
                return Err(Reason::EscapedSlash);
            }
            (
                Piece::Escape(b'/' | b'\\', _),
                EscapedSlashes::UnescapeAndRedirect | EscapedSlashes::UnescapeAndForward,
            ) => {
                decoded.path.push(b'/');
                decoded.unescaped = true;
            }
            (Piece::Escape(_, raw), _) => decoded.path.extend_from_slice(raw),
            (Piece::Byte(byte), _) => decoded.path.push(byte),
        }
    }
    Ok(decoded)
}

/// Decodes unreserved characters (RFC 3986, 2.3) and reads `\` as `/`. Other escapes stay as they
/// were written, as in Envoy: a rule for `/a%2fb` is meant for that path.
pub(super) fn unreserved(path: &[u8]) -> Result<Vec<u8>, Reason> {
    let mut decoded = Vec::with_capacity(path.len());
    let mut previous = None;
    for piece in pieces(path) {
        let escaped = match piece {
            Piece::Escape(value, _) => Some(value),
            Piece::Byte(_) => None,
        };
        if let (Some(first), Some(second)) = (previous, escaped)
            && is_overlong(first, second)
        {
            return Err(Reason::Overlong);
        }
        previous = escaped;
        match piece {
            Piece::Byte(b'%') => return Err(Reason::MalformedEscape),
            Piece::Byte(b'\\') => decoded.push(b'/'),
            Piece::Byte(byte) => decoded.push(byte),
            Piece::Escape(0, _) => return Err(Reason::Nul),
            Piece::Escape(value, _) if is_unreserved(value) => decoded.push(value),
            Piece::Escape(_, raw) => decoded.extend_from_slice(raw),
        }
    }
    Ok(decoded)
}

#[derive(Clone, Copy)]
enum Piece<'a> {
    Byte(u8),
    /// What it stands for, and how it was written.
    Escape(u8, &'a [u8]),
}

fn pieces(path: &[u8]) -> impl Iterator<Item = Piece<'_>> {
    let mut rest = path;
    std::iter::from_fn(move || {
        if let Some(value) = escaped_byte(rest) {
            let (raw, after) = rest.split_at_checked(3)?;
            rest = after;
            return Some(Piece::Escape(value, raw));
        }
        let (byte, after) = rest.split_first()?;
        rest = after;
        Some(Piece::Byte(*byte))
    })
}

fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)
}

/// Whether two bytes begin a UTF-8 sequence that is longer than it need be
/// (RFC 3629, 3). Legacy encodings such as Latin-1 pass otherwise.
fn is_overlong(first: u8, second: u8) -> bool {
    match first {
        0xc0 | 0xc1 => (0x80..=0xbf).contains(&second),
        0xe0 => (0x80..=0x9f).contains(&second),
        0xf0 => (0x80..=0x8f).contains(&second),
        _ => false,
    }
}
