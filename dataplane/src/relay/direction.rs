//! One direction of a relay: a buffer, and where it stands.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A TLS record's payload: with less, records would be cut; with more, memory
/// for each of many idle connections grows and the copy gains nothing.
const BUFFER: usize = 16 * 1024;

/// Copies from one side to the other until the first has closed and the second
/// has been told.
#[derive(Debug)]
pub(super) struct Direction {
    buffer: Box<[u8]>,
    filled: usize,
    written: usize,
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
            buffer: vec![0; BUFFER].into(),
            filled: 0,
            written: 0,
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
            ready!(self.write_out(cx, to)).map_err(writing)?;
            let mut buffer = ReadBuf::new(&mut self.buffer);
            match Pin::new(&mut *from).poll_read(cx, &mut buffer) {
                Poll::Ready(Ok(())) => {
                    self.filled = buffer.filled().len();
                    if self.filled == 0 {
                        self.state = State::Closing;
                    }
                }
                Poll::Ready(Err(error)) => {
                    return Poll::Ready(Err(Failure {
                        reading: true,
                        error,
                    }));
                }
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

    fn write_out<W: AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        to: &mut W,
    ) -> Poll<io::Result<()>> {
        while self.written < self.filled {
            let rest = &self.buffer[self.written..self.filled];
            let written = ready!(Pin::new(&mut *to).poll_write(cx, rest))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.written += written;
            self.copied += written as u64;
            self.needs_flush = true;
        }
        self.written = 0;
        self.filled = 0;
        Poll::Ready(Ok(()))
    }
}

/// Closing towards a side that has closed both ways already is no failure.
fn ignore_closed(error: io::Error) -> io::Result<()> {
    match error.kind() {
        io::ErrorKind::NotConnected => Ok(()),
        _ => Err(error),
    }
}
