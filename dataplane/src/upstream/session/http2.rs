//! A request as a stream of an HTTP/2 connection.

use super::ResponseEvent;
use crate::headers::{RequestHeader, ResponseHeader};
use crate::upstream::http2::Slot;
use bytes::Bytes;
use h2::client::ResponseFuture;
use h2::{Reason, RecvStream, SendStream};
use http::header::{CONTENT_LENGTH, HOST};
use http::{HeaderMap, Request, Version};
use pingora_error::{Error, ErrorType, OrErr, Result};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

pub(super) struct Http2 {
    slot: Slot,
    /// There once the head is sent.
    body: Option<SendStream<Bytes>>,
    unsent: Frames,
    response: Response,
}

/// Pieces of a request's body that wait for the upstream's window.
#[derive(Default)]
struct Frames {
    pieces: VecDeque<Bytes>,
    /// How it ends, among what waits.
    end: Option<End>,
}

/// How a request ends.
enum End {
    Body,
    Trailers(HeaderMap),
}

/// How far a response has been read.
enum Response {
    Unasked,
    Head(ResponseFuture),
    Body(RecvStream),
    Done,
}

impl Http2 {
    pub(super) fn new(slot: Slot) -> Self {
        Self {
            slot,
            body: None,
            unsent: Frames::default(),
            response: Response::Unasked,
        }
    }

    pub(super) fn send_head(&mut self, mut head: Box<RequestHeader>, end: bool) -> Result<()> {
        address_by_authority(&mut head)?;
        head.set_version(Version::HTTP_2);
        let request = Request::from_parts((*head).into(), ());
        let (response, body) = self
            .slot
            .opener
            .send_request(request, end)
            .or_err(ErrorType::H2Error, "while sending request")?;
        self.response = Response::Head(response);
        self.body = Some(body);
        Ok(())
    }

    pub(super) fn send_body(&mut self, bytes: Bytes, end: bool) -> Result<()> {
        if self.body.is_none() {
            return Error::e_explain(ErrorType::InternalError, "body sent before the head");
        }
        if !bytes.is_empty() {
            self.unsent.pieces.push_back(bytes);
        }
        if end {
            self.unsent.end = Some(End::Body);
        }
        Ok(())
    }

    pub(super) fn send_trailers(&mut self, trailers: HeaderMap) -> Result<()> {
        self.send_body(Bytes::new(), false)?;
        self.unsent.end = Some(End::Trailers(trailers));
        Ok(())
    }

    pub(super) fn is_blocked(&self) -> bool {
        !self.unsent.is_empty()
    }

    pub(super) async fn next(&mut self) -> Result<ResponseEvent> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<ResponseEvent>> {
        if let Poll::Ready(event) = self.response.poll_next(cx) {
            return Poll::Ready(event);
        }
        if self.unsent.is_empty() {
            return Poll::Pending;
        }
        ready!(self.unsent.poll_send(self.body.as_mut(), cx));
        Poll::Ready(Ok(ResponseEvent::Unblocked))
    }

    pub(super) fn abort(mut self) {
        if let Some(body) = &mut self.body {
            body.send_reset(Reason::CANCEL);
        }
    }
}

impl Response {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<ResponseEvent>> {
        let event = match self {
            Self::Unasked => {
                let unasked = "response awaited before the request";
                return Poll::Ready(Error::e_explain(ErrorType::InternalError, unasked));
            }
            Self::Head(response) => {
                let response = ready!(Pin::new(response).poll(cx)).map_err(head_error)?;
                let (head, mut body) = response.into_parts();
                let head = Box::new(ResponseHeader::from(head));
                check_length(&head.headers)?;
                let end = has_ended(&mut body, cx)?;
                *self = Self::Body(body);
                ResponseEvent::Head { head, end }
            }
            Self::Body(body) => ready!(poll_body(body, cx))?,
            Self::Done => ResponseEvent::End,
        };
        if event.is_last() {
            *self = Self::Done;
        }
        Poll::Ready(Ok(event))
    }
}

/// The next piece of a body, or what is behind it.
fn poll_body(body: &mut RecvStream, cx: &mut Context<'_>) -> Poll<Result<ResponseEvent>> {
    if let Some(data) = ready!(body.poll_data(cx)) {
        let bytes = data.or_err(ErrorType::ReadError, "while reading response body")?;
        body.flow_control()
            .release_capacity(bytes.len())
            .or_err(ErrorType::ReadError, "while releasing capacity")?;
        let end = has_ended(body, cx)?;
        return Poll::Ready(Ok(ResponseEvent::Body { bytes, end }));
    }
    let trailers = ready!(poll_trailers(body, cx))?;
    Poll::Ready(Ok(
        trailers.map_or(ResponseEvent::End, ResponseEvent::Trailers)
    ))
}

/// Whether nothing follows. A stream that broke looks ended as well, and says so only
/// where it is read on (h2's issue 806).
fn has_ended(body: &mut RecvStream, cx: &mut Context<'_>) -> Result<bool> {
    if !body.is_end_stream() {
        return Ok(false);
    }
    match body.poll_data(cx) {
        Poll::Ready(Some(Err(error))) => Error::e_because(
            ErrorType::H2Error,
            "while reading the response's end",
            error,
        ),
        Poll::Ready(Some(Ok(_))) | Poll::Pending => {
            Error::e_explain(ErrorType::H2Error, "data behind the response's end")
        }
        Poll::Ready(None) => Ok(true),
    }
}

/// The trailers, if there are any. An upstream that wants no more of a request may reset the
/// stream behind its response, without an error (RFC 9113, 8.1), and one that leaves may do so
/// with its connection.
fn poll_trailers(body: &mut RecvStream, cx: &mut Context<'_>) -> Poll<Result<Option<HeaderMap>>> {
    let trailers = match ready!(body.poll_trailers(cx)) {
        Err(error)
            if (error.is_go_away() || error.is_reset())
                && error.is_remote()
                && error.reason() == Some(Reason::NO_ERROR) =>
        {
            Ok(None)
        }
        trailers => trailers.or_err(ErrorType::ReadError, "while reading response trailers"),
    };
    Poll::Ready(trailers)
}

/// What the end of a stream without a head means: that the upstream breaks the protocol, or
/// that it, or the connection, is gone.
fn head_error(error: h2::Error) -> Box<Error> {
    let broken = error.is_go_away() && error.is_library();
    let kind = match broken && error.reason() == Some(Reason::PROTOCOL_ERROR) {
        true => ErrorType::InvalidH2,
        false if error.is_io() => ErrorType::ReadError,
        false => ErrorType::H2Error,
    };
    Error::because(kind, "while reading response head", error)
}

/// Two lengths would frame two responses for whoever reads this one over HTTP/1.1. That
/// one is a number, and true, the HTTP/2 codec sees to.
fn check_length(headers: &HeaderMap) -> Result<()> {
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    let first = lengths.next();
    if lengths.any(|length| Some(length) != first) {
        return Error::e_explain(ErrorType::InvalidHTTPHeader, "contradictory lengths");
    }
    Ok(())
}

impl Frames {
    fn is_empty(&self) -> bool {
        self.pieces.is_empty() && self.end.is_none()
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
            let last = self.pieces.is_empty() && matches!(self.end, Some(End::Body));
            if last {
                self.end = None;
            }
            body.send_data(part, last).map_err(|_| ())?;
        }
        let ended = match self.end.take() {
            None => Ok(()),
            Some(End::Body) => body.send_data(Bytes::new(), true),
            Some(End::Trailers(trailers)) => body.send_trailers(trailers),
        };
        Poll::Ready(ended.map_err(|_| ()))
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
