//! One request and its response on an upstream connection, HTTP/1.1 or HTTP/2
//! behind one face.

mod http1;
mod http2;

use super::http2::Slot;
use super::io::UpstreamIo;
use super::pool::{Origin, PoolKey};
use crate::headers::{RequestHeader, ResponseHeader};
use crate::resilience::Permit;
use bytes::Bytes;
use http::HeaderMap;
use http1::Http1;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use http1::fuzzing;
use http2::Http2;
use pingora_error::Result;

/// A connection, or a stream of one, that carries one request.
pub(crate) struct Session {
    reused: bool,
    /// Counts the request as under way.
    leave: Permit,
    codec: Codec,
}

enum Codec {
    Http1(Box<Http1>),
    Http2(Box<Http2>),
}

/// What an upstream said next.
pub(crate) enum ResponseEvent {
    /// A 1xx head; the real one follows.
    Informational(Box<ResponseHeader>),
    /// The head. `end` when nothing follows.
    Head {
        head: Box<ResponseHeader>,
        end: bool,
    },
    /// A piece of the body. `end` when nothing follows.
    Body { bytes: Bytes, end: bool },
    /// Trailers; nothing follows.
    Trailers(HeaderMap),
    /// Nothing more.
    End,
    /// All of the request that was sent so far has gone out: there is room for more.
    Unblocked,
}

impl ResponseEvent {
    /// Whether nothing follows.
    fn is_last(&self) -> bool {
        match self {
            Self::Head { end, .. } | Self::Body { end, .. } => *end,
            Self::Trailers(_) | Self::End => true,
            Self::Informational(_) | Self::Unblocked => false,
        }
    }
}

impl Session {
    /// A request on a connection of its own, with its leave.
    pub(crate) fn http1(key: PoolKey, origin: Origin, io: Box<UpstreamIo>, leave: Permit) -> Self {
        Self {
            reused: false,
            leave,
            codec: Codec::Http1(Box::new(Http1::new(key, origin, io))),
        }
    }

    /// A request as a stream of a connection, with its leave.
    pub(crate) fn http2(slot: Slot, leave: Permit) -> Self {
        Self {
            reused: false,
            leave,
            codec: Codec::Http2(Box::new(Http2::new(slot))),
        }
    }

    /// The same, on a connection that had carried requests before.
    pub(crate) fn reused(self) -> Self {
        Self {
            reused: true,
            ..self
        }
    }

    /// Whether the connection had carried requests before: then an early close
    /// may only mean that the peer had given it up.
    pub(crate) fn is_reused(&self) -> bool {
        self.reused
    }

    /// Sends the head. `end` when no body follows.
    pub(crate) async fn send_head(&mut self, head: Box<RequestHeader>, end: bool) -> Result<()> {
        match &mut self.codec {
            Codec::Http1(http1) => http1.send_head(&head).await,
            Codec::Http2(http2) => http2.send_head(head, end),
        }
    }

    /// Takes a piece of the body to be sent, without waiting for the upstream to
    /// take it. An empty last piece ends the body.
    pub(crate) async fn send_body(&mut self, bytes: Bytes, end: bool) -> Result<()> {
        match &mut self.codec {
            Codec::Http1(http1) => http1.send_body(bytes, end).await,
            Codec::Http2(http2) => http2.send_body(bytes, end),
        }
    }

    /// Takes the trailers, which end the request. HTTP/1.1 has the end alone.
    pub(crate) async fn send_trailers(&mut self, trailers: HeaderMap) -> Result<()> {
        match &mut self.codec {
            Codec::Http1(http1) => http1.send_body(Bytes::new(), true).await,
            Codec::Http2(http2) => http2.send_trailers(trailers),
        }
    }

    /// Whether the upstream has still to take some of what was sent. No more
    /// should be sent before [`ResponseEvent::Unblocked`].
    pub(crate) fn is_blocked(&self) -> bool {
        match &self.codec {
            Codec::Http1(http1) => http1.is_blocked(),
            Codec::Http2(http2) => http2.is_blocked(),
        }
    }

    /// Waits for what the upstream says next, and sends on meanwhile. Dropping
    /// the future loses nothing.
    pub(crate) async fn next(&mut self) -> Result<ResponseEvent> {
        match &mut self.codec {
            Codec::Http1(http1) => http1.next().await,
            Codec::Http2(http2) => http2.next().await,
        }
    }

    /// After a 101 was forwarded: from here on both directions are raw bytes.
    pub(crate) fn upgrade(&mut self) {
        if let Codec::Http1(http1) = &mut self.codec {
            http1.upgrade();
        }
    }

    /// Gives a connection back whose response was read to its end.
    pub(crate) async fn release(self, request_sent: bool) {
        let Self { codec, leave, .. } = self;
        // Whoever gets the connection next needs one, too.
        drop(leave);
        if let Codec::Http1(http1) = codec {
            http1.release(request_sent).await;
        }
    }

    /// Gives up a request in the middle: the connection, or the stream, is cut.
    pub(crate) async fn abort(self) {
        match self.codec {
            Codec::Http1(http1) => http1.abort().await,
            Codec::Http2(http2) => http2.abort(),
        }
    }
}
