//! Requests that parsers disagree about, each with what is made of it here.

use super::{BodyStep, Guard, HeadLimits, HeadStep};
use crate::downstream::Violation;

const LIMITS: HeadLimits = HeadLimits {
    bytes: 4096,
    headers: 10,
};

/// What the guard makes of a connection's bytes.
#[derive(Debug, PartialEq, Eq)]
enum Made {
    /// So many whole requests.
    Requests(usize),
    /// So many whole requests, and one that has not ended.
    Unfinished(usize),
    Refused(Violation),
}

/// Feeds `bytes` in pieces of `step`.
fn read(bytes: &[u8], step: usize) -> Made {
    let mut guard = Guard::new(LIMITS);
    let mut requests = 0;
    let mut start = 0;
    let mut end = 0;
    while start < bytes.len() {
        if end == start || guard.expects_head() {
            if end == bytes.len() && end != start {
                return Made::Unfinished(requests);
            }
            end = (end + step).min(bytes.len());
        }
        if guard.expects_head() {
            match guard.head(&bytes[start..end]) {
                HeadStep::Incomplete => continue,
                HeadStep::Complete(length) => start += length,
                HeadStep::Refused(violation) => return Made::Refused(violation),
            }
            end = end.max(start);
            requests += usize::from(guard.expects_head());
            if guard.expects_head() {
                end = start;
            }
            continue;
        }
        match guard.body(&bytes[start..end]) {
            BodyStep::Open => start = end,
            BodyStep::Done(length) => {
                start += length;
                end = start;
                requests += 1;
            }
            BodyStep::Refused(_, violation) => return Made::Refused(violation),
        }
    }
    if guard.expects_head() {
        Made::Requests(requests)
    } else {
        Made::Unfinished(requests)
    }
}

/// Whole, and byte by byte, which must come to the same.
fn made_of(bytes: &str) -> Made {
    let bytes: Vec<u8> = bytes.chars().map(|c| c as u8).collect();
    let whole = read(&bytes, bytes.len());
    assert_eq!(read(&bytes, 1), whole, "byte by byte");
    assert_eq!(read(&bytes, 7), whole, "in sevens");
    whole
}

/// `¶` is a version and a host, `⏎` a line's end.
fn expand(short: &str) -> String {
    short
        .replace('¶', "HTTP/1.1\r\nHost: a\r\n")
        .replace('⏎', "\r\n")
}

#[test]
fn sound_requests_pass() {
    for (short, requests) in [
        ("GET / ¶⏎", 1),
        ("⏎GET / ¶⏎", 1),
        ("GET / HTTP/1.0⏎⏎", 1),
        ("GET / HTTP/1.0⏎Host: a⏎⏎", 1),
        ("GET /1 ¶⏎GET /2 ¶⏎", 2),
        ("GET http://a/x ¶⏎", 1),
        ("GET http://A:80?q HTTP/1.1⏎Host: a⏎⏎", 1),
        ("GET https://a:443/x HTTP/1.1⏎Host: a⏎⏎", 1),
        ("GET / HTTP/1.1⏎Host: [::1]:80⏎⏎", 1),
        ("OPTIONS * ¶⏎", 1),
        ("get / ¶⏎", 1),
        ("GET /a\\..\\\"z\"?x={y}| ¶⏎", 1),
        ("GET / ¶X: \u{e9}\tz⏎X-Empty:⏎⏎", 1),
        ("GET / ¶Content-Length: 5⏎⏎GETxxGET / ¶⏎", 2),
        ("POST / ¶Content-Length: 0⏎⏎", 1),
        ("POST / ¶Transfer-Encoding:\tChunked⏎⏎2⏎ab⏎0⏎⏎", 1),
        (
            "POST / ¶Transfer-Encoding: chunked⏎⏎2;a=b⏎ab⏎A⏎0123456789⏎000⏎⏎GET / ¶⏎",
            2,
        ),
        (
            "POST / ¶Transfer-Encoding: chunked⏎⏎0⏎X:POST / HTTP/1.1⏎Y: z⏎⏎",
            1,
        ),
        ("POST / ¶Expect: 100-continue⏎Content-Length: 2⏎⏎ab", 1),
        ("GET /ws ¶Connection: Upgrade⏎Upgrade: websocket⏎⏎", 1),
    ] {
        assert_eq!(made_of(&expand(short)), Made::Requests(requests), "{short}");
    }
}

