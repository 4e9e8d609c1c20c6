//! A request on an HTTP/1.1 connection of its own. Why not by Pingora's session:
//! `docs/decisions/0012-own-http1.md`.

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod head;

use super::ResponseEvent;
use crate::headers::RequestHeader;
use crate::http1::{self, BodyReader, BodyWriter};
use crate::upstream::io::UpstreamIo;
use crate::upstream::pool::{self, Origin, PoolKey};
use bytes::{Bytes, BytesMut};
use head::{Answer, Asked};
use pingora_error::ErrorType::{ConnectionClosed, InvalidHTTPHeader, ReadError, WriteError};
use pingora_error::{BError, Error, OrErr, Result};
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Room for a response that comes whole: its head and a small body.
const FIRST_READ: usize = 8 * 1024;

/// Room for an ordinary head of a request.
const HEAD: usize = 1024;

/// An HTTP/1.1 connection, and where it goes back to.
pub(super) struct Http1 {
    io: Box<UpstreamIo>,
    origin: Origin,
    key: PoolKey,
    /// How the request's body is framed.
    request: BodyWriter,
    asked: Asked,
    response: Response,
    /// What was read and not yet taken.
    read: BytesMut,
    /// Up to here no end of a head was found.
    searched: usize,
    /// Whether the connection may carry another request.
    persistent: bool,
}

/// How far the response has come.
#[derive(Debug)]
enum Response {
    Head,
    Body(BodyReader),
    /// The other protocol's bytes, after a 101.
    Upgraded,
    Done,
}

impl Http1 {
    pub(super) fn new(key: PoolKey, origin: Origin, io: Box<UpstreamIo>) -> Self {
        Self {
            io,
            origin,
            key,
            request: BodyWriter::Length(0),
            asked: Asked::default(),
            response: Response::Head,
            read: BytesMut::new(),
            searched: 0,
            persistent: false,
        }
    }

    pub(super) async fn send_head(&mut self, head: &RequestHeader) -> Result<()> {
        let target = head.raw_path();
        if target.iter().any(|byte| *byte <= b' ') {
            return Error::e_explain(InvalidHTTPHeader, "a target that would end its line");
        }
        self.asked = Asked::by(head);
        self.request = head::framing(&head.headers);
        let mut wire = Vec::with_capacity(HEAD);
        http1::request_head(&head.method, target, &head.headers, &mut wire);
        self.send(&mut [IoSlice::new(&wire)]).await
    }

    pub(super) async fn send_body(&mut self, bytes: Bytes, end: bool) -> Result<()> {
        let framed = self.request.frame(&bytes, end);
        let mut slices = [
            IoSlice::new(framed.before.as_bytes()),
            IoSlice::new(&bytes[..framed.count]),
            IoSlice::new(framed.behind),
        ];
        self.send(&mut slices).await?;
        if end && matches!(self.response, Response::Upgraded) {
            // The client has left the tunnel, which ends it.
            self.response = Response::Done;
        }
        if end && !self.request.is_whole() {
            return Error::e_explain(WriteError, "a body shorter than its length");
        }
        Ok(())
    }

