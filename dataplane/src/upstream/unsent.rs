//! What an HTTP/1.1 upstream has not taken yet.
//!
//! One task serves both directions of an exchange. If it waited for the upstream
//! to take a piece of the request, and the upstream for us to take a piece of
//! its response, both would wait for ever. So writing never waits: what the
//! socket does not take at once lies here, and goes out while the response is
//! waited for. Who sends looks at the [`Backlog`] before it takes more from the
//! client, so that no more than a piece of a body lies here.

use bytes::{Buf, BytesMut};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use tokio::io::AsyncWrite;

/// Whether an upstream has something left to take.
#[derive(Debug, Clone, Default)]
pub(crate) struct Backlog(Arc<AtomicBool>);

impl Backlog {
    /// Whether all that was written has gone out.
    pub(crate) fn is_empty(&self) -> bool {
        !self.0.load(Ordering::Relaxed)
    }

    /// Ready once all has gone out. Wakes nobody: the task that waits is the one
    /// that reads, and reading is what sends.
    pub(crate) fn poll_empty(&self) -> Poll<()> {
        if self.is_empty() {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }
}

/// Bytes on their way. Holds memory only while there are any.
#[derive(Debug, Default)]
pub(super) struct Unsent {
    bytes: BytesMut,
    /// Nothing is taken any more.
    broken: bool,
    backlog: Backlog,
}

impl Unsent {
    pub(super) fn backlog(&self) -> &Backlog {
        &self.backlog
    }

    /// Takes everything, at once or later.
    pub(super) fn poll_write(
        &mut self,
        stream: &mut (impl AsyncWrite + Unpin),
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.broken {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        if self.backlog.is_empty()
            && let Poll::Ready(written) = Pin::new(stream).poll_write_vectored(cx, slices)
        {
            return Poll::Ready(written);
        }
        self.backlog.0.store(true, Ordering::Relaxed);
        for slice in slices {
            self.bytes.extend_from_slice(slice);
        }
        Poll::Ready(Ok(slices.iter().map(|slice| slice.len()).sum()))
    }

    /// Flushes as far as it goes without waiting; the rest goes out with [`Unsent::push`].
    pub(super) fn poll_flush(
        &mut self,
        stream: &mut (impl AsyncWrite + Unpin),
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        self.backlog.0.store(true, Ordering::Relaxed);
        match self.poll_empty(stream, cx) {
            Poll::Pending => Poll::Ready(Ok(())),
            flushed => flushed,
        }
    }

    /// Sends what can be sent, for as long as something is left. A failure shows
    /// in the next write; what the upstream has still said can be read before.
    pub(super) fn push(&mut self, stream: &mut (impl AsyncWrite + Unpin), cx: &mut Context<'_>) {
        if !self.backlog.is_empty() {
            // Ready with a failure, or pending: both are remembered in here.
            let _ = self.poll_empty(stream, cx);
        }
    }

    fn poll_empty(
        &mut self,
        stream: &mut (impl AsyncWrite + Unpin),
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        let result = ready!(self.poll_send(stream, cx));
        self.broken = result.is_err();
        self.bytes = BytesMut::new();
        self.backlog.0.store(false, Ordering::Relaxed);
        Poll::Ready(result)
    }

    fn poll_send(
        &mut self,
        stream: &mut (impl AsyncWrite + Unpin),
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        while self.bytes.has_remaining() {
            match ready!(Pin::new(&mut *stream).poll_write(cx, &self.bytes))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => self.bytes.advance(written),
            }
        }
        Pin::new(stream).poll_flush(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::Unsent;
    use std::future::poll_fn;
    use std::io::IoSlice;
    use std::task::Poll;
    use tokio::io::AsyncReadExt;

    #[tokio::test]
    async fn takes_everything_and_sends_it_in_order() {
        let (mut near, mut far) = tokio::io::duplex(4);
        let mut unsent = Unsent::default();
        for text in ["abcd", "efgh", "ij"] {
            let slices = [IoSlice::new(text.as_bytes())];
            let written = poll_fn(|cx| unsent.poll_write(&mut near, cx, &slices)).await;
            assert_eq!(written.unwrap(), text.len());
        }
        assert!(!unsent.backlog().is_empty());
        let mut got = [0; 10];
        let sending = poll_fn(|cx| {
            unsent.push(&mut near, cx);
            unsent.backlog().poll_empty()
        });
        let (read, ()) = tokio::join!(far.read_exact(&mut got), sending);
        read.unwrap();
        assert_eq!(&got, b"abcdefghij");
    }

    #[tokio::test]
    async fn a_failure_shows_in_the_next_write() {
        let (mut near, far) = tokio::io::duplex(4);
        let mut unsent = Unsent::default();
        let slices = [IoSlice::new(b"abcdefgh")];
        for _ in 0..2 {
            poll_fn(|cx| unsent.poll_write(&mut near, cx, &slices))
                .await
                .unwrap();
        }
        drop(far);
        poll_fn(|cx| {
            unsent.push(&mut near, cx);
            Poll::Ready(())
        })
        .await;
        assert!(unsent.backlog().is_empty());
        let written = poll_fn(|cx| unsent.poll_write(&mut near, cx, &slices)).await;
        assert!(written.is_err());
    }
}
