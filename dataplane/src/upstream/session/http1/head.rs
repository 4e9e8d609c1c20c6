//! One response head: taken from what was read, and held to the rules that the
//! guard keeps for requests. What two readers could read two ways is no answer.

use crate::headers::{RequestHeader, ResponseHeader};
use crate::http1::{BadHead, BodyReader, BodyWriter, Chunks, end_of_head, header_lines};
use bytes::BytesMut;
use http::header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING, UPGRADE};
use http::response::Parts;
use http::{HeaderMap, HeaderValue, Method, StatusCode, Version};

/// Most header lines of a response, as in Envoy.
const MOST_HEADERS: usize = 100;

/// Most bytes of a response's head. Envoy, which looks after each read, takes up to about as many.
const MOST_BYTES: usize = 96 * 1024;

/// What of the request decides how its response is read.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Asked {
    /// A response to HEAD has no body.
    pub(super) head_only: bool,
    pub(super) upgrade: bool,
}

impl Asked {
    pub(super) fn by(head: &RequestHeader) -> Self {
        Self {
            head_only: head.method == Method::HEAD,
            upgrade: head.headers.contains_key(UPGRADE),
        }
    }
}

/// A response's head, and what it says of what follows.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) head: Box<ResponseHeader>,
    pub(super) body: BodyReader,
    /// Whether the connection may carry another request.
    pub(super) persistent: bool,
}

/// Why a head is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Malformed {
    /// A line is not as RFC 9112 has it.
    Syntax,
    /// A line ends in LF without CR.
    LineEnd,
    /// More lines or bytes than are taken.
    TooLarge,
    /// Content-Length is no number, or there are two.
    Length,
    /// Transfer-Encoding is anything but one `chunked`.
    Coding,
    /// Both Content-Length and Transfer-Encoding.
    Conflict,
    /// Another protocol that nobody asked for.
    Upgrade,
}

impl From<BadHead> for Malformed {
    fn from(bad: BadHead) -> Self {
        match bad {
            BadHead::LineEnd => Self::LineEnd,
            BadHead::Syntax => Self::Syntax,
            BadHead::Count => Self::TooLarge,
        }
    }
}

impl Malformed {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Syntax => "a malformed head",
            Self::LineEnd => "a line that ends without CR",
            Self::TooLarge => "a head that is too large",
            Self::Length => "no valid Content-Length",
            Self::Coding => "an unknown Transfer-Encoding",
            Self::Conflict => "both Content-Length and Transfer-Encoding",
            Self::Upgrade => "a switch of protocols that nobody asked for",
        }
    }
}

/// How the body behind a request's head is framed.
pub(super) fn framing(headers: &HeaderMap) -> BodyWriter {
    if headers.contains_key(TRANSFER_ENCODING) {
        return BodyWriter::Chunked;
    }
    let length = headers.get(CONTENT_LENGTH).map(HeaderValue::as_bytes);
    BodyWriter::Length(length.and_then(number).unwrap_or(0))
}

/// Takes a head out of what was read; `None` when its end is not there. `searched` is where
/// the line begins that was not complete last time.
pub(super) fn take(
    read: &mut BytesMut,
    searched: &mut usize,
    asked: Asked,
) -> Result<Option<Answer>, Malformed> {
    let length = match end_of_head(read, searched)? {
        Some(length) if length <= MOST_BYTES => length,
        None if read.len() <= MOST_BYTES => return Ok(None),
        _ => return Err(Malformed::TooLarge),
    };
    let bytes = read.split_to(length).freeze();
    let (version, status, lines) = status_line(&bytes).ok_or(Malformed::Syntax)?;
    let mut response = http::Response::new(());
    *response.status_mut() = status;
    *response.version_mut() = version;
    *response.headers_mut() = header_lines(&bytes, lines, MOST_HEADERS)?;
    let (head, ()) = response.into_parts();
    answer(head, asked).map(Some)
}

/// Version and status, and where the next line begins. What stands behind the status means
/// nothing.
fn status_line(head: &[u8]) -> Option<(Version, StatusCode, usize)> {
    let end = memchr::memchr(b'\r', head)?;
    let version = match head.get(..9)? {
        b"HTTP/1.1 " => Version::HTTP_11,
        b"HTTP/1.0 " => Version::HTTP_10,
        _ => return None,
    };
    let status = StatusCode::from_bytes(head.get(9..12)?).ok()?;
    let reason = head.get(12..end)?;
    let is_text = |byte: &u8| *byte == b'\t' || (*byte >= b' ' && *byte != 0x7f);
    let is_apart = reason.first().is_none_or(|byte| *byte == b' ');
    let is_line = head[end..].starts_with(b"\r\n");
    (is_apart && is_line && reason.iter().all(is_text)).then_some((version, status, end + 2))
}

