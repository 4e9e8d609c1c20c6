//! One request head, line by line as the lines come.

use super::mending::{Mending, is_taken, is_target};
use super::syntax::{is_authority, is_token, is_value, same_authority, trim};
use super::{Framing, HeadLimits};
use crate::downstream::violation::Violation;
use std::ops::Range;

/// What is known of a head after its complete lines.
#[derive(Debug, Default)]
pub(super) struct HeadScan {
    /// Up to here no line feed is left to find.
    searched: usize,
    /// Where the line that is not complete begins.
    line: usize,
    request: Option<RequestLine>,
    headers: usize,
    host: Option<Range<usize>>,
    length: Option<u64>,
    chunked: bool,
}

/// A head that is complete and breaks no rule.
#[derive(Debug)]
pub(super) struct Sound {
    pub(super) length: usize,
    pub(super) framing: Framing,
    pub(super) mending: Option<Box<Mending>>,
}

#[derive(Debug)]
struct RequestLine {
    version: Version,
    target: Range<usize>,
    absolute: Option<Absolute>,
    /// Whether a byte of the target must be escaped.
    unescaped: bool,
}

/// What a target in absolute-form says of whom it is meant for.
#[derive(Debug)]
struct Absolute {
    authority: Range<usize>,
    /// The scheme's.
    default_port: &'static [u8],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    Http10,
    Http11,
}

impl HeadScan {
    /// Takes the head on; what it came to once it is complete.
    pub(super) fn advance(
        &mut self,
        bytes: &[u8],
        limits: HeadLimits,
    ) -> Result<Option<Sound>, Violation> {
        while let Some(found) = memchr::memchr(b'\n', &bytes[self.searched..]) {
            let end = self.searched + found;
            if end >= limits.bytes {
                return Err(self.too_large());
            }
            let Some(line) = bytes[self.line..end].strip_suffix(b"\r") else {
                return Err(Violation::LineEnd);
            };
            let start = self.line;
            self.searched = end + 1;
            self.line = end + 1;
            match &self.request {
                // One empty line in front is forgiven (RFC 9112, 2.2).
                None if line.is_empty() && start == 0 => {}
                None => self.request = Some(request_line(line, start)?),
                Some(request) if line.is_empty() => {
                    let (framing, mending) = self.finish(request, bytes)?;
                    return Ok(Some(Sound {
                        length: self.line,
                        framing,
                        mending,
                    }));
                }
                Some(_) => self.header(line, start, limits)?,
            }
        }
        self.searched = bytes.len();
        // Who speaks TLS here, or another protocol, need not wait for the deadline.
        if self.request.is_none()
            && let Some(first) = bytes.first()
            && !is_token(*first)
            && *first != b'\r'
        {
            return Err(Violation::Method);
        }
        if bytes.len() >= limits.bytes {
            return Err(self.too_large());
        }
        Ok(None)
    }

    fn too_large(&self) -> Violation {
        match self.request {
            None => Violation::TargetBytes,
            Some(_) => Violation::HeadBytes,
        }
    }

    fn header(&mut self, line: &[u8], start: usize, limits: HeadLimits) -> Result<(), Violation> {
        self.headers += 1;
        if self.headers > limits.headers {
            return Err(Violation::HeaderCount);
        }
        if matches!(line, [b' ' | b'\t', ..]) {
            return Err(Violation::FoldedHeader);
        }
        let colon = memchr::memchr(b':', line).ok_or(Violation::HeaderName)?;
        let (name, value) = (&line[..colon], &line[colon + 1..]);
        if name.is_empty() || !name.iter().all(|byte| is_token(*byte)) {
            return Err(Violation::HeaderName);
        }
        if !is_value(value) {
            return Err(Violation::ControlByte);
        }
        let trimmed = trim(value);
        // The lengths of the few names that matter spare the others a comparison.
        match name.len() {
            4 if name.eq_ignore_ascii_case(b"host") => {
                let offset = start + colon + 1 + value.len() - trim_start(value).len();
                self.host(trimmed, offset)
            }
            14 if is_framing_name(name, b"content-length") => self.content_length(name, trimmed),
            17 if is_framing_name(name, b"transfer-encoding") => {
                self.transfer_encoding(name, trimmed)
            }
            _ => Ok(()),
        }
    }

    fn host(&mut self, value: &[u8], offset: usize) -> Result<(), Violation> {
        if self.host.is_some() || !is_authority(value) {
            return Err(Violation::Host);
        }
        self.host = Some(offset..offset + value.len());
        Ok(())
    }

    /// Digits without padding: `002` is one number to us and another to who
    /// reads octal.
    fn content_length(&mut self, name: &[u8], value: &[u8]) -> Result<(), Violation> {
        let padded = value.len() > 1 && value[0] == b'0';
        let digits = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
        if self.length.is_some() || name.contains(&b'_') || padded || !digits {
            return Err(Violation::ContentLength);
        }
        let number = std::str::from_utf8(value)
            .ok()
            .and_then(|digits| digits.parse().ok())
            .ok_or(Violation::ContentLength)?;
        self.length = Some(number);
        Ok(())
    }

