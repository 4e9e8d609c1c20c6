//! What one turn of an HTTP/2 connection produces, in one write.
//!
//! The HTTP/2 codec flushes behind every frame with a payload, so each message of
//! a stream would be a system call, and a TLS record, of its own. Under
//! [`Gathered`] its flushes do nothing: [`Turns`], which drives the connection,
//! flushes when the connection has come to rest. What the codec takes amiss, but
//! peers do, is left out of what it reads: see `frames`.

mod frames;

use frames::Frames;
use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Most that is gathered: two full TLS records. A peer that does not read holds as much.
const MOST: usize = 32 * 1024;

/// What is not worth a copy, and leaves at once.
const BULK: usize = 8 * 1024;

thread_local! {
    /// Where the thread's connections gather, one after the other.
    static SPARE: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// A stream as the codec writes to it.
pub(crate) struct Gathered<S>(Arc<Mutex<Inner<S>>>);

/// The same stream, for who drives the connection.
pub(crate) struct Turns<S>(Arc<Mutex<Inner<S>>>);

/// Behind a mutex only so that the connection may be sent to the thread that serves it: one task
/// polls both ends, in turn, so nobody ever waits for it.
struct Inner<S> {
    stream: S,
    frames: Frames,
    buffer: Vec<u8>,
    written: usize,
    /// Why nothing is taken any more.
    failed: Option<io::ErrorKind>,
}

/// Both ends of a gathered stream, on which the peer sends frames behind so many bytes of
/// a preface.
pub(crate) fn gathered<S>(stream: S, preface: usize) -> (Gathered<S>, Turns<S>) {
    let inner = Arc::new(Mutex::new(Inner {
        stream,
        frames: Frames::behind(preface),
        buffer: Vec::new(),
        written: 0,
        failed: None,
    }));
    (Gathered(Arc::clone(&inner)), Turns(inner))
}

impl<S: AsyncWrite + Unpin> Turns<S> {
    /// Drives what moves the connection, and flushes wherever it waits.
    pub(crate) async fn drive<T>(&self, moving: impl Future<Output = T>) -> T {
        let mut moving = pin!(moving);
        poll_fn(|cx| {
            let moved = moving.as_mut().poll(cx);
            if moved.is_pending() {
                self.end_turn(cx);
            }
            moved
        })
        .await
    }

    /// Flushes as far as the socket takes it; the rest follows when it takes more.
    fn end_turn(&self, cx: &mut Context<'_>) {
        let mut inner = lock(&self.0);
        if inner.failed.is_none()
            && let Poll::Ready(Err(error)) = inner.poll_flush(cx)
        {
            inner.failed = Some(error.kind());
            // The codec hears of it at its next write.
            cx.waker().wake_by_ref();
        }
    }
}

impl<S: AsyncWrite + Unpin> Inner<S> {
    fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if let Some(kind) = self.failed {
            return Poll::Ready(Err(kind.into()));
        }
        let length: usize = slices.iter().map(|slice| slice.len()).sum();
        if length >= BULK || self.buffer.len() + length > MOST {
            ready!(self.poll_empty(cx))?;
            if length >= BULK {
                return Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
            }
        }
        if self.buffer.capacity() == 0 {
            self.buffer = SPARE.take();
            self.buffer.reserve(MOST);
        }
        for slice in slices {
            self.buffer.extend_from_slice(slice);
        }
        Poll::Ready(Ok(length))
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.buffer.capacity() > 0 {
            ready!(self.poll_empty(cx))?;
            SPARE.replace(std::mem::take(&mut self.buffer));
        }
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_empty(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.written < self.buffer.len() {
            let rest = &self.buffer[self.written..];
            match ready!(Pin::new(&mut self.stream).poll_write(cx, rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => self.written += written,
            }
        }
        self.buffer.clear();
        self.written = 0;
        Poll::Ready(Ok(()))
    }
}

/// A panic elsewhere leaves nothing half done here.
fn lock<S>(inner: &Mutex<Inner<S>>) -> MutexGuard<'_, Inner<S>> {
    inner.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<S: AsyncRead + Unpin> AsyncRead for Gathered<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut inner = lock(&self.0);
        let Inner { stream, frames, .. } = &mut *inner;
        frames.poll_read(stream, cx, out)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Gathered<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        lock(&self.0).poll_write(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        lock(&self.0).poll_write(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// Left to the end of the turn. A failure that came with the last one is told.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        match lock(&self.0).failed {
            Some(kind) => Poll::Ready(Err(kind.into())),
            None => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut inner = lock(&self.0);
        ready!(inner.poll_flush(cx))?;
        Pin::new(&mut inner.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::{BULK, gathered};
    use std::io::{self, IoSlice};
    use std::pin::Pin;
    use std::sync::{Arc, Mutex};
    use std::task::{Context, Poll};
    use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};

    /// Notes every write.
    #[derive(Clone, Default)]
    struct Writes(Arc<Mutex<Vec<Vec<u8>>>>);

    impl AsyncWrite for Writes {
        fn poll_write(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            self.0.lock().unwrap().push(bytes.to_vec());
            Poll::Ready(Ok(bytes.len()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn a_turn_leaves_in_one_write() {
        let writes = Writes::default();
        let (mut stream, turns) = gathered(writes.clone(), 0);
        let moving = async {
            for text in ["head", "message", "trailers"] {
                stream.write_all(text.as_bytes()).await.unwrap();
                stream.flush().await.unwrap();
            }
            assert!(writes.0.lock().unwrap().is_empty());
            tokio::task::yield_now().await;
            assert_eq!(*writes.0.lock().unwrap(), [b"headmessagetrailers"]);
            stream.write_all(b"end").await.unwrap();
            stream.shutdown().await.unwrap();
        };
        turns.drive(moving).await;
        assert_eq!(writes.0.lock().unwrap()[1..], [b"end"]);
    }

    #[tokio::test]
    async fn bulk_leaves_behind_what_came_before_it() {
        let writes = Writes::default();
        let (mut stream, turns) = gathered(writes.clone(), 0);
        let moving = async {
            stream.write_all(b"head").await.unwrap();
            let bulk = vec![7; BULK];
            let written = stream.write_vectored(&[IoSlice::new(&bulk)]).await;
            assert_eq!(written.unwrap(), BULK);
        };
        turns.drive(moving).await;
        let lengths: Vec<_> = writes.0.lock().unwrap().iter().map(Vec::len).collect();
        assert_eq!(lengths, [4, BULK]);
    }

    #[tokio::test]
    async fn what_the_peer_does_not_take_follows_when_it_does() {
        let (near, mut far) = tokio::io::duplex(4);
        let (mut stream, turns) = gathered(near, 0);
        let moving = async {
            stream.write_all(b"0123456789").await.unwrap();
            let mut got = [0; 10];
            far.read_exact(&mut got).await.unwrap();
            assert_eq!(&got, b"0123456789");
        };
        turns.drive(moving).await;
    }

    #[tokio::test]
    async fn a_failure_is_told_at_the_next_write() {
        let (near, far) = tokio::io::duplex(4);
        drop(far);
        let (mut stream, turns) = gathered(near, 0);
        let moving = async {
            stream.write_all(b"lost").await.unwrap();
            tokio::task::yield_now().await;
            let error = stream.write_all(b"more").await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
            assert!(stream.flush().await.is_err());
        };
        turns.drive(moving).await;
    }
}