/// What follows a head, and whether another request may.
fn answer(head: Parts, asked: Asked) -> Result<Answer, Malformed> {
    let length = length(&head.headers)?;
    let chunked = chunked(&head.headers)?;
    if length.is_some() && chunked {
        return Err(Malformed::Conflict);
    }
    if head.status == StatusCode::SWITCHING_PROTOCOLS && !asked.upgrade {
        return Err(Malformed::Upgrade);
    }
    let is_bare = asked.head_only
        || head.status.is_informational()
        || matches!(
            head.status,
            StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED
        );
    let body = match length {
        _ if is_bare => BodyReader::Done,
        _ if chunked => BodyReader::Chunked(Chunks::default()),
        Some(length) => BodyReader::of_length(length),
        None => BodyReader::UntilClose,
    };
    let persistent = match head.version {
        Version::HTTP_11 => !has_option(&head.headers, b"close"),
        // What is chunked there was never agreed on (RFC 9112, 6.1).
        _ => has_option(&head.headers, b"keep-alive") && !chunked,
    };
    Ok(Answer {
        persistent: persistent && !matches!(body, BodyReader::UntilClose),
        head: Box::new(head.into()),
        body,
    })
}

/// The length that is announced, once.
fn length(headers: &HeaderMap) -> Result<Option<u64>, Malformed> {
    let mut all = headers.get_all(CONTENT_LENGTH).iter();
    match (all.next(), all.next()) {
        (None, _) => Ok(None),
        (Some(one), None) => number(one.as_bytes()).map(Some).ok_or(Malformed::Length),
        _ => Err(Malformed::Length),
    }
}

/// Digits, and no more of them than are a number.
fn number(text: &[u8]) -> Option<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

fn chunked(headers: &HeaderMap) -> Result<bool, Malformed> {
    let mut all = headers.get_all(TRANSFER_ENCODING).iter();
    match (all.next(), all.next()) {
        (None, _) => Ok(false),
        (Some(one), None) if one.as_bytes().eq_ignore_ascii_case(b"chunked") => Ok(true),
        _ => Err(Malformed::Coding),
    }
}