#[test]
fn a_body_goes_on_to_its_end() {
    for short in [
        "POST / ¶Content-Length: 3⏎⏎ab",
        "POST / ¶Transfer-Encoding: chunked⏎⏎5⏎ab",
        "POST / ¶Transfer-Encoding: chunked⏎⏎0⏎",
    ] {
        assert_eq!(made_of(&expand(short)), Made::Unfinished(0), "{short}");
    }
}

#[test]
fn framing_that_can_be_read_two_ways_is_refused() {
    use Violation::*;
    for (short, violation) in [
        (
            "POST / ¶Content-Length: 13⏎Transfer-Encoding: chunked⏎⏎0⏎⏎",
            FramingConflict,
        ),
        (
            "POST / ¶Transfer-Encoding: chunked⏎Content-Length: 4⏎⏎5c⏎",
            FramingConflict,
        ),
        ("POST / ¶Transfer-Encoding : chunked⏎⏎", HeaderName),
        ("POST / ¶Transfer-Encoding: xchunked⏎⏎", TransferCoding),
        ("POST / ¶Transfer-Encoding: ,chunked⏎⏎", TransferCoding),
        ("POST / ¶Transfer-Encoding: chunked,⏎⏎", TransferCoding),
        (
            "POST / ¶Transfer-Encoding: identity, chunked⏎⏎",
            TransferCoding,
        ),
        (
            "POST / ¶Transfer-Encoding: chunked, chunked⏎⏎",
            TransferCoding,
        ),
        ("POST / ¶Transfer-Encoding: gzip, chunked⏎⏎", TransferCoding),
        (
            "POST / ¶Transfer-Encoding: chunked⏎Transfer-Encoding: chunked⏎⏎",
            TransferCoding,
        ),
        ("POST / ¶Transfer-Encoding: \"chunked\"⏎⏎", TransferCoding),
        ("POST / ¶Transfer-Encoding: \x0bchunked⏎⏎", ControlByte),
        ("POST / ¶Transfer-Encoding: \u{a0}chunked⏎⏎", TransferCoding),
        ("POST / ¶Transfer-Encoding:⏎ chunked⏎⏎", TransferCoding),
        ("POST / ¶Transfer_Encoding: chunked⏎⏎", TransferCoding),
        (
            "POST / HTTP/1.0⏎Host: a⏎Transfer-Encoding: chunked⏎⏎0⏎⏎",
            TransferCodingVersion,
        ),
        (
            "POST / ¶Content-Length: 2⏎Content-Length: 2⏎⏎ab",
            ContentLength,
        ),
        ("POST / ¶Content-Length: 2, 2⏎⏎ab", ContentLength),
        ("POST / ¶Content-Length: +2⏎⏎ab", ContentLength),
        ("POST / ¶Content-Length: -1⏎⏎ab", ContentLength),
        ("POST / ¶Content-Length: 0x2⏎⏎ab", ContentLength),
        ("POST / ¶Content-Length: 002⏎⏎ab", ContentLength),
        ("POST / ¶Content-Length: ⏎⏎", ContentLength),
        ("POST / ¶Content-Length: 1_0⏎⏎", ContentLength),
        ("POST / ¶Content_Length: 1⏎⏎x", ContentLength),
        (
            "POST / ¶Content-Length: 18446744073709551618⏎⏎ab",
            ContentLength,
        ),
        ("POST / ¶Content-Length : 2⏎⏎ab", HeaderName),
    ] {
        assert_eq!(made_of(&expand(short)), Made::Refused(violation), "{short}");
    }
}

#[test]
fn malformed_chunks_are_refused() {
    for body in [
        "0x2⏎ab⏎0⏎⏎",
        "+2⏎ab⏎0⏎⏎",
        " 2⏎ab⏎0⏎⏎",
        "2 ⏎ab⏎0⏎⏎",
        "0_2⏎ab⏎0⏎⏎",
        "2zz⏎ab⏎0⏎⏎",
        "10000000000000002⏎ab⏎0⏎⏎",
        "2;\nxx⏎ab⏎0⏎⏎",
        "2\r\r;a⏎ab⏎0⏎⏎",
        "2\nab⏎0⏎⏎",
        "2⏎ab\n0⏎⏎",
        "0\n⏎",
        "2⏎abXX0⏎⏎",
        "⏎⏎",
        "0⏎ folded⏎⏎",
        "0⏎: x⏎⏎",
        "0⏎X: \0⏎⏎",
    ] {
        let short = format!("POST / ¶Transfer-Encoding: chunked⏎⏎{body}");
        let made = made_of(&expand(&short));
        assert_eq!(made, Made::Refused(Violation::ChunkFraming), "{body:?}");
    }
}

