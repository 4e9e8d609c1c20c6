//! Small writes gathered into large ones.

use super::wire::Wire;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::AsyncWrite;

/// Half a TLS record: a response's head and a small body leave in one, and a
/// connection that writes costs no more.
const CAPACITY: usize = 8 * 1024;

/// Bytes on their way to the wire. Takes memory at the first of them, and
/// gives it back when the connection rests.
#[derive(Debug)]
pub(super) struct Outbox {
    buffer: Vec<u8>,
    written: usize,
    capacity: usize,
}

impl Outbox {
    /// One that gathers.
    pub(super) fn new() -> Self {
        Self {
            buffer: Vec::new(),
            written: 0,
            capacity: CAPACITY,
        }
    }

    /// One that passes everything on, for who has gathered already.
    pub(super) fn direct() -> Self {
        Self {
            capacity: 0,
            ..Self::new()
        }
    }

    /// Takes bytes, or writes them at once where they are too many to gather.
    pub(super) fn poll_write(
        &mut self,
        wire: &mut Wire,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(wire, cx, &[IoSlice::new(bytes)])
    }

    /// As [`Outbox::poll_write`], from several slices.
    pub(super) fn poll_write_vectored(
        &mut self,
        wire: &mut Wire,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let length: usize = slices.iter().map(|slice| slice.len()).sum();
        if self.buffer.len() + length > self.capacity {
            ready!(self.poll_empty(wire, cx))?;
            if length > self.capacity {
                return Pin::new(wire).poll_write_vectored(cx, slices);
            }
        }
        if self.buffer.capacity() == 0 {
            self.buffer.reserve_exact(self.capacity);
        }
        for slice in slices {
            self.buffer.extend_from_slice(slice);
        }
        Poll::Ready(Ok(length))
    }

    /// Hands everything to the wire and flushes it.
    pub(super) fn poll_flush(
        &mut self,
        wire: &mut Wire,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(self.poll_empty(wire, cx))?;
        Pin::new(wire).poll_flush(cx)
    }

    /// Whether nothing waits in it.
    pub(super) fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }

    /// Gives the memory back if nothing waits in it.
    pub(super) fn release(&mut self) {
        if self.buffer.is_empty() {
            self.buffer = Vec::new();
        }
    }

    fn poll_empty(&mut self, wire: &mut Wire, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.written < self.buffer.len() {
            let rest = &self.buffer[self.written..];
            match ready!(Pin::new(&mut *wire).poll_write(cx, rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => self.written += written,
            }
        }
        self.buffer.clear();
        self.written = 0;
        Poll::Ready(Ok(()))
    }
}
