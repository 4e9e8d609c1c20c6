//! One direction of a relay: what is under way, and where it stands.

use bytes::{Buf, Bytes};
use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// How much is read at once: four TLS records, which rustls then sends with one call.
const BUFFER: usize = 64 * 1024;

thread_local! {
    /// Where bytes pass through; one for all relays of a thread, as each leaves it
    /// empty. So an idle relay holds no buffer.
    static PASSAGE: RefCell<Box<[u8]>> = RefCell::new(vec![0; BUFFER].into());
}

/// Copies from one side to the other until the first has closed and the second
/// has been told.
#[derive(Debug)]
pub(super) struct Direction {
    /// Read, and not taken yet by the other side.
    held: Bytes,
    state: State,
    needs_flush: bool,
    /// Bytes that have been written.
    pub(super) copied: u64,
    counted: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Copying,
    Closing,
    Done,
}

/// Where a direction stands after a poll.
#[derive(Debug)]
pub(super) enum Step {
    /// It waits for a side.
    Running,
    /// Its end has gone through.
    Done,
    /// The side it reads from failed.
    ReadFailed(io::Error),
    /// The side it writes to failed.
    WriteFailed(io::Error),
}

/// A failure, and whether reading brought it.
struct Failure {
    reading: bool,
    error: io::Error,
}

impl Default for Direction {
    fn default() -> Self {
        Self {
            held: Bytes::new(),
            state: State::Copying,
            needs_flush: false,
            copied: 0,
            counted: 0,
        }
    }
}

impl Direction {
    pub(super) fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Bytes that were copied since the last call.
    pub(super) fn take_uncounted(&mut self) -> u64 {
        let new = self.copied - self.counted;
        self.counted = self.copied;
        new
    }

    pub(super) fn poll<R, W>(&mut self, cx: &mut Context<'_>, from: &mut R, to: &mut W) -> Step
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        match self.advance(cx, from, to) {
            Poll::Pending => Step::Running,
            Poll::Ready(Ok(())) => Step::Done,
            Poll::Ready(Err(Failure {
                reading: true,
                error,
            })) => Step::ReadFailed(error),
            Poll::Ready(Err(failure)) => Step::WriteFailed(failure.error),
        }
    }

    fn advance<R, W>(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut R,
        to: &mut W,
    ) -> Poll<Result<(), Failure>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        let writing = |error| Failure {
            reading: false,
            error,
        };
        while self.state == State::Copying {
            ready!(self.write_held(cx, to)).map_err(writing)?;
            match self.pass(cx, from, to) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(failure)) => return Poll::Ready(Err(failure)),
                Poll::Pending => {
                    if self.needs_flush {
                        ready!(Pin::new(&mut *to).poll_flush(cx)).map_err(writing)?;
                        self.needs_flush = false;
                    }
                    return Poll::Pending;
                }
            }
        }
        if self.state == State::Closing {
            ready!(Pin::new(&mut *to).poll_shutdown(cx))
                .or_else(ignore_closed)
                .map_err(writing)?;
            self.state = State::Done;
        }
        Poll::Ready(Ok(()))
    }

    /// Reads once and writes what the other side takes of it; pending when there is nothing
    /// to read.
    fn pass<R, W>(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut R,
        to: &mut W,
    ) -> Poll<Result<(), Failure>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        PASSAGE.with_borrow_mut(|passage| {
            let mut buffer = ReadBuf::new(passage);
            let read = ready!(Pin::new(from).poll_read(cx, &mut buffer));
            read.map_err(|error| Failure {
                reading: true,
                error,
            })?;
            let mut rest = buffer.filled();
            if rest.is_empty() {
                self.state = State::Closing;
            }
            while !rest.is_empty() {
                match self.write(cx, to, rest) {
                    Poll::Ready(Ok(written)) => rest = &rest[written..],
                    Poll::Ready(Err(error)) => {
                        return Poll::Ready(Err(Failure {
                            reading: false,
                            error,
                        }));
                    }
                    // The other side wakes us, and takes this first.
                    Poll::Pending => {
                        self.held = Bytes::copy_from_slice(rest);
                        break;
                    }
                }
            }
            Poll::Ready(Ok(()))
        })
    }

    fn write_held<W: AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        to: &mut W,
    ) -> Poll<io::Result<()>> {
        while !self.held.is_empty() {
            let held = self.held.clone();
            let written = ready!(self.write(cx, to, &held))?;
            self.held.advance(written);
        }
        // Its memory would stay for as long as the relay.
        self.held = Bytes::new();
        Poll::Ready(Ok(()))
    }

    /// Writes some of `bytes`.
    fn write<W: AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        to: &mut W,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(to).poll_write(cx, bytes))?;
        if written == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        self.copied += written as u64;
        self.needs_flush = true;
        Poll::Ready(Ok(written))
    }
}

/// Closing towards a side that has closed both ways already is no failure.
fn ignore_closed(error: io::Error) -> io::Result<()> {
    match error.kind() {
        io::ErrorKind::NotConnected => Ok(()),
        _ => Err(error),
    }
}