/// Whether `connection` has an option.
fn has_option(headers: &HeaderMap, option: &[u8]) -> bool {
    headers
        .get_all(CONNECTION)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .any(|one| one.trim_ascii().eq_ignore_ascii_case(option))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANY: Asked = Asked {
        head_only: false,
        upgrade: false,
    };

    /// `⏎` stands for a line's end.
    fn read(text: &str, asked: Asked) -> Result<Option<Answer>, Malformed> {
        let mut bytes = BytesMut::from(text.replace('⏎', "\r\n").as_bytes());
        take(&mut bytes, &mut 0, asked)
    }

    #[test]
    fn what_follows_is_known_from_the_head() {
        let head = Asked {
            head_only: true,
            ..ANY
        };
        for (text, asked, body, persistent) in [
            ("200 OK⏎Content-Length: 3⏎", ANY, "Length(3)", true),
            ("200⏎Content-Length: 0⏎", ANY, "Done", true),
            ("200 ⏎content-length:3 ⏎", ANY, "Length(3)", true),
            ("200 OK⏎", ANY, "UntilClose", false),
            ("200 OK⏎Content-Length: 3⏎", head, "Done", true),
            ("204 No⏎", ANY, "Done", true),
            ("304 X⏎Content-Length: 7⏎", ANY, "Done", true),
            ("103 X⏎", ANY, "Done", true),
            (
                "200 X⏎Connection: a, Close⏎Content-Length: 3⏎",
                ANY,
                "Length(3)",
                false,
            ),
        ] {
            let answer = read(&format!("HTTP/1.1 {text}⏎"), asked).unwrap().unwrap();
            assert_eq!(format!("{:?}", answer.body), body, "{text}");
            assert_eq!(answer.persistent, persistent, "{text}");
        }
        let text = "HTTP/1.1 200 OK⏎Transfer-Encoding: Chunked⏎⏎";
        let answer = read(text, ANY).unwrap().unwrap();
        assert!(matches!(answer.body, BodyReader::Chunked(_)));
    }

    #[test]
    fn the_old_version_persists_only_where_it_says_so() {
        for (lines, persistent) in [
            ("Content-Length: 3⏎", false),
            ("Connection: Keep-Alive⏎Content-Length: 3⏎", true),
            ("Connection: keep-alive⏎Transfer-Encoding: chunked⏎", false),
        ] {
            let text = format!("HTTP/1.0 200 OK⏎{lines}⏎");
            let answer = read(&text, ANY).unwrap().unwrap();
            assert_eq!(answer.persistent, persistent, "{lines}");
        }
    }

    #[test]
    fn what_could_be_read_two_ways_is_no_answer() {
        use Malformed::{Coding, Conflict, Length, LineEnd, Syntax};
        for (lines, expected) in [
            ("Content-Length: 3⏎Content-Length: 4⏎", Length),
            ("Content-Length: 3⏎Content-Length: 3⏎", Length),
            ("Content-Length: +3⏎", Length),
            ("Content-Length: 3, 3⏎", Length),
            ("Content-Length:⏎", Length),
            ("Content-Length: 99999999999999999999⏎", Length),
            ("Content-Length: 3⏎Transfer-Encoding: chunked⏎", Conflict),
            ("Transfer-Encoding: gzip, chunked⏎", Coding),
            (
                "Transfer-Encoding: chunked⏎Transfer-Encoding: chunked⏎",
                Coding,
            ),
            ("Transfer-Encoding: identity⏎", Coding),
            ("A: b⏎ folded⏎", Syntax),
            ("A : b⏎", Syntax),
            ("A: b\rC: d⏎", Syntax),
            ("A: b\nC: d⏎", LineEnd),
        ] {
            let text = format!("HTTP/1.1 200 OK⏎{lines}⏎");
            assert_eq!(read(&text, ANY).unwrap_err(), expected, "{lines}");
        }
        for line in [
            "HTTP/1.1  200 OK",
            "HTTP/1.1 20 OK",
            "HTTP/1.1 2000 OK",
            "HTTP/1.1 099 X",
            "HTTP/2 200 OK",
            "HTTP/1.2 200 OK",
            "http/1.1 200 OK",
            "200 OK",
            "HTTP/1.1",
            "HTTP/1.1 200 a\0b",
            "HTTP/1.1 200 a\rb",
        ] {
            let text = format!("{line}⏎A: b⏎⏎");
            assert_eq!(read(&text, ANY).unwrap_err(), Syntax, "{line}");
        }
        assert_eq!(read("⏎HTTP/1.1 200 OK⏎⏎", ANY).unwrap_err(), Syntax);
    }

    #[test]
    fn a_switch_of_protocols_must_have_been_asked_for() {
        let switch = "HTTP/1.1 101 Switching⏎⏎";
        assert_eq!(read(switch, ANY).unwrap_err(), Malformed::Upgrade);
        let asked = Asked {
            upgrade: true,
            ..ANY
        };
        assert!(read(switch, asked).unwrap().is_some());
    }

    #[test]
    fn heads_have_a_size() {
        let line = "X: y⏎";
        for (count, taken) in [(100, true), (101, false)] {
            let text = format!("HTTP/1.1 204 X⏎{}⏎", line.repeat(count));
            assert_eq!(read(&text, ANY).is_ok(), taken, "{count}");
        }
        for size in [MOST_BYTES, 10 * MOST_BYTES] {
            let text = format!("HTTP/1.1 204 X⏎A: {}", "b".repeat(size));
            assert_eq!(read(&text, ANY).unwrap_err(), Malformed::TooLarge);
            let text = format!("{text}⏎⏎");
            assert_eq!(read(&text, ANY).unwrap_err(), Malformed::TooLarge);
        }
    }

    #[test]
    fn a_head_is_taken_when_its_last_byte_has_come() {
        let wire = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n";
        let (mut read, mut searched) = (BytesMut::new(), 0);
        for (at, byte) in wire.iter().enumerate() {
            read.extend_from_slice(&[*byte]);
            let answer = take(&mut read, &mut searched, ANY).unwrap();
            assert_eq!(answer.is_some(), at + 1 == wire.len());
        }
        assert!(read.is_empty());
    }
}
