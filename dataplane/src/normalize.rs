//! Bringing a request's path into one form before anything matches on it.
//!
//! Routing, authorization and the application must see the same path: what is
//! matched here is what is forwarded. Every escape is decoded at most once, so
//! a path that came through once comes through again unchanged. The order is
//! Envoy's: escaped slashes, then dot segments with `\` read as `/` (RFC 3986,
//! 5.2.4), then merging of slashes. The query is never touched.
//!
//! Parameters of a path element (`/admin;x=1`) stay, since they may carry
//! meaning; only a dot segment that hides behind one (`..;`) is refused,
//! because servlet containers remove the parameter before they resolve dots.

mod decode;
mod segments;

use meridian_model::listener::{EscapedSlashes, PathNormalization};

/// What normalization says about a request target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Normalized {
    /// It is in normal form.
    Unchanged,
    /// Match on this and forward it.
    Changed(String),
    /// Answer 307 with this path and query as `Location`.
    Redirect(String),
    /// Answer 400.
    Reject(Reason),
}

/// Why a target is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// Neither a path nor `*`.
    #[error("request target does not start with a slash")]
    NotAPath,
    /// Space, control character, or a byte outside ASCII (RFC 3986, 2).
    #[error("request target holds a byte that no URI may hold")]
    IllegalByte,
    /// `#`: some servers cut the path there, others do not.
    #[error("request target holds a fragment")]
    Fragment,
    /// `%` without two hexadecimal digits. Decoding around it could form a new escape.
    #[error("path holds a malformed escape")]
    MalformedEscape,
    /// `%00`, which ends the path for programs written in C.
    #[error("path holds an escaped NUL")]
    Nul,
    /// A UTF-8 sequence longer than its character needs, such as `%c0%ae` for a dot.
    #[error("path holds an overlong UTF-8 sequence")]
    Overlong,
    /// `%2F` or `%5C`, where the listener refuses them.
    #[error("path holds an escaped slash")]
    EscapedSlash,
    /// `..;` or `.;`.
    #[error("path holds a dot segment with a parameter")]
    DotSegmentWithParameter,
}

/// Normalizes the target of a request: a path and perhaps a query, or `*`.
///
/// Allocates only where the path holds an escape, a dot segment, a backslash
/// or a double slash.
pub fn normalize(target: &[u8], rules: &PathNormalization) -> Normalized {
    if *rules == PathNormalization::NONE || target == b"*" {
        return Normalized::Unchanged;
    }
    let (path, query) = split_query(target);
    match check_bytes(target, rules).and_then(|()| normal_path(path, rules)) {
        Err(reason) => Normalized::Reject(reason),
        Ok(None) => Normalized::Unchanged,
        Ok(Some(normal)) => conclude(normal, path, query),
    }
}

struct NormalPath {
    text: String,
    redirect: bool,
}

fn conclude(normal: NormalPath, path: &[u8], query: &[u8]) -> Normalized {
    if !normal.redirect && normal.text.as_bytes() == path {
        return Normalized::Unchanged;
    }
    let mut text = normal.text;
    text.push_str(&String::from_utf8_lossy(query));
    if !normal.redirect {
        return Normalized::Changed(text);
    }
    // `//host` in a Location would send the client to another host.
    Normalized::Redirect(format!("/{}", text.trim_start_matches('/')))
}

/// The query keeps its `?`.
fn split_query(target: &[u8]) -> (&[u8], &[u8]) {
    let end = memchr::memchr(b'?', target).unwrap_or(target.len());
    target.split_at(end)
}

fn check_bytes(target: &[u8], rules: &PathNormalization) -> Result<(), Reason> {
    if target.first().is_some_and(|byte| !b"/\\?".contains(byte)) {
        return Err(Reason::NotAPath);
    }
    if !rules.enabled {
        return match std::str::from_utf8(target) {
            Ok(_) => Ok(()),
            Err(_) => Err(Reason::IllegalByte),
        };
    }
    match target
        .iter()
        .find(|byte| !byte.is_ascii_graphic() || **byte == b'#')
    {
        None => Ok(()),
        Some(b'#') => Err(Reason::Fragment),
        Some(_) => Err(Reason::IllegalByte),
    }
}

/// `None` where nothing in the path needs a closer look.
fn normal_path(path: &[u8], rules: &PathNormalization) -> Result<Option<NormalPath>, Reason> {
    let suspicious = |pair: &[u8]| matches!(pair, b"//" | b"/.");
    let plain = !path.is_empty()
        && memchr::memchr3(b'%', b'\\', b';', path).is_none()
        && !path.windows(2).any(suspicious);
    if plain {
        return Ok(None);
    }
    let slashes = decode::slashes(path, rules.escaped_slashes)?;
    let redirect =
        slashes.unescaped && rules.escaped_slashes == EscapedSlashes::UnescapeAndRedirect;
    let mut bytes = slashes.path;
    if rules.enabled {
        bytes = decode::unreserved(&bytes)?;
        segments::refuse_hidden_dots(&bytes)?;
        bytes = segments::resolve_dots(&bytes);
    }
    if rules.merge_slashes {
        bytes.dedup_by(|next, last| *next == b'/' && *last == b'/');
    }
    let text = String::from_utf8(bytes).map_err(|_| Reason::IllegalByte)?;
    Ok(Some(NormalPath { text, redirect }))
}

#[cfg(test)]
mod tests;
