//! A request as a stream of an HTTP/2 connection.

use super::Piece;
use crate::headers::{RequestHeader, ResponseHeader};
use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::header::{CONNECTION, CONTENT_LENGTH, DATE, HOST, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, HeaderName, Request, Response, StatusCode};
use pingora_core::protocols::http::date::get_cached_date;
use pingora_error::{Error, ErrorType, OrErr, Result};
use std::future::poll_fn;
use std::task::{Context, Poll, ready};

/// A stream as the codec gives it out.
pub(in crate::downstream) type Accepted = (Request<RecvStream>, SendResponse<Bytes>);

/// What speaks of the connection in HTTP/1 has no place in HTTP/2 (RFC 9113, 8.2.2).
const CONNECTION_HEADERS: [HeaderName; 5] = [
    CONNECTION,
    TRANSFER_ENCODING,
    UPGRADE,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
];

pub(super) struct Http2 {
    head: RequestHeader,
    body: RecvStream,
    /// Whether a piece of the body was read.
    begun: bool,
    respond: SendResponse<Bytes>,
    /// There once the head of the response was written.
    out: Option<SendStream<Bytes>>,
    /// The response has its end.
    ended: bool,
}

/// A malformed request was answered, or its stream reset.
#[derive(Debug)]
pub(in crate::downstream) struct Refused;

impl Http2 {
    /// # Errors
    /// When the head is not one that may be served.
    pub(super) fn new((request, mut respond): Accepted) -> std::result::Result<Self, Refused> {
        let (head, body) = request.into_parts();
        let head = RequestHeader::from(head);
        if is_ambiguous(&head) {
            respond.send_reset(Reason::PROTOCOL_ERROR);
            return Err(Refused);
        }
        if contradicts_authority(&head) {
            let mut response = Response::new(());
            *response.status_mut() = StatusCode::BAD_REQUEST;
            // A client that has reset the stream meanwhile does not want to hear it.
            let _ = respond.send_response(response, true);
            return Err(Refused);
        }
        Ok(Self {
            head,
            body,
            begun: false,
            respond,
            out: None,
            ended: false,
        })
    }

    pub(super) fn head(&self) -> &RequestHeader {
        &self.head
    }

    pub(super) fn head_mut(&mut self) -> &mut RequestHeader {
        &mut self.head
    }

    pub(super) fn is_bodiless(&self) -> bool {
        let length = self.head.headers.get(CONTENT_LENGTH);
        !self.begun
            && (self.body.is_end_stream() || length.is_some_and(|length| length.as_bytes() == b"0"))
    }

    pub(super) fn is_read(&self) -> bool {
        self.body.is_end_stream() || self.is_bodiless()
    }

    pub(super) async fn read(&mut self) -> Result<Piece> {
        poll_fn(|cx| self.poll_read(cx)).await
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<Result<Piece>> {
        let failed = "while reading request body";
        if let Some(bytes) = ready!(self.body.poll_data(cx)) {
            let bytes = bytes.or_err(ErrorType::ReadError, failed)?;
            self.begun = true;
            self.body
                .flow_control()
                .release_capacity(bytes.len())
                .or_err(ErrorType::ReadError, failed)?;
            return Poll::Ready(Ok(Piece::Body(bytes)));
        }
        let trailers = ready!(self.body.poll_trailers(cx));
        let trailers = trailers.or_err(ErrorType::ReadError, "while reading request trailers")?;
        Poll::Ready(Ok(trailers.map_or(Piece::End, Piece::Trailers)))
    }

    /// Waits until the client gives the stream up, and says how.
    pub(super) async fn left(&mut self) -> Box<Error> {
        let reason = poll_fn(|cx| match &mut self.out {
            Some(out) => out.poll_reset(cx),
            None => self.respond.poll_reset(cx),
        })
        .await;
        match reason {
            Ok(reason) => Error::explain(ErrorType::H2Error, format!("client left: {reason}")),
            Err(error) => Error::because(ErrorType::H2Error, "while the client waited", error),
        }
    }

    pub(super) fn write_head(&mut self, mut head: ResponseHeader, end: bool) -> Result<()> {
        if self.out.is_some() {
            return Error::e_explain(ErrorType::InternalError, "a second response");
        }
        if !head.headers.contains_key(DATE) {
            head.insert_header(DATE, get_cached_date())?;
        }
        for name in &CONNECTION_HEADERS {
            head.remove_header(name);
        }
        let response = Response::from_parts(head.into(), ());
        let out = self
            .respond
            .send_response(response, end)
            .or_err(ErrorType::WriteError, "while writing response head")?;
        self.out = Some(out);
        self.ended = end;
        Ok(())
    }

    pub(super) async fn write_body(&mut self, mut bytes: Bytes, end: bool) -> Result<()> {
        let failed = "while writing response body";
        let out = writer(&mut self.out, self.ended)?;
        while !bytes.is_empty() {
            out.reserve_capacity(bytes.len());
            let room = match out.capacity() {
                0 => poll_fn(|cx| out.poll_capacity(cx))
                    .await
                    .unwrap_or(Err(Reason::CANCEL.into()))
                    .or_err(ErrorType::WriteError, failed)?,
                room => room,
            };
            let part = bytes.split_to(room.min(bytes.len()));
            let last = end && bytes.is_empty();
            out.send_data(part, last)
                .or_err(ErrorType::WriteError, failed)?;
            self.ended = last;
        }
        if end && !self.ended {
            out.send_data(bytes, true)
                .or_err(ErrorType::WriteError, failed)?;
            self.ended = true;
        }
        Ok(())
    }

    pub(super) fn write_trailers(&mut self, trailers: HeaderMap) -> Result<()> {
        let out = writer(&mut self.out, self.ended)?;
        out.send_trailers(trailers)
            .or_err(ErrorType::WriteError, "while writing response trailers")?;
        self.ended = true;
        Ok(())
    }

    pub(super) fn finish(mut self) -> Result<()> {
        if let (Some(out), false) = (&mut self.out, self.ended) {
            out.send_data(Bytes::new(), true)
                .or_err(ErrorType::WriteError, "while ending response")?;
        }
        Ok(())
    }

    pub(super) fn abort(mut self) {
        if !self.ended {
            self.respond.send_reset(Reason::INTERNAL_ERROR);
        }
    }
}

fn writer(out: &mut Option<SendStream<Bytes>>, ended: bool) -> Result<&mut SendStream<Bytes>> {
    match out {
        Some(out) if !ended => Ok(out),
        _ => Error::e_explain(ErrorType::InternalError, "body outside of a response"),
    }
}

/// Whether what is forwarded over HTTP/1 could be read in two ways: by a target that ends
/// early, or by several lengths.
fn is_ambiguous(head: &RequestHeader) -> bool {
    let ends = |byte: &u8| matches!(byte, 0 | b'\r' | b'\n' | b' ');
    let mut lengths = head.headers.get_all(CONTENT_LENGTH).iter();
    let first = lengths.next();
    head.raw_path().iter().any(ends) || lengths.any(|length| Some(length) != first)
}

/// Whether `Host` and `:authority` name two hosts, or neither one.
fn contradicts_authority(head: &RequestHeader) -> bool {
    let mut hosts = head.headers.get_all(HOST).iter();
    let host = hosts.next();
    match (head.uri.authority(), host) {
        _ if hosts.next().is_some() => true,
        (Some(authority), Some(host)) => authority.as_str().as_bytes() != host.as_bytes(),
        (authority, host) => authority.is_none() && host.is_none(),
    }
}
