//! What an HTTP/1.1 upstream has not taken yet.
//!
//! One task serves both directions of an exchange. If it waited for the upstream
//! to take a piece of the request, and the upstream for us to take a piece of
//! its response, both would wait for ever. So writing never waits: what the
//! socket does not take at once lies here, and goes out while the response is
//! waited for. Who sends asks whether it is empty before it takes more from the
//! client, so that no more than a piece of a body lies here.

use bytes::{Buf, BytesMut};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::AsyncWrite;

/// Bytes on their way. Holds memory only while there are any.
#[derive(Debug, Default)]
pub(super) struct Unsent {
    bytes: BytesMut,
    /// Nothing is taken any more.
    broken: bool,
    /// Something has not gone out, or was not flushed.
    waits: bool,
}

impl Unsent {
    /// Whether all that was written has gone out. Reading is what sends.
    pub(super) fn is_empty(&self) -> bool {
        !self.waits
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
        if self.is_empty()
            && let Poll::Ready(written) = poll_slices(stream, cx, slices)
        {
            return Poll::Ready(written);
        }
        self.waits = true;
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
        self.waits = true;
        match self.poll_empty(stream, cx) {
            Poll::Pending => Poll::Ready(Ok(())),
            flushed => flushed,
        }
    }

    /// Sends what can be sent, for as long as something is left. A failure shows
    /// in the next write; what the upstream has still said can be read before.
    pub(super) fn push(&mut self, stream: &mut (impl AsyncWrite + Unpin), cx: &mut Context<'_>) {
        if !self.is_empty() {
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
        self.waits = false;
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

/// Writes; the kernel takes one slice for less than a vector of one.
pub(super) fn poll_slices(
    stream: &mut (impl AsyncWrite + Unpin),
    cx: &mut Context<'_>,
    slices: &[IoSlice<'_>],
) -> Poll<io::Result<usize>> {
    match slices {
        [slice] => Pin::new(stream).poll_write(cx, slice),
        slices => Pin::new(stream).poll_write_vectored(cx, slices),
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
        assert!(!unsent.is_empty());
        let mut got = [0; 10];
        let sending = poll_fn(|cx| {
            unsent.push(&mut near, cx);
            match unsent.is_empty() {
                true => Poll::Ready(()),
                false => Poll::Pending,
            }
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
        assert!(unsent.is_empty());
        let written = poll_fn(|cx| unsent.poll_write(&mut near, cx, &slices)).await;
        assert!(written.is_err());
    }
}
