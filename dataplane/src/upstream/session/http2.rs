//! A request as a stream of an HTTP/2 connection.

use super::ResponseEvent;
use bytes::Bytes;
use h2::SendStream;
use http::header::HOST;
use pingora_core::protocols::http::v2::client::Http2Session;
use pingora_error::{Error, ErrorType, OrErr, Result};
use pingora_http::RequestHeader;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::task::{Context, Poll, ready};

pub(super) struct Http2 {
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

impl Http2 {
    pub(super) fn new(stream: Http2Session) -> Self {
        Self {
            stream,
            body: None,
            unsent: Frames::default(),
            phase: Phase::Head,
        }
    }

    pub(super) fn send_head(&mut self, mut head: Box<RequestHeader>, end: bool) -> Result<()> {
        address_by_authority(&mut head)?;
        self.stream.write_request_header(head, end)?;
        self.body = self.stream.take_request_body_writer();
        Ok(())
    }

    pub(super) fn is_blocked(&self) -> bool {
        !self.unsent.is_empty()
    }

    pub(super) fn abort(mut self) {
        if let Some(body) = &mut self.body {
            body.send_reset(h2::Reason::CANCEL);
        }
    }

    pub(super) fn send_body(&mut self, bytes: Bytes, end: bool) -> Result<()> {
        if self.body.is_none() {
            return Error::e_explain(ErrorType::InternalError, "body sent before the head");
        }
        if !bytes.is_empty() {
            self.unsent.pieces.push_back(bytes);
        }
        self.unsent.end |= end;
        Ok(())
    }

    pub(super) async fn next(&mut self) -> Result<ResponseEvent> {
        let blocked = self.is_blocked();
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