#[test]
fn extensions_and_trailers_are_bounded() {
    let head = expand("POST / ¶Transfer-Encoding: chunked⏎⏎");
    let long = "a".repeat(5000);
    for body in [
        format!("2;{long}\r\nab\r\n0\r\n\r\n"),
        format!("0\r\nX: {long}\r\n\r\n"),
    ] {
        let made = made_of(&format!("{head}{body}"));
        assert_eq!(made, Made::Refused(Violation::ChunkFraming));
    }
}

#[test]
fn heads_that_break_a_rule_are_refused() {
    use Violation::*;
    for (short, violation) in [
        ("GET / HTTP/1.1\nHost: a\n\n", LineEnd),
        ("GET / ¶X: y\nTransfer-Encoding: chunked⏎⏎", LineEnd),
        ("GET / ¶X: a\rSmuggled: 1⏎⏎", ControlByte),
        ("GET / ¶X: a\0b⏎⏎", ControlByte),
        ("GET / ¶X: a\x7fb⏎⏎", ControlByte),
        ("GET / HTTP/1.1⏎Host: a\0.evil⏎⏎", ControlByte),
        ("GET / ¶Foo⏎⏎", HeaderName),
        ("GET / ¶: x⏎⏎", HeaderName),
        ("GET / ¶X\u{ef}: a⏎⏎", HeaderName),
        ("GET / HTTP/1.1⏎ Host: a⏎Host: b⏎⏎", FoldedHeader),
        ("GET / ¶X: a⏎ b⏎⏎", FoldedHeader),
        ("GET / ¶Host: b⏎⏎", Host),
        ("GET / HTTP/1.1⏎⏎", Host),
        ("GET / HTTP/1.1⏎Host: ⏎⏎", Host),
        ("GET / HTTP/1.1⏎Host: a/../b⏎⏎", Host),
        ("GET / HTTP/1.1⏎Host: a@b⏎⏎", Host),
        ("GET / HTTP/1.1⏎Host: a, b⏎⏎", Host),
        ("GET http://evil/ ¶⏎", Target),
        ("GET http://a@evil/ ¶⏎", Target),
        ("GET ftp://a/ ¶⏎", Target),
        ("GET foo ¶⏎", Target),
        ("GET @evil/ ¶⏎", Target),
        ("GET * ¶⏎", Target),
        ("GET /a#/../admin ¶⏎", Target),
        ("GET /\u{c3}\u{a9} ¶⏎", Target),
        ("GET /a b ¶⏎", RequestLine),
        ("GET  / ¶⏎", RequestLine),
        ("GET\t/\tHTTP/1.1⏎Host: a⏎⏎", RequestLine),
        ("GET /⏎⏎", RequestLine),
        ("⏎⏎GET / ¶⏎", RequestLine),
        ("GET / HTTP/1.2⏎Host: a⏎⏎", Version),
        ("GET / HTTP/2.0⏎Host: a⏎⏎", Version),
        ("GET / http/1.1⏎Host: a⏎⏎", RequestLine),
        ("G=\":<>(e) / ¶⏎", Method),
        ("CONNECT a:80 HTTP/1.1⏎Host: a:80⏎⏎", Connect),
    ] {
        assert_eq!(
            made_of(&expand(short)),
            Made::Refused(violation),
            "{short:?}"
        );
    }
}

#[test]
fn a_target_that_grows_too_long_is_refused() {
    let mut guard = Guard::new(HeadLimits {
        bytes: 100_000,
        ..LIMITS
    });
    let target = "<".repeat(25_000);
    let head = expand(&format!("GET /{target} ¶⏎"));
    let refused = HeadStep::Refused(Violation::TargetBytes);
    assert_eq!(guard.head(head.as_bytes()), refused);
}

#[test]
fn a_rule_broken_in_a_later_request_is_found() {
    let made = made_of(&expand("POST / ¶Content-Length: 2⏎⏎abGET / HTTP/1.1⏎⏎"));
    assert_eq!(made, Made::Refused(Violation::Host));
}

#[test]
fn heads_that_take_too_much_are_refused_before_their_end() {
    let long = "a".repeat(LIMITS.bytes);
    let many = "X: 1\r\n".repeat(LIMITS.headers);
    for (bytes, violation) in [
        (format!("GET /{long}"), Violation::TargetBytes),
        (expand(&format!("GET / ¶X: {long}")), Violation::HeadBytes),
        (expand(&format!("GET / ¶{many}")), Violation::HeaderCount),
    ] {
        assert_eq!(made_of(&bytes), Made::Refused(violation));
    }
}
