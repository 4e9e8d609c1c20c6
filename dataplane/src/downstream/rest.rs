//! A connection between two requests of HTTP/1.
//!
//! Whoever reads a head needs a session and room for the head, some 6 kB together. Most
//! connections wait for their next request nearly all the time, so nobody reads before
//! there is something to be read.

use super::Downstream;
use super::reader::Phase;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};

impl<A> Downstream<A> {
    /// Returns once a read has something to say: bytes, the end, or that the connection is to
    /// end because it was idle for too long or its listener drains.
    pub(crate) async fn rest(&mut self) {
        poll_fn(|cx| self.poll_rest(cx)).await;
    }

    fn poll_rest(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let rests = self.phase == Phase::Http1
            && self.guard.expects_head()
            && self.approved == 0
            && self.inbox.is_empty()
            && !self.connection.is_upgraded();
        if !rests || Pin::new(&mut self.wire).poll_readable(cx).is_ready() {
            return Poll::Ready(());
        }
        if self.poll_pending_writes(cx).is_err() {
            // The read that follows meets the same error, and tells it.
            return Poll::Ready(());
        }
        self.poll_waiting(cx).map(drop)
    }
}
