//! A fuzzer's entrance: bytes of a client, read as an HTTP/1 connection reads them.

use super::guard::{BodyStep, Guard, HeadLimits, HeadStep};
use super::incoming::parse;
use super::violation::Violation;
use crate::http1::{BodyReader, Chunks};
use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_LENGTH, HOST, TRANSFER_ENCODING};

const LIMITS: HeadLimits = HeadLimits {
    bytes: 8 * 1024,
    headers: 32,
};

/// The head of a request with what follows it. The first byte says in pieces of which size it
/// comes, which makes no difference.
///
/// What the guard lets through the session can read, and both see its body end at the same place.
pub(crate) fn request(bytes: &[u8]) {
    let Some((size, wire)) = bytes.split_first() else {
        return;
    };
    let size = usize::from(*size).max(1);
    let whole = guarded(wire, wire.len().max(1));
    let Some(mut request) = whole else {
        // What was refused for one reason may, in pieces, be refused for another.
        assert!(guarded(wire, size).is_none(), "pieces of {size}");
        return;
    };
    let pieces = guarded(wire, size).expect("what is sound at once is sound in pieces");
    assert_eq!(pieces.head, request.head, "pieces of {size}");
    let head = parse(&request.head).expect("a sound head can be read");
    assert!(head.headers.get_all(HOST).iter().count() <= 1, "two hosts");
    let chunked = head.headers.contains_key(TRANSFER_ENCODING);
    let mut lengths = head.headers.get_all(CONTENT_LENGTH).iter();
    let length = lengths.next().map(|value| {
        let text = value.to_str().expect("digits");
        text.parse().expect("a number")
    });
    assert!(lengths.next().is_none(), "two lengths");
    assert!(!(chunked && length.is_some()), "a length beside chunks");
    let reader = match chunked {
        true => BodyReader::Chunked(Chunks::default()),
        false => BodyReader::of_length(length.unwrap_or(0)),
    };
    same_end(&mut request.guard, reader, request.behind);
}

/// A head that the guard let through.
struct Guarded {
    guard: Guard,
    /// With what had to be written otherwise.
    head: Bytes,
    /// What came behind it.
    behind: BytesMut,
}

fn guarded(wire: &[u8], size: usize) -> Option<Guarded> {
    let mut guard = Guard::new(LIMITS);
    let ends = (size..wire.len()).step_by(size).chain([wire.len()]);
    for end in ends {
        let length = match guard.head(&wire[..end]) {
            HeadStep::Incomplete => continue,
            HeadStep::Refused(_) => return None,
            HeadStep::Complete(length) => length,
        };
        let mut behind = BytesMut::from(wire);
        let mut length = length;
        if let Some(mending) = guard.take_mending() {
            behind = mending.apply(wire);
            length = mending.length(length);
        }
        let mut head = behind.split_to(length).freeze();
        // The one empty line in front that is forgiven.
        if head.starts_with(b"\r\n") {
            head = head.slice(2..);
        }
        return Some(Guarded {
            guard,
            head,
            behind,
        });
    }
    None
}

/// Both read the same body, or both find it broken.
fn same_end(guard: &mut Guard, mut reader: BodyReader, mut behind: BytesMut) {
    let here = behind.len();
    let by_guard = match guard.body(&behind) {
        BodyStep::Open => None,
        BodyStep::Done(count) => Some(Ok(count)),
        BodyStep::Refused(_, violation) => Some(Err(violation)),
    };
    let mut broken = false;
    while !reader.is_done() && !broken {
        match reader.take(&mut behind) {
            Ok(Some(_)) => {}
            Ok(None) => break,
            Err(_) => broken = true,
        }
    }
    match by_guard {
        None => assert!(!broken && !reader.is_done(), "the session saw an end"),
        Some(Ok(count)) => {
            assert!(reader.is_done(), "the session saw no end");
            assert_eq!(here - behind.len(), count, "another end");
        }
        Some(Err(violation)) => {
            assert_eq!(violation, Violation::ChunkFraming);
            assert!(broken, "the session saw nothing wrong");
        }
    }
}
