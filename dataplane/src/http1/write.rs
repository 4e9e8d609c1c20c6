//! Heads as they go out: names in lower case, as Envoy writes them, since a map
//! that keeps how each was written is a tenth of what a request costs.

use http::{HeaderMap, Method, StatusCode};

/// Writes a request's head.
pub(crate) fn request_head(
    method: &Method,
    target: &[u8],
    headers: &HeaderMap,
    wire: &mut Vec<u8>,
) {
    wire.extend_from_slice(method.as_str().as_bytes());
    wire.push(b' ');
    wire.extend_from_slice(target);
    wire.extend_from_slice(b" HTTP/1.1\r\n");
    put_headers(headers, wire);
    wire.extend_from_slice(b"\r\n");
}

/// Writes the first line of a response. The words behind the status are those of the standard.
pub(crate) fn response_line(status: StatusCode, wire: &mut Vec<u8>) {
    wire.extend_from_slice(b"HTTP/1.1 ");
    wire.extend_from_slice(status.as_str().as_bytes());
    wire.push(b' ');
    let reason = status.canonical_reason().unwrap_or_default();
    wire.extend_from_slice(reason.as_bytes());
    wire.extend_from_slice(b"\r\n");
}

/// Writes header lines, and not the empty one behind them.
pub(crate) fn put_headers(headers: &HeaderMap, wire: &mut Vec<u8>) {
    for (name, value) in headers {
        wire.extend_from_slice(name.as_str().as_bytes());
        wire.extend_from_slice(b": ");
        wire.extend_from_slice(value.as_bytes());
        wire.extend_from_slice(b"\r\n");
    }
}
