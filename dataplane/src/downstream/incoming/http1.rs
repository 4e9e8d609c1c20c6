//! A request on an HTTP/1 connection. What the stream hands over is sound and of
//! this request alone: the guard below has seen to both.

use super::Piece;
use crate::headers::{RequestHeader, ResponseHeader};
use crate::http1::{self, BodyReader, BodyWriter, Chunks};
use bytes::{Bytes, BytesMut};
use http::header::{CONNECTION, CONTENT_LENGTH, DATE, TRANSFER_ENCODING};
use http::{Method, StatusCode, Uri, Version};
use pingora_core::protocols::http::date::get_cached_date;
use pingora_core::protocols::{Shutdown, Stream};
use pingora_error::ErrorType::{
    ConnectionClosed, InternalError, InvalidHTTPHeader, ReadError, WriteError,
};
use pingora_error::{BError, Error, OrErr, Result};
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Room for an ordinary head with a small body.
const FIRST_READ: usize = 4 * 1024;

/// Room for an ordinary head of a response.
const HEAD: usize = 1024;

/// Most header lines that are read: the guard knows a lower limit.
const MOST_HEADERS: usize = u16::MAX as usize;

pub(super) struct Http1 {
    stream: Stream,
    head: Option<Box<RequestHeader>>,
    /// What was read and not yet taken.
    read: BytesMut,
    body: BodyReader,
    /// No body was announced.
    bodiless: bool,
    /// How the response's body is framed; there once its head was written.
    out: Option<BodyWriter>,
    /// The response has its end.
    ended: bool,
    /// Whether another request may follow.
    keep_alive: bool,
    upgraded: bool,
}

impl Http1 {
    pub(super) fn new(stream: Stream) -> Self {
        Self {
            stream,
            head: None,
            read: BytesMut::new(),
            body: BodyReader::Done,
            bodiless: true,
            out: None,
            ended: false,
            keep_alive: true,
            upgraded: false,
        }
    }

    /// `false` where the client has left instead.
    pub(super) async fn read_head(&mut self) -> Result<bool> {
        poll_fn(|cx| self.poll_head(cx)).await
    }

    fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool>> {
        loop {
            let mut searched = 0;
            match http1::end_of_head(&self.read, &mut searched) {
                // The one empty line in front that is forgiven.
                Ok(Some(2)) => drop(self.read.split_to(2)),
                Ok(Some(length)) => {
                    let head = self.read.split_to(length).freeze();
                    self.take_head(&head)?;
                    return Poll::Ready(Ok(true));
                }
                Ok(None) => match self.poll_read(cx, FIRST_READ) {
                    Poll::Ready(Ok(0) | Err(_)) if self.read.is_empty() => {
                        return Poll::Ready(Ok(false));
                    }
                    Poll::Ready(Ok(0)) => return Poll::Ready(Err(broken_off())),
                    Poll::Ready(read) => drop(read.or_err(ReadError, "reading a head")?),
                    Poll::Pending => {
                        if self.read.is_empty() {
                            // A connection at rest holds no memory for what may come.
                            self.read = BytesMut::new();
                        }
                        return Poll::Pending;
                    }
                },
                Err(_) => return Poll::Ready(Err(malformed())),
            }
        }
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, room: usize) -> Poll<io::Result<usize>> {
        if self.read.capacity() - self.read.len() < room / 2 {
            self.read.reserve(room);
        }
        pin!(self.stream.read_buf(&mut self.read)).poll(cx)
    }

    fn take_head(&mut self, bytes: &Bytes) -> Result<()> {
        let head = parse(bytes).ok_or_else(malformed)?;
        let options = head.headers.get_all(CONNECTION);
        let has = |wanted: &[u8]| {
            let mut all = options.iter().flat_map(|value| {
                let options = value.as_bytes().split(|byte| *byte == b',');
                options.map(<[u8]>::trim_ascii)
            });
            all.any(|option| option.eq_ignore_ascii_case(wanted))
        };
        self.keep_alive = match head.version {
            Version::HTTP_11 => !has(b"close"),
            _ => has(b"keep-alive") && !has(b"close"),
        };
        let length = head.headers.get(CONTENT_LENGTH);
        self.body = if head.headers.contains_key(TRANSFER_ENCODING) {
            BodyReader::Chunked(Chunks::default())
        } else {
            let length = length.map(|length| length.to_str().unwrap_or_default().parse());
            let length = length.unwrap_or(Ok(0)).map_err(|_| malformed())?;
            BodyReader::of_length(length)
        };
        self.bodiless = self.body.is_done();
        self.head = Some(Box::new(head));
        Ok(())
    }

