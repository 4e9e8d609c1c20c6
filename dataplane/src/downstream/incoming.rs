//! One request of a client, and the way back for its response: HTTP/1 or HTTP/2
//! behind one face.

mod http2;

use bytes::Bytes;
use http::{HeaderMap, Version};
use http2::Http2;
use pingora_core::apps::{HttpPersistentSettings, ReusedHttpStream};
use pingora_core::protocols::Stream;
use pingora_core::protocols::http::server::Session as Http1;
use pingora_error::Result;
use pingora_http::{RequestHeader, ResponseHeader};

pub(super) use http2::{Accepted, Refused};

/// A request as it came in.
pub(crate) struct Incoming(Codec);

#[expect(
    clippy::large_enum_variant,
    reason = "a request is made once, and stays where it is"
)]
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
    pub(crate) fn http1(reused: ReusedHttpStream) -> Self {
        let (stream, settings) = reused.consume();
        let mut session = Http1::new_http1(stream);
        if let Some(settings) = settings {
            settings.apply_to_session(&mut session);
        }
        // The stream below keeps all deadlines of its own; pingora's would only
        // be a second clock.
        session.set_keepalive(Some(0));
        session.set_read_timeout(None);
        Self(Codec::Http1(session))
    }

    /// The first request of an HTTP/1 connection, yet to be read.
    pub(crate) fn first(stream: Stream) -> Self {
        Self::http1(ReusedHttpStream::new(stream, None))
    }

    /// A stream of an HTTP/2 connection, with its head.
    pub(super) fn http2(stream: Accepted) -> std::result::Result<Self, Refused> {
        Http2::new(stream).map(|http2| Self(Codec::Http2(http2)))
    }

    /// Reads the head where it was not yet. `false` where the client has left instead.
    pub(crate) async fn read_head(&mut self) -> Result<bool> {
        match &mut self.0 {
            Codec::Http1(http1) => http1.read_request().await,
            Codec::Http2(_) => Ok(true),
        }
    }

    /// The head.
    pub(crate) fn head(&self) -> &RequestHeader {
        match &self.0 {
            Codec::Http1(http1) => http1.req_header(),
            Codec::Http2(http2) => http2.head(),
        }
    }

    /// The head, to be changed.
    pub(crate) fn head_mut(&mut self) -> &mut RequestHeader {
        match &mut self.0 {
            Codec::Http1(http1) => http1.req_header_mut(),
            Codec::Http2(http2) => http2.head_mut(),
        }
    }

    /// Whether no body comes.
    pub(crate) fn is_bodiless(&mut self) -> bool {
        match &mut self.0 {
            Codec::Http1(http1) => http1.is_body_empty(),
            Codec::Http2(http2) => http2.is_bodiless(),
        }
    }

    /// Whether nothing is left to be read.
    pub(crate) fn is_read(&mut self) -> bool {
        match &mut self.0 {
            Codec::Http1(http1) => http1.is_body_done(),
            Codec::Http2(http2) => http2.is_read(),
        }
    }

    /// Reads on. HTTP/1 passes over trailers.
    pub(crate) async fn read(&mut self) -> Result<Piece> {
        match &mut self.0 {
            Codec::Http1(http1) => http1.read_request_body().await.map(Piece::from),
            Codec::Http2(http2) => http2.read().await,
        }
    }

    /// Reads on, where there is something left to read; waits for the client to
    /// leave, where there is not. Behind an upgrade there always is.
    pub(crate) async fn read_or_idle(&mut self, done: bool) -> Result<Piece> {
        match &mut self.0 {
            Codec::Http1(http1) => http1.read_body_or_idle(done).await.map(Piece::from),
            Codec::Http2(http2) if done || http2.is_read() => Err(http2.left().await),
            Codec::Http2(http2) => http2.read().await,
        }
    }

    /// Whether the connection serves further requests. That of HTTP/2 does in any case.
    pub(crate) fn keep_alive(&mut self, keep: bool) {
        if let Codec::Http1(http1) = &mut self.0 {
            http1.set_keepalive(keep.then_some(0));
        }
    }

    /// Writes the head of the response. `end` when nothing follows: HTTP/2 must know at once,
    /// since gRPC's trailers-only form is a head that ends the stream.
    pub(crate) async fn write_head(&mut self, head: Box<ResponseHeader>, end: bool) -> Result<()> {
        match &mut self.0 {
            Codec::Http1(http1) => http1.write_response_header(head).await,
            Codec::Http2(http2) => http2.write_head(*head, end),
        }
    }

    /// Writes an interim response; HTTP/2 clients get none. Pingora gives up an HTTP/1
    /// connection on which anything is written before the request was read to its end;
    /// whether this one can be kept the final head decides.
    pub(crate) async fn write_interim(&mut self, head: Box<ResponseHeader>) -> Result<()> {
        if let Codec::Http1(http1) = &mut self.0 {
            http1.write_response_header(head).await?;
            if http1.req_header().version == Version::HTTP_11 {
                http1.set_keepalive(Some(0));
            }
        }
        Ok(())
    }

    /// Writes a piece of the response's body. `end` when nothing follows.
    pub(crate) async fn write_body(&mut self, bytes: Bytes, end: bool) -> Result<()> {
        match &mut self.0 {
            Codec::Http1(http1) => http1.write_response_body(bytes, end).await,
            Codec::Http2(http2) => http2.write_body(bytes, end).await,
        }
    }

    /// Writes trailers, which end the response. HTTP/1 clients get none.
    pub(crate) async fn write_trailers(&mut self, trailers: HeaderMap) -> Result<()> {
        match &mut self.0 {
            Codec::Http1(http1) => http1.write_response_trailers(trailers).await,
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
    pub(crate) async fn finish(self) -> Result<Option<ReusedHttpStream>> {
        match self.0 {
            Codec::Http1(http1) => {
                let settings = HttpPersistentSettings::for_session(&http1);
                let reusable = http1.finish().await?;
                Ok(reusable.map(|stream| ReusedHttpStream::from_reusable_stream(stream, settings)))
            }
            Codec::Http2(http2) => http2.finish().map(|()| None),
        }
    }

    /// Breaks off: the client must see that this is not the end.
    pub(crate) async fn abort(self) {
        match self.0 {
            Codec::Http1(mut http1) => http1.shutdown().await,
            Codec::Http2(http2) => http2.abort(),
        }
    }
}

impl From<Option<Bytes>> for Piece {
    fn from(bytes: Option<Bytes>) -> Self {
        bytes.map_or(Self::End, Self::Body)
    }
}
