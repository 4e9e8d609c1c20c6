//! One request and its response on an upstream connection, HTTP/1.1 or HTTP/2
//! behind one face.

use super::io::UpstreamIo;
use super::pool::{self, Origin, PoolKey};
use super::unsent::Backlog;
use crate::resilience::Permit;
use bytes::Bytes;
use h2::SendStream;
use http::HeaderMap;
use http::header::HOST;
use pingora_core::protocols::http::HttpTask;
use pingora_core::protocols::http::v1::client::HttpSession as Http1;
use pingora_core::protocols::http::v2::client::Http2Session;
use pingora_error::{Error, ErrorType, OrErr, Result};
use pingora_http::{RequestHeader, ResponseHeader};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::task::{Context, Poll, ready};

/// A connection, or a stream of one, that carries one request.
pub(crate) struct Session {
    reused: bool,
    /// Counts the request as under way.
    leave: Permit,
    codec: Codec,
}

enum Codec {
    Http1(Box<Owned>),
    Http2(Box<Http2>),
}

/// An HTTP/1.1 connection, and where it goes back to.
struct Owned {
    session: Http1,
    /// What the upstream has still to take.
    backlog: Backlog,
    origin: Origin,
    key: PoolKey,
}

struct Http2 {
    stream: Http2Session,
    /// Taken out once the head is sent, so that writing and reading don't exclude each other.
    body: Option<SendStream<Bytes>>,
    unsent: Frames,
    phase: Phase,
}

/// Pieces of a request's body that wait for the upstream's window.
#[derive(Default)]
struct Frames {
    pieces: VecDeque<Bytes>,
    /// The end is among what waits.
    end: bool,
}

/// How far an HTTP/2 response has been read.
#[derive(PartialEq)]
enum Phase {
    Head,
    Body,
    Done,
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

impl Session {
    /// A request on a connection of its own, with its leave.
    pub(crate) fn http1(key: PoolKey, origin: Origin, session: Http1, leave: Permit) -> Self {
        let io: Option<&UpstreamIo> = (**session.stream()).as_any().downcast_ref();
        let backlog = io.and_then(UpstreamIo::backlog).cloned();
        let owned = Owned {
            session,
            backlog: backlog.unwrap_or_default(),
            origin,
            key,
        };
        Self {
            reused: false,
            leave,
            codec: Codec::Http1(Box::new(owned)),
        }
    }