    /// # Panics
    /// Before a head was read.
    pub(super) fn head(&self) -> &RequestHeader {
        self.head.as_deref().expect("a head was read")
    }

    /// # Panics
    /// Before a head was read.
    pub(super) fn head_mut(&mut self) -> &mut RequestHeader {
        self.head.as_deref_mut().expect("a head was read")
    }

    pub(super) fn is_bodiless(&self) -> bool {
        self.bodiless
    }

    pub(super) fn is_read(&self) -> bool {
        self.body.is_done()
    }

    pub(super) async fn read(&mut self) -> Result<Piece> {
        poll_fn(|cx| self.poll_body(cx)).await
    }

    fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Result<Piece>> {
        loop {
            let piece = self.body.take(&mut self.read);
            match piece.map_err(|_| malformed())? {
                Some(bytes) if bytes.is_empty() => return Poll::Ready(Ok(Piece::End)),
                Some(bytes) => return Poll::Ready(Ok(Piece::Body(bytes))),
                None if self.body.is_done() => return Poll::Ready(Ok(Piece::End)),
                None => {}
            }
            let room = self.body.room();
            let count = ready!(self.poll_read(cx, room));
            if count.or_err(ReadError, "reading a body")? > 0 {
                continue;
            }
            return Poll::Ready(match self.body {
                BodyReader::UntilClose => {
                    self.body = BodyReader::Done;
                    Ok(Piece::End)
                }
                _ => Err(broken_off()),
            });
        }
    }

    /// Waits until the client leaves, and says how.
    pub(super) async fn left(&mut self) -> BError {
        let mut unexpected = [0; 64];
        match self.stream.read(&mut unexpected).await {
            Ok(0) => Error::explain(ConnectionClosed, "the client has left"),
            Ok(_) => Error::explain(ConnectionClosed, "bytes behind the end of a body"),
            Err(error) => Error::because(ReadError, "while the client waited", error),
        }
    }

    pub(super) fn keep_alive(&mut self, keep: bool) {
        self.keep_alive &= keep;
    }

    pub(super) async fn write_head(&mut self, mut head: ResponseHeader, end: bool) -> Result<()> {
        if self.out.is_some() {
            return Error::e_explain(InternalError, "a second response");
        }
        let switches = head.status == StatusCode::SWITCHING_PROTOCOLS;
        let out = self.framing(&head);
        // Who has still to send a body would take the answer for a leave to go on sending.
        self.keep_alive &= self.body.is_done() && !switches && out != BodyWriter::Raw;
        if !switches {
            head.remove_header(CONNECTION);
        }
        let mut wire = Vec::with_capacity(HEAD);
        http1::response_line(head.status, &mut wire);
        http1::put_headers(&head.headers, &mut wire);
        if !switches {
            let option: &[u8] = match self.keep_alive {
                true => b"connection: keep-alive\r\n",
                false => b"connection: close\r\n",
            };
            wire.extend_from_slice(option);
        }
        if !head.headers.contains_key(DATE) && !switches {
            wire.extend_from_slice(b"date: ");
            wire.extend_from_slice(get_cached_date().as_bytes());
            wire.extend_from_slice(b"\r\n");
        }
        wire.extend_from_slice(b"\r\n");
        self.out = Some(out);
        if switches {
            self.upgraded = true;
            self.body = BodyReader::UntilClose;
        }
        self.ended = end;
        self.send(&mut [IoSlice::new(&wire)], end || switches).await
    }

    /// How the body behind a response's head is framed.
    fn framing(&self, head: &ResponseHeader) -> BodyWriter {
        let bodiless = self.head().method == Method::HEAD
            || matches!(
                head.status,
                StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED
            );
        if bodiless {
            return BodyWriter::Length(0);
        }
        if head.headers.contains_key(TRANSFER_ENCODING) {
            return BodyWriter::Chunked;
        }
        let length = head.headers.get(CONTENT_LENGTH);
        let length = length.and_then(|length| length.to_str().ok()?.parse().ok());
        length.map_or(BodyWriter::Raw, BodyWriter::Length)
    }

    pub(super) async fn write_interim(&mut self, head: &ResponseHeader) -> Result<()> {
        let mut wire = Vec::with_capacity(HEAD);
        http1::response_line(head.status, &mut wire);
        http1::put_headers(&head.headers, &mut wire);
        wire.extend_from_slice(b"\r\n");
        self.send(&mut [IoSlice::new(&wire)], true).await
    }

