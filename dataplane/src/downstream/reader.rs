//! How bytes of a client reach the session that reads requests: approved by the guard, within deadlines.

use super::Downstream;
use super::guard::{BodyStep, HeadStep};
use super::violation::Violation;
use bytes::{Buf, BytesMut};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::time::Instant;

/// What the session reads in place of a head that was refused. `invalid` is a name
/// that no route can have (RFC 6761, 6.4).
const STAND_IN: &[u8] = b"GET / HTTP/1.1\r\nHost: invalid\r\nConnection: close\r\n\r\n";

/// How bytes are treated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// They are HTTP/1 and guarded.
    Http1,
    /// They pass: HTTP/2, or behind an upgrade.
    Raw,
    /// The stand-in is being read; so many of its bytes have been.
    StandIn(usize),
    /// Nothing more is read: the body broke a rule.
    Broken,
    /// Nothing more is read: the end.
    Ended,
}

impl<A> Downstream<A> {
    pub(super) fn read(
        &mut self,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if out.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        if self.approved > 0 {
            self.approved -= hand_over(&mut self.inbox, self.approved, out);
            return Poll::Ready(Ok(()));
        }
        if self.phase == Phase::Http1 && self.connection.is_upgraded() {
            self.phase = Phase::Raw;
        }
        match self.phase {
            Phase::Http1 => self.read_http1(cx, out),
            Phase::Raw if self.inbox.is_empty() => Pin::new(&mut self.wire).poll_read(cx, out),
            Phase::Raw => {
                hand_over(&mut self.inbox, usize::MAX, out);
                Poll::Ready(Ok(()))
            }
            Phase::StandIn(read) => {
                let rest = &STAND_IN[read..];
                let taken = rest.len().min(out.remaining());
                out.put_slice(&rest[..taken]);
                self.phase = Phase::StandIn(read + taken);
                Poll::Ready(Ok(()))
            }
            Phase::Broken => Poll::Ready(Err(io::ErrorKind::InvalidData.into())),
            Phase::Ended => Poll::Ready(Ok(())),
        }
    }

    fn read_http1(&mut self, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            if !self.inbox.is_empty() && !self.is_gated() {
                let bytes = std::mem::take(&mut self.inbox);
                self.approved = self.approve(&bytes);
                self.inbox = match self.guard.take_mending() {
                    Some(mending) => {
                        self.approved = mending.length(self.approved);
                        mending.apply(&bytes)
                    }
                    None => bytes,
                };
            }
            if self.approved > 0 || self.phase != Phase::Http1 {
                return self.read(cx, out);
            }
            if self.is_gated() && self.inbox.len() >= PIPELINE {
                // The client is ahead of us far enough; the next session reads on.
                return Poll::Pending;
            }
            if ready!(self.poll_wire(cx, out))? {
                return Poll::Ready(Ok(()));
            }
        }
    }

    /// Reads from the wire, straight into `out` where the bytes can be approved
    /// there: a sound head never lies in memory of ours. Ready with `true` when
    /// `out` has what the caller gets, be it the end of the stream.
    fn poll_wire(&mut self, cx: &mut Context<'_>, out: &mut ReadBuf<'_>) -> Poll<io::Result<bool>> {
        let start = out.filled().len();
        if Pin::new(&mut self.wire).poll_read(cx, out)?.is_pending() {
            return self.poll_waiting(cx).map(Ok);
        }
        if out.filled().len() == start {
            self.phase = Phase::Ended;
            return Poll::Ready(Ok(true));
        }
        if self.inbox.is_empty() && !self.is_gated() {
            let sound = self.approve(&out.filled()[start..]);
            if let Some(mending) = self.guard.take_mending() {
                self.inbox = mending.apply(&out.filled()[start..]);
                out.set_filled(start);
                self.approved = mending.length(sound);
                self.approved -= hand_over(&mut self.inbox, self.approved, out);
                return Poll::Ready(Ok(true));
            }
            self.inbox.extend_from_slice(&out.filled()[start + sound..]);
            out.set_filled(start + sound);
            if sound == 0 {
                // The first bytes of a head: its own deadline begins.
                self.read_since = Some(Instant::now());
            }
            return Poll::Ready(Ok(sound > 0));
        }
        self.inbox.extend_from_slice(&out.filled()[start..]);
        out.set_filled(start);
        Poll::Ready(Ok(false))
    }

    /// Nothing to read: looks after deadlines and drain. Ready where the caller
    /// gets an end or a stand-in, `false` when it should look again.
    pub(super) fn poll_waiting(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        if self.is_gated() {
            return Poll::Pending;
        }
        let deadlines = self.connection.listener.state().model.deadlines;
        let (allowed, violation): (Duration, _) = if !self.guard.expects_head() {
            (deadlines.stall, Some(Violation::BodyTimeout))
        } else if self.inbox.is_empty() {
            if self.connection.is_draining_or_wake(cx.waker()) {
                self.phase = Phase::Ended;
                return Poll::Ready(true);
            }
            self.inbox = BytesMut::new();
            self.outbox.release();
            (deadlines.idle, None)
        } else {
            (deadlines.request_head, Some(Violation::HeadTimeout))
        };
        let since = *self.read_since.get_or_insert_with(Instant::now);
        ready!(self.read_deadline.poll(cx, since + allowed));
        match violation {
            Some(violation) => {
                self.refuse(violation);
                Poll::Ready(false)
            }
            None => {
                self.phase = Phase::Ended;
                Poll::Ready(true)
            }
        }
    }

    /// Whether the next head must wait for the response to the last request.
    fn is_gated(&self) -> bool {
        self.guard.expects_head() && self.connection.request_is_open()
    }

    /// How many bytes from the first on may be handed over. What breaks a rule
    /// ends reading behind them.
    fn approve(&mut self, bytes: &[u8]) -> usize {
        let mut sound = 0;
        if self.guard.expects_head() {
            match self.guard.head(bytes) {
                HeadStep::Incomplete => return 0,
                HeadStep::Refused(violation) => {
                    self.refuse(violation);
                    return 0;
                }
                HeadStep::Complete(length) => sound = length,
            }
            self.connection.request_started();
        }
        if !self.guard.expects_head() {
            let body = &bytes[sound..];
            sound += match self.guard.body(body) {
                BodyStep::Open => body.len(),
                BodyStep::Done(taken) => taken,
                BodyStep::Refused(taken, violation) => {
                    self.refuse(violation);
                    taken
                }
            };
        }
        self.read_since = None;
        sound
    }

    /// Ends reading. A head that is refused is replaced; a body can only break off.
    fn refuse(&mut self, violation: Violation) {
        self.connection.record(violation);
        self.phase = if self.guard.expects_head() {
            self.connection.request_started();
            Phase::StandIn(0)
        } else {
            Phase::Broken
        };
    }
}

/// How much of the next requests is taken while one is being answered; more
/// waits in the socket.
const PIPELINE: usize = 4 * 1024;

/// Moves up to `limit` bytes; how many it moved.
fn hand_over(inbox: &mut BytesMut, limit: usize, out: &mut ReadBuf<'_>) -> usize {
    let taken = limit.min(inbox.len()).min(out.remaining());
    out.put_slice(&inbox[..taken]);
    inbox.advance(taken);
    if inbox.is_empty() {
        *inbox = BytesMut::new();
    }
    taken
}
