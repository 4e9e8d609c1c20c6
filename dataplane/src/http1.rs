//! HTTP/1.1 on the wire, for both ends: heads that are written, bodies that are
//! read and written. What is read of a head differs: requests by strangers are
//! the guard's, responses the upstream session's.

mod body;
mod chunks;
mod read;
mod write;

pub(crate) use body::{BodyReader, BodyWriter, PIECE};
pub(crate) use chunks::{ChunkStep, Chunks};
pub(crate) use read::{BadHead, end_of_head, header_lines};
pub(crate) use write::{put_headers, request_head, response_line};
