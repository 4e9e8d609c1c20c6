//! A client's connection, and the requests on it.
//!
//! [`Downstream`] lies between the socket and the HTTP sessions. It holds
//! every byte of an HTTP/1 head back until the guard has found it sound,
//! tells HTTP/2 from HTTP/1, keeps the deadlines of first byte, head, idle time
//! and stall, gathers small writes, and carries the [`Connection`] to wherever
//! a request of it is served.
//!
//! What a client does wrong is recorded in the connection; the session is given a
//! harmless stand-in for the head, so that the application answers in its usual
//! way, and then the end of the stream.

mod connection;
mod deadline;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;
mod guard;
mod incoming;
mod outbox;
mod reader;
mod rest;
mod rewound;
mod session;
pub(crate) mod streams;
#[cfg(test)]
mod tests;
mod violation;
mod wire;

pub use connection::{Connection, TlsFacts};
pub(crate) use deadline::{Deadline, Spares};
pub(crate) use incoming::{Incoming, Piece};
pub use rewound::Rewound;
pub use violation::Violation;
pub use wire::{Socket, Wire};

use bytes::BytesMut;
use guard::{Guard, HeadLimits};
use outbox::Outbox;
use reader::Phase;
use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::time::Instant;

/// The first bytes of HTTP/2 (RFC 9113, 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Room for the first read of a connection: an ordinary head.
const FIRST_READ: usize = 2048;

/// A client's connection that speaks HTTP.
pub struct Downstream<A> {
    wire: Wire,
    connection: Arc<Connection<A>>,
    /// Bytes that were read and not yet handed over.
    inbox: BytesMut,
    /// How many of them may be.
    approved: usize,
    phase: Phase,
    guard: Guard,
    /// Since when the reader has waited for what it waits for now.
    read_since: Option<Instant>,
    read_deadline: Deadline,
    outbox: Outbox,
    write_since: Option<Instant>,
    write_deadline: Deadline,
}

impl<A: Send + Sync + 'static> Downstream<A> {
    /// Waits for the first bytes and tells HTTP/2 from HTTP/1 by them.
    /// The caller keeps the deadline.
    ///
    /// # Errors
    /// When the client closes or resets the connection first.
    pub(crate) async fn open(mut wire: Wire, connection: Arc<Connection<A>>) -> io::Result<Self> {
        let alpn = connection.tls.as_ref().and_then(|tls| tls.http2);
        let mut inbox = BytesMut::with_capacity(FIRST_READ);
        let http2 = loop {
            if wire.read_buf(&mut inbox).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            match preface(&inbox, alpn) {
                Some(http2) => break http2,
                None => continue,
            }
        };
        let limits = connection.listener.state().model.limits;
        Ok(Self {
            wire,
            inbox,
            approved: 0,
            phase: if http2 { Phase::Raw } else { Phase::Http1 },
            guard: Guard::new(HeadLimits {
                bytes: limits.head_bytes as usize,
                headers: usize::from(limits.headers),
            }),
            read_since: Some(Instant::now()),
            read_deadline: Deadline::default(),
            outbox: if http2 {
                Outbox::direct()
            } else {
                Outbox::new()
            },
            write_since: None,
            write_deadline: Deadline::default(),
            connection,
        })
    }
}

impl<A> Downstream<A> {
    /// What is known of the connection.
    pub fn connection(&self) -> &Arc<Connection<A>> {
        &self.connection
    }

    /// Whether the client speaks HTTP/2.
    pub fn is_http2(&self) -> bool {
        matches!(self.phase, Phase::Raw) && !self.connection.is_upgraded()
    }

    /// Who waits for the client has said what it had to say.
    fn poll_pending_writes(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if self.outbox.is_empty() {
            return Ok(());
        }
        let progress = self.outbox.poll_flush(&mut self.wire, cx);
        match self.stalled(cx, progress) {
            Poll::Ready(Err(error)) => Err(error),
            Poll::Ready(Ok(())) | Poll::Pending => Ok(()),
        }
    }

    /// Fails a write that has made no progress for the stall deadline: a client
    /// that does not read would hold buffers and an upstream connection for ever.
    fn stalled<T>(
        &mut self,
        cx: &mut Context<'_>,
        progress: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if progress.is_ready() {
            self.write_since = None;
            return progress;
        }
        let stall = self.connection.listener.state().model.deadlines.stall;
        let since = *self.write_since.get_or_insert_with(Instant::now);
        match self.write_deadline.poll(cx, since + stall) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

/// Whether the connection is HTTP/2; `None` while the bytes could be either.
fn preface(bytes: &[u8], alpn: Option<bool>) -> Option<bool> {
    if alpn == Some(false) {
        return Some(false);
    }
    let compared = bytes.len().min(PREFACE.len());
    if bytes[..compared] != PREFACE[..compared] {
        // A client that agreed on HTTP/2 and speaks something else is told so in HTTP/2.
        return Some(alpn == Some(true));
    }
    (compared == PREFACE.len()).then_some(true)
}

impl<A> AsyncRead for Downstream<A> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let read = this.read(cx, out);
        if read.is_pending() {
            this.poll_pending_writes(cx)?;
        }
        read
    }
}

impl<A> AsyncWrite for Downstream<A> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let progress = this.outbox.poll_write(&mut this.wire, cx, bytes);
        this.stalled(cx, progress)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let progress = this.outbox.poll_write_vectored(&mut this.wire, cx, slices);
        this.stalled(cx, progress)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let progress = this.outbox.poll_flush(&mut this.wire, cx);
        this.stalled(cx, progress)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let progress = match this.outbox.poll_flush(&mut this.wire, cx) {
            Poll::Ready(Ok(())) => Pin::new(&mut this.wire).poll_shutdown(cx),
            unfinished => unfinished,
        };
        this.stalled(cx, progress)
    }
}

impl<A> fmt::Debug for Downstream<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Downstream")
            .field("connection", &self.connection)
            .field("phase", &self.phase)
            .finish_non_exhaustive()
    }
}
