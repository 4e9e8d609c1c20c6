//! A fuzzer's entrance: bytes of an upstream, read as the HTTP/1.1 session reads them.

use super::head::{Answer, Asked, take};
use crate::http1::BodyReader;
use bytes::BytesMut;

/// What was read of one response.
#[derive(Debug, Default, PartialEq, Eq)]
struct Read {
    status: Option<u16>,
    headers: usize,
    body: Vec<u8>,
    /// The body has its end.
    ended: bool,
    /// The upstream broke a rule.
    broken: bool,
    /// What is behind the response.
    behind: Vec<u8>,
}

/// A response. The first byte says in pieces of which size it comes, which makes no
/// difference, and whether it is one to HEAD.
pub(crate) fn response(bytes: &[u8]) {
    let Some((choice, wire)) = bytes.split_first() else {
        return;
    };
    let asked = Asked {
        head_only: choice & 1 != 0,
        upgrade: false,
    };
    let size = usize::from(choice >> 1).max(1);
    let whole = read(wire, wire.len().max(1), asked);
    let pieces = read(wire, size, asked);
    // How much of a broken body went on before it was seen to be broken depends on the pieces.
    if whole.broken {
        assert!(pieces.broken, "pieces of {size}");
        return;
    }
    assert_eq!(pieces, whole, "pieces of {size}");
    assert!(
        whole.body.len() + whole.behind.len() <= wire.len(),
        "bytes from nowhere"
    );
    if asked.head_only {
        assert!(whole.body.is_empty(), "a body behind the answer to HEAD");
    }
}

fn read(wire: &[u8], size: usize, asked: Asked) -> Read {
    let mut read = Read::default();
    let mut buffer = BytesMut::new();
    let mut searched = 0;
    let mut body: Option<BodyReader> = None;
    for piece in wire.chunks(size) {
        buffer.extend_from_slice(piece);
        if body.is_none() {
            match take(&mut buffer, &mut searched, asked) {
                Ok(None) => continue,
                Ok(Some(Answer { head, body: of, .. })) => {
                    read.status = Some(head.status.as_u16());
                    read.headers = head.headers.len();
                    body = Some(of);
                }
                Err(_) => {
                    read.broken = true;
                    return read;
                }
            }
        }
        while let Some(reader) = &mut body {
            match reader.take(&mut buffer) {
                Ok(Some(bytes)) => read.body.extend_from_slice(&bytes),
                Ok(None) => break,
                Err(_) => {
                    read.broken = true;
                    return read;
                }
            }
        }
    }
    read.ended = body.is_some_and(|body| body.is_done());
    read.behind = buffer.to_vec();
    read
}