    /// A request as a stream of a connection, with its leave.
    pub(crate) fn http2(stream: Http2Session, leave: Permit) -> Self {
        Self {
            reused: false,
            leave,
            codec: Codec::Http2(Box::new(Http2 {
                stream,
                body: None,
                unsent: Frames::default(),
                phase: Phase::Head,
            })),
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
    pub(crate) async fn send_head(
        &mut self,
        mut head: Box<RequestHeader>,
        end: bool,
    ) -> Result<()> {
        match &mut self.codec {
            Codec::Http1(http1) => http1.session.write_request_header(head).await.map(|_| ()),
            Codec::Http2(http2) => {
                address_by_authority(&mut head)?;
                http2.stream.write_request_header(head, end)?;
                http2.body = http2.stream.take_request_body_writer();
                Ok(())
            }
        }
    }

    /// Takes a piece of the body to be sent, without waiting for the upstream to
    /// take it. An empty last piece ends the body.
    pub(crate) async fn send_body(&mut self, bytes: Bytes, end: bool) -> Result<()> {
        match &mut self.codec {
            Codec::Http1(http1) => {
                if !bytes.is_empty() {
                    http1.session.write_body(&bytes).await?;
                }
                if end {
                    http1.session.finish_body().await?;
                }
                Ok(())
            }
            Codec::Http2(http2) => http2.queue(bytes, end),
        }
    }

    /// Whether the upstream has still to take some of what was sent. No more
    /// should be sent before [`ResponseEvent::Unblocked`].
    pub(crate) fn is_blocked(&self) -> bool {
        match &self.codec {
            Codec::Http1(http1) => !http1.backlog.is_empty(),
            Codec::Http2(http2) => !http2.unsent.is_empty(),
        }
    }

    /// Waits for what the upstream says next, and sends on meanwhile. Dropping
    /// the future loses nothing.
    pub(crate) async fn next(&mut self) -> Result<ResponseEvent> {
        let blocked = self.is_blocked();
        match &mut self.codec {
            Codec::Http1(http1) => {
                let sent = poll_fn(|_| http1.backlog.poll_empty());
                tokio::select! {
                    biased;
                    event = next_http1(&mut http1.session) => event,
                    () = sent, if blocked => Ok(ResponseEvent::Unblocked),
                }
            }
            Codec::Http2(http2) => http2.next().await,
        }
    }

    /// After a 101 was forwarded: from here on both directions are raw bytes.
    pub(crate) fn upgrade(&mut self) {
        if let Codec::Http1(http1) = &mut self.codec {
            http1.session.maybe_upgrade_body_writer();
        }
    }

    /// Gives a connection back whose response was read to its end.
    pub(crate) async fn release(self, request_sent: bool) {
        let Self { codec, leave, .. } = self;
        // Whoever gets the connection next needs one, too.
        drop(leave);
        if let Codec::Http1(http1) = codec {
            let Owned {
                mut session,
                backlog,
                origin,
                key,
            } = *http1;
            // An upstream that answered before it read the whole request would
            // take the rest of it for the next one.
            if !request_sent || !backlog.is_empty() {
                session.shutdown().await;
                return;
            }
            session.respect_keepalive();
            if let Some(stream) = session.reuse().await {
                pool::give_back(key, origin, stream);
            }
        }
    }

    /// Gives up a request in the middle: the connection, or the stream, is cut.
    pub(crate) async fn abort(self) {
        match self.codec {
            Codec::Http1(mut http1) => http1.session.shutdown().await,
            Codec::Http2(mut http2) => {
                if let Some(body) = &mut http2.body {
                    body.send_reset(h2::Reason::CANCEL);
                }
            }
        }
    }
}

async fn next_http1(session: &mut Http1) -> Result<ResponseEvent> {
    Ok(match session.read_response_task().await? {
        HttpTask::Header(head, _) if is_informational(&head) => ResponseEvent::Informational(head),
        HttpTask::Header(head, end) => ResponseEvent::Head { head, end },
        HttpTask::Body(bytes, end) | HttpTask::UpgradedBody(bytes, end) => ResponseEvent::Body {
            bytes: bytes.unwrap_or_default(),
            end,
        },
        HttpTask::Trailer(trailers) => {
            trailers.map_or(ResponseEvent::End, |map| ResponseEvent::Trailers(*map))
        }
        HttpTask::Done => ResponseEvent::End,
        HttpTask::Failed(error) => return Err(error),
    })
}

/// 101 is a head like any other here: after it comes the other protocol.
fn is_informational(head: &ResponseHeader) -> bool {
    head.status.is_informational() && head.status != http::StatusCode::SWITCHING_PROTOCOLS
}

impl Http2 {
    fn queue(&mut self, bytes: Bytes, end: bool) -> Result<()> {
        if self.body.is_none() {
            return Error::e_explain(ErrorType::InternalError, "body sent before the head");
        }
        if !bytes.is_empty() {
            self.unsent.pieces.push_back(bytes);
        }
        self.unsent.end |= end;
        Ok(())
    }

    async fn next(&mut self) -> Result<ResponseEvent> {
        let blocked = !self.unsent.is_empty();
        let Self {
            stream,
            body,
            unsent,
            phase,
        } = self;
        tokio::select! {
            biased;
            event = read(stream, phase) => event,
            () = poll_fn(|cx| unsent.poll_send(body.as_mut(), cx)), if blocked => {
                Ok(ResponseEvent::Unblocked)
            }
        }
    }
}

async fn read(stream: &mut Http2Session, phase: &mut Phase) -> Result<ResponseEvent> {
    match phase {
        Phase::Head => {
            stream.read_response_header().await?;
            let end = stream.check_response_end_or_error()?;
            *phase = if end { Phase::Done } else { Phase::Body };
            let head = stream.response_header().ok_or_else(|| {
                Error::explain(ErrorType::InternalError, "head was read and is gone")
            })?;
            Ok(ResponseEvent::Head {
                head: Box::new(head.clone()),
                end,
            })
        }
        Phase::Body => {
            if let Some(bytes) = stream.read_response_body().await? {
                let end = stream.check_response_end_or_error()?;
                if end {
                    *phase = Phase::Done;
                }
                return Ok(ResponseEvent::Body { bytes, end });
            }
            let trailers = stream.read_trailers().await?;
            *phase = Phase::Done;
            Ok(trailers.map_or(ResponseEvent::End, ResponseEvent::Trailers))
        }
        Phase::Done => Ok(ResponseEvent::End),
    }
}

impl Frames {
    fn is_empty(&self) -> bool {
        self.pieces.is_empty() && !self.end
    }

    /// Sends what the window allows; ready when nothing is left. A stream that
    /// takes no more is no error here: its response, or its reset, is read next.
    fn poll_send(
        &mut self,
        body: Option<&mut SendStream<Bytes>>,
        cx: &mut Context<'_>,
    ) -> Poll<()> {
        let sent = match body {
            Some(body) => ready!(self.poll_frames(body, cx)),
            None => Err(()),
        };
        if sent.is_err() {
            *self = Self::default();
        }
        Poll::Ready(())
    }

    fn poll_frames(
        &mut self,
        body: &mut SendStream<Bytes>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), ()>> {
        while let Some(piece) = self.pieces.front_mut() {
            body.reserve_capacity(piece.len());
            let room = match body.capacity() {
                0 => match ready!(body.poll_capacity(cx)) {
                    Some(Ok(room)) => room,
                    Some(Err(_)) | None => return Poll::Ready(Err(())),
                },
                room => room,
            };
            let part = piece.split_to(room.min(piece.len()));
            if piece.is_empty() {
                self.pieces.pop_front();
            }
            let last = self.end && self.pieces.is_empty();
            self.end &= !last;
            body.send_data(part, last).map_err(|_| ())?;
        }
        if std::mem::take(&mut self.end) {
            body.send_data(Bytes::new(), true).map_err(|_| ())?;
        }
        Poll::Ready(Ok(()))
    }
}

/// HTTP/2 names the host in `:authority`; a `Host` line beside it could only
/// contradict it (RFC 9113, 8.3.1).
fn address_by_authority(head: &mut RequestHeader) -> Result<()> {
    if head.uri.authority().is_none() {
        let host = head.headers.get(HOST).ok_or_else(|| {
            Error::explain(ErrorType::InvalidHTTPHeader, "request without a host")
        })?;
        let uri = http::Uri::builder()
            .scheme("http")
            .authority(host.as_bytes())
            .path_and_query(head.uri.path_and_query().map_or("/", |path| path.as_str()))
            .build()
            .or_err(ErrorType::InvalidHTTPHeader, "building the authority")?;
        head.set_uri(uri);
    }
    head.remove_header(&HOST);
    Ok(())
}