    pub(super) async fn write_body(&mut self, bytes: &[u8], end: bool) -> Result<()> {
        let Some(out) = &mut self.out else {
            return Error::e_explain(InternalError, "body outside of a response");
        };
        let framed = out.frame(bytes, end);
        self.ended |= end;
        let mut slices = [
            IoSlice::new(framed.before.as_bytes()),
            IoSlice::new(&bytes[..framed.count]),
            IoSlice::new(framed.behind),
        ];
        self.send(&mut slices, end).await
    }

    /// Hands bytes to the stream, which gathers small ones until they are flushed, or until the
    /// client is waited for.
    async fn send(&mut self, mut slices: &mut [IoSlice<'_>], flush: bool) -> Result<()> {
        IoSlice::advance_slices(&mut slices, 0);
        let stream = &mut self.stream;
        let sent = poll_fn(|cx| {
            while !slices.is_empty() {
                match ready!(Pin::new(&mut *stream).poll_write_vectored(cx, slices))? {
                    0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                    written => IoSlice::advance_slices(&mut slices, written),
                }
            }
            match flush {
                true => Pin::new(&mut *stream).poll_flush(cx),
                false => Poll::Ready(Ok(())),
            }
        });
        sent.await.or_err(WriteError, "writing a response")
    }

    /// Hands on what was gathered.
    pub(super) async fn flush(&mut self) -> Result<()> {
        let flushed = self.stream.flush().await;
        flushed.or_err(WriteError, "writing a response")
    }

    pub(super) fn was_upgraded(&self) -> bool {
        self.upgraded
    }

    /// Ends the response; the stream, where another request may follow.
    pub(super) async fn finish(mut self) -> Result<Option<Stream>> {
        if !self.ended && self.out.is_some() {
            self.write_body(&[], true).await?;
        }
        self.flush().await?;
        let is_whole = self.out.is_none_or(BodyWriter::is_whole);
        // The guard hands over nothing of the next request; if it ever did, that would be lost.
        if self.keep_alive && is_whole && self.body.is_done() && self.read.is_empty() {
            return Ok(Some(self.stream));
        }
        Shutdown::shutdown(&mut *self.stream).await;
        Ok(None)
    }

    pub(super) async fn abort(mut self) {
        Shutdown::shutdown(&mut *self.stream).await;
    }
}

/// Reads a head that the guard has found sound; `None` where it is none to us.
pub(in crate::downstream) fn parse(bytes: &Bytes) -> Option<RequestHeader> {
    let end = memchr::memchr(b'\r', bytes)?;
    let method = memchr::memchr(b' ', &bytes[..end])?;
    let target = memchr::memrchr(b' ', &bytes[..end])?;
    let mut request = http::Request::new(());
    *request.method_mut() = Method::from_bytes(&bytes[..method]).ok()?;
    *request.version_mut() = match &bytes[target + 1..end] {
        b"HTTP/1.1" => Version::HTTP_11,
        b"HTTP/1.0" => Version::HTTP_10,
        _ => return None,
    };
    *request.uri_mut() = origin_form(bytes.slice(method + 1..target))?;
    *request.headers_mut() = http1::header_lines(bytes, end + 2, MOST_HEADERS).ok()?;
    let (parts, ()) = request.into_parts();
    Some(parts.into())
}

/// Path and query of a target. The authority of one in absolute form is that of `Host`: the
/// guard has compared them.
fn origin_form(target: Bytes) -> Option<Uri> {
    if target.starts_with(b"/") || &target[..] == b"*" {
        return Uri::from_maybe_shared(target).ok();
    }
    let authority = memchr::memmem::find(&target, b"://")? + 3;
    match memchr::memchr2(b'/', b'?', &target[authority..]) {
        None => Some(Uri::from_static("/")),
        Some(length) if target[authority + length] == b'/' => {
            Uri::from_maybe_shared(target.slice(authority + length..)).ok()
        }
        Some(length) => Uri::try_from([b"/", &target[authority + length..]].concat()).ok(),
    }
}

fn malformed() -> BError {
    Error::explain(InvalidHTTPHeader, "malformed request")
}

fn broken_off() -> BError {
    Error::explain(ConnectionClosed, "the client has left within a request")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_an_absolute_target_path_and_query_are_left() {
        for (target, expected) in [
            ("/a?b", "/a?b"),
            ("*", "*"),
            ("http://shop.test", "/"),
            ("http://shop.test/a?b=/c", "/a?b=/c"),
            ("http://shop.test?b", "/?b"),
            ("http://sho%2Fp.test:80/a", "/a"),
        ] {
            let uri = origin_form(Bytes::from_static(target.as_bytes())).unwrap();
            assert_eq!(uri.to_string(), expected, "{target}");
        }
        assert_eq!(origin_form(Bytes::from_static(b"shop.test:443")), None);
    }
}