    fn transfer_encoding(&mut self, name: &[u8], value: &[u8]) -> Result<(), Violation> {
        if self.chunked || name.contains(&b'_') || !value.eq_ignore_ascii_case(b"chunked") {
            return Err(Violation::TransferCoding);
        }
        self.chunked = true;
        Ok(())
    }

    /// The rules that need the whole head.
    fn finish(
        &self,
        request: &RequestLine,
        bytes: &[u8],
    ) -> Result<(Framing, Option<Box<Mending>>), Violation> {
        let host = self.host.as_ref().map(|host| &bytes[host.clone()]);
        if host.is_none() && request.version == Version::Http11 {
            return Err(Violation::Host);
        }
        if let (Some(absolute), Some(host)) = (&request.absolute, host)
            && !same_authority(
                &bytes[absolute.authority.clone()],
                host,
                absolute.default_port,
            )
        {
            return Err(Violation::Target);
        }
        let framing = match (self.length, self.chunked) {
            (Some(_), true) => return Err(Violation::FramingConflict),
            (None, true) if request.version == Version::Http10 => {
                return Err(Violation::TransferCodingVersion);
            }
            (None, true) => Framing::Chunked,
            (length, false) => Framing::Length(length.unwrap_or(0)),
        };
        Ok((framing, request.mending(bytes, host)?))
    }
}

impl RequestLine {
    /// How the target must be written, if not as it is.
    fn mending(
        &self,
        bytes: &[u8],
        host: Option<&[u8]>,
    ) -> Result<Option<Box<Mending>>, Violation> {
        let absolute = self.absolute.as_ref();
        // The same authority in other words: Host's stay.
        let skipped = absolute
            .filter(|absolute| host.is_some_and(|host| host != &bytes[absolute.authority.clone()]));
        if skipped.is_none() && !self.unescaped {
            return Ok(None);
        }
        let skipped = skipped.map_or(0, |absolute| absolute.authority.end - self.target.start);
        let mending = Mending::new(bytes, self.target.clone(), skipped);
        if mending.len() > MOST_TARGET {
            return Err(Violation::TargetBytes);
        }
        Ok(Some(Box::new(mending)))
    }
}

/// Most bytes of a target that our URI type takes.
const MOST_TARGET: usize = u16::MAX as usize - 1;

fn trim_start(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = value {
        value = rest;
    }
    value
}

/// Whether `name` is `expected`, or would be to who takes `_` for `-`, as CGI
/// and its descendants do.
fn is_framing_name(name: &[u8], expected: &[u8]) -> bool {
    name.iter().zip(expected).all(|(byte, expected)| {
        byte.eq_ignore_ascii_case(expected) || (*byte, *expected) == (b'_', b'-')
    })
}

fn request_line(line: &[u8], start: usize) -> Result<RequestLine, Violation> {
    let mut parts = line.split(|byte| *byte == b' ');
    let (Some(method), Some(target), Some(version), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(Violation::RequestLine);
    };
    if method.is_empty() || !method.iter().all(|byte| is_token(*byte)) {
        return Err(Violation::Method);
    }
    let version = match version {
        b"HTTP/1.1" => Version::Http11,
        b"HTTP/1.0" => Version::Http10,
        [b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
            if major.is_ascii_digit() && minor.is_ascii_digit() =>
        {
            return Err(Violation::Version);
        }
        _ => return Err(Violation::RequestLine),
    };
    if method == b"CONNECT" {
        return Err(Violation::Connect);
    }
    let unescaped = !is_escaped(target);
    if unescaped && !target.iter().all(|byte| is_target(*byte)) {
        return Err(Violation::Target);
    }
    let start = start + method.len() + 1;
    Ok(RequestLine {
        version,
        target: start..start + target.len(),
        absolute: absolute_form(method, target, start)?,
        unescaped,
    })
}

/// Checks the form of a target that begins at `offset`; what it says where it is absolute.
fn absolute_form(
    method: &[u8],
    target: &[u8],
    offset: usize,
) -> Result<Option<Absolute>, Violation> {
    if target.starts_with(b"/") || (target == b"*" && method == b"OPTIONS") {
        return Ok(None);
    }
    let (scheme, default_port) = SCHEMES
        .into_iter()
        .find(|(scheme, _)| {
            let start = target.get(..scheme.len());
            start.is_some_and(|start| start.eq_ignore_ascii_case(scheme))
        })
        .ok_or(Violation::Target)?;
    let rest = &target[scheme.len()..];
    let end = memchr::memchr2(b'/', b'?', rest).unwrap_or(rest.len());
    if !is_authority(&rest[..end]) {
        return Err(Violation::Target);
    }
    let start = offset + scheme.len();
    Ok(Some(Absolute {
        authority: start..start + end,
        default_port,
    }))
}

/// Whether everything that must be escaped is.
fn is_escaped(target: &[u8]) -> bool {
    let query = memchr::memchr(b'?', target).unwrap_or(target.len());
    let (path, query) = target.split_at(query);
    path.iter().all(|byte| is_taken(*byte, false)) && query.iter().all(|byte| is_taken(*byte, true))
}

/// Those of absolute-form, each with its port.
const SCHEMES: [(&[u8], &[u8]); 2] = [(b"http://", b"80"), (b"https://", b"443")];