    /// Hands everything to the connection, which waits for nothing.
    async fn send(&mut self, mut slices: &mut [IoSlice<'_>]) -> Result<()> {
        IoSlice::advance_slices(&mut slices, 0);
        let io = &mut *self.io;
        let sent = poll_fn(|cx| {
            while !slices.is_empty() {
                match ready!(Pin::new(&mut *io).poll_write_vectored(cx, slices))? {
                    0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                    written => IoSlice::advance_slices(&mut slices, written),
                }
            }
            Pin::new(&mut *io).poll_flush(cx)
        });
        sent.await.or_err(WriteError, "sending a request")
    }

    pub(super) fn is_blocked(&self) -> bool {
        self.io.is_blocked()
    }

    pub(super) async fn next(&mut self) -> Result<ResponseEvent> {
        let blocked = self.is_blocked();
        poll_fn(|cx| self.poll_next(cx, blocked)).await
    }

    fn poll_next(&mut self, cx: &mut Context<'_>, blocked: bool) -> Poll<Result<ResponseEvent>> {
        loop {
            if let Some(event) = self.take_event()? {
                return Poll::Ready(Ok(event));
            }
            match self.poll_read(cx) {
                Poll::Ready(Ok(0)) => return Poll::Ready(self.ended()),
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(error)) => {
                    let error = Error::because(ReadError, "reading a response", error);
                    return Poll::Ready(Err(error));
                }
                // Reading has sent on, too.
                Poll::Pending if blocked && !self.is_blocked() => {
                    return Poll::Ready(Ok(ResponseEvent::Unblocked));
                }
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let room = match &self.response {
            Response::Head => FIRST_READ,
            Response::Body(body) => body.room(),
            Response::Upgraded | Response::Done => http1::PIECE,
        };
        if self.read.capacity() - self.read.len() < room / 2 {
            self.read.reserve(room);
        }
        pin!(self.io.read_buf(&mut self.read)).poll(cx)
    }

    /// What lies among the bytes that were read.
    fn take_event(&mut self) -> Result<Option<ResponseEvent>> {
        let event = match &mut self.response {
            Response::Done => Some(ResponseEvent::End),
            Response::Head => return self.take_head(),
            Response::Upgraded if self.read.is_empty() => None,
            Response::Upgraded => Some(ResponseEvent::Body {
                bytes: self.read.split().freeze(),
                end: false,
            }),
            Response::Body(body) => {
                let bytes = body.take(&mut self.read);
                let bytes = bytes.map_err(|_| malformed("malformed chunks"))?;
                let end = body.is_done();
                bytes.map(|bytes| ResponseEvent::Body { bytes, end })
            }
        };
        if matches!(event, Some(ResponseEvent::Body { end: true, .. })) {
            self.response = Response::Done;
        }
        Ok(event)
    }

    fn take_head(&mut self) -> Result<Option<ResponseEvent>> {
        let answer = head::take(&mut self.read, &mut self.searched, self.asked);
        let Some(Answer {
            head,
            body,
            persistent,
        }) = answer.map_err(|error| malformed(error.as_str()))?
        else {
            return Ok(None);
        };
        self.searched = 0;
        if head.status == http::StatusCode::SWITCHING_PROTOCOLS {
            self.response = Response::Upgraded;
            return Ok(Some(ResponseEvent::Head { head, end: false }));
        }
        if head.status.is_informational() {
            return Ok(Some(ResponseEvent::Informational(head)));
        }
        self.persistent = persistent;
        let end = body.is_done();
        self.response = match end {
            true => Response::Done,
            false => Response::Body(body),
        };
        Ok(Some(ResponseEvent::Head { head, end }))
    }

    /// The upstream closed the connection.
    fn ended(&mut self) -> Result<ResponseEvent> {
        match &self.response {
            Response::Upgraded | Response::Body(BodyReader::UntilClose) => {
                self.response = Response::Done;
                Ok(ResponseEvent::Body {
                    bytes: Bytes::new(),
                    end: true,
                })
            }
            // As in Envoy, a line that is none is an answer that is none.
            Response::Head if self.searched == 0 && !self.read.is_empty() => {
                Err(malformed("a status line that breaks off"))
            }
            _ => Error::e_explain(ConnectionClosed, "before the end of the response"),
        }
    }

    pub(super) fn upgrade(&mut self) {
        self.request = BodyWriter::Raw;
    }

    pub(super) async fn release(mut self, request_sent: bool) {
        // An upstream that answered before it read the whole request would take the rest of it
        // for the next one; and what it sent behind its answer would be the next answer.
        let is_clean = request_sent
            && !self.is_blocked()
            && self.request.is_whole()
            && matches!(self.response, Response::Done)
            && self.read.is_empty();
        if is_clean && self.persistent {
            pool::give_back(self.key, self.origin, self.io);
        } else {
            self.close().await;
        }
    }

    pub(super) async fn abort(mut self) {
        self.close().await;
    }

    async fn close(&mut self) {
        // The connection is given up; that the peer was faster is no news.
        let _ = self.io.shutdown().await;
    }
}

fn malformed(what: &'static str) -> BError {
    Error::explain(InvalidHTTPHeader, what)
}
