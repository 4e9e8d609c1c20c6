//! One request of a client, and the way back for its response: HTTP/1 or HTTP/2
//! behind one face.

mod http1;
mod http2;

use crate::headers::{RequestHeader, ResponseHeader};
use bytes::Bytes;
use http::HeaderMap;
use http1::Http1;
use http2::Http2;
use pingora_core::protocols::Stream;
use pingora_error::Result;

#[cfg(any(test, feature = "fuzzing"))]
pub(super) use http1::parse;
pub(super) use http2::{Accepted, Refused};

/// A request as it came in.
pub(crate) struct Incoming(Codec);

enum Codec {
    Http1(Http1),
    Http2(Http2),
}

/// What a client sent behind the head.
pub(crate) enum Piece {
    /// A piece of the body.
    Body(Bytes),
    /// Trailers; nothing follows.
    Trailers(HeaderMap),
    /// Nothing more.
    End,
}

impl Incoming {
    /// The next request of an HTTP/1 connection, yet to be read.
    pub(crate) fn http1(stream: Stream) -> Self {
        Self(Codec::Http1(Http1::new(stream)))
    }

    /// A stream of an HTTP/2 connection, with its head.
    pub(super) fn http2(stream: Accepted) -> std::result::Result<Self, Refused> {
        Http2::new(stream).map(|http2| Self(Codec::Http2(http2)))
    }

    /// Reads the head where it was not yet. `false` where the client has left instead.
    pub(crate) async fn read_head(&mut self) -> Result<bool> {
        match &mut self.0 {
            Codec::Http1(http1) => http1.read_head().await,
            Codec::Http2(_) => Ok(true),
        }
    }

    /// The head.
    pub(crate) fn head(&self) -> &RequestHeader {
        match &self.0 {
            Codec::Http1(http1) => http1.head(),
            Codec::Http2(http2) => http2.head(),
        }
    }

    /// The head, to be changed.
    pub(crate) fn head_mut(&mut self) -> &mut RequestHeader {
        match &mut self.0 {
            Codec::Http1(http1) => http1.head_mut(),
            Codec::Http2(http2) => http2.head_mut(),
        }
    }

    /// Whether no body comes.
    pub(crate) fn is_bodiless(&mut self) -> bool {
        match &mut self.0 {
            Codec::Http1(http1) => http1.is_bodiless(),
            Codec::Http2(http2) => http2.is_bodiless(),
        }
    }

    /// Whether nothing is left to be read.
    pub(crate) fn is_read(&mut self) -> bool {
        match &mut self.0 {
            Codec::Http1(http1) => http1.is_read(),
            Codec::Http2(http2) => http2.is_read(),
        }
    }

    /// Reads on. HTTP/1 passes over trailers.
    pub(crate) async fn read(&mut self) -> Result<Piece> {
        match &mut self.0 {
            Codec::Http1(http1) => http1.read().await,
            Codec::Http2(http2) => http2.read().await,
        }
    }

    /// Reads on, where there is something left to read; waits for the client to
    /// leave, where there is not. Behind an upgrade there always is.
    pub(crate) async fn read_or_idle(&mut self, done: bool) -> Result<Piece> {
        match &mut self.0 {
            Codec::Http1(http1) if done || http1.is_read() => Err(http1.left().await),
            Codec::Http1(http1) => http1.read().await,
            Codec::Http2(http2) if done || http2.is_read() => Err(http2.left().await),
            Codec::Http2(http2) => http2.read().await,
        }
    }

    /// Whether the connection serves further requests. That of HTTP/2 does in any case.
    pub(crate) fn keep_alive(&mut self, keep: bool) {
        if let Codec::Http1(http1) = &mut self.0 {
            http1.keep_alive(keep);
        }
    }

    /// Writes the head of the response. `end` when nothing follows: HTTP/2 must know at once,
    /// since gRPC's trailers-only form is a head that ends the stream.
    pub(crate) async fn write_head(&mut self, head: Box<ResponseHeader>, end: bool) -> Result<()> {
        match &mut self.0 {
            Codec::Http1(http1) => http1.write_head(*head, end).await,
            Codec::Http2(http2) => http2.write_head(*head, end),
        }
    }

    /// Writes an interim response; HTTP/2 clients get none.
    pub(crate) async fn write_interim(&mut self, head: Box<ResponseHeader>) -> Result<()> {
        match &mut self.0 {
            Codec::Http1(http1) => http1.write_interim(&head).await,
            Codec::Http2(_) => Ok(()),
        }
    }

    /// Hands on what was written. Small pieces are gathered until then, or until the client is
    /// waited for.
    pub(crate) async fn flush(&mut self) -> Result<()> {
        match &mut self.0 {
            Codec::Http1(http1) => http1.flush().await,
            Codec::Http2(_) => Ok(()),
        }
    }

    /// Writes a piece of the response's body. `end` when nothing follows.
    pub(crate) async fn write_body(&mut self, bytes: Bytes, end: bool) -> Result<()> {
        match &mut self.0 {
            Codec::Http1(http1) => http1.write_body(&bytes, end).await,
            Codec::Http2(http2) => http2.write_body(bytes, end).await,
        }
    }

    /// Writes trailers, which end the response. HTTP/1 clients get none.
    pub(crate) async fn write_trailers(&mut self, trailers: HeaderMap) -> Result<()> {
        match &mut self.0 {
            Codec::Http1(http1) => http1.write_body(&[], true).await,
            Codec::Http2(http2) => http2.write_trailers(trailers),
        }
    }

    /// Whether a 101 was written.
    pub(crate) fn was_upgraded(&self) -> bool {
        match &self.0 {
            Codec::Http1(http1) => http1.was_upgraded(),
            Codec::Http2(_) => false,
        }
    }

    /// Ends the response; the connection, where another request may follow on it.
    pub(crate) async fn finish(self) -> Result<Option<Stream>> {
        match self.0 {
            Codec::Http1(http1) => http1.finish().await,
            Codec::Http2(http2) => http2.finish().map(|()| None),
        }
    }

    /// Breaks off: the client must see that this is not the end.
    pub(crate) async fn abort(self) {
        match self.0 {
            Codec::Http1(http1) => http1.abort().await,
            Codec::Http2(http2) => http2.abort(),
        }
    }
}
