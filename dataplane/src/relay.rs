//! Copying bytes between two connections, the ends of each direction kept apart.
//!
//! A half-close goes through and leaves the other direction open, a reset goes
//! through as a reset, and a standstill or a revoked permission ends both. The
//! bytes are counted as they go, so that a connection that stays open for days
//! shows in metrics today.

mod direction;
#[cfg(test)]
mod tests;

use crate::downstream::Wire;
use direction::{Direction, Step};
use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::Instant;

/// A connection whose close can be made a reset.
pub trait Reset {
    /// Makes the coming close a reset: no `close_notify`, no orderly end.
    ///
    /// # Errors
    /// When the socket is gone already.
    fn reset_on_close(&self) -> io::Result<()>;
}

impl Reset for TcpStream {
    fn reset_on_close(&self) -> io::Result<()> {
        socket2::SockRef::from(self).set_linger(Some(Duration::ZERO))
    }
}

impl Reset for UnixStream {
    /// Unix sockets know no reset.
    fn reset_on_close(&self) -> io::Result<()> {
        Ok(())
    }
}

impl Reset for Wire {
    fn reset_on_close(&self) -> io::Result<()> {
        Self::reset_on_close(self)
    }
}

impl<S: Reset> Reset for tokio_rustls::client::TlsStream<S> {
    fn reset_on_close(&self) -> io::Result<()> {
        self.get_ref().0.reset_on_close()
    }
}

/// What a relay is told while it runs.
pub trait Meter {
    /// So many bytes went from the client to the upstream.
    fn received(&self, bytes: u64);
    /// So many bytes went from the upstream to the client.
    fn sent(&self, bytes: u64);
}

impl Meter for meridian_telemetry::metrics::ListenerMetrics {
    fn received(&self, bytes: u64) {
        Self::received(self, bytes);
    }

    fn sent(&self, bytes: u64) {
        Self::sent(self, bytes);
    }
}

/// One of the two connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The one that was accepted.
    Client,
    /// The one that was made for it.
    Upstream,
}

/// How a relay ended.
#[derive(Debug)]
pub enum End {
    /// Both sides closed in order; this one was the first.
    Closed(Side),
    /// This side broke off: a reset, or TLS without `close_notify`. The other was reset.
    Reset(Side),
    /// This side failed otherwise. The other was reset.
    Failed(Side, io::Error),
    /// No byte moved for the idle timeout.
    Idle,
    /// It was told to stop.
    Cancelled,
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let side = |side: &Side| match side {
            Side::Client => "client",
            Side::Upstream => "upstream",
        };
        match self {
            Self::Closed(by) => write!(f, "{}_closed", side(by)),
            Self::Reset(by) => write!(f, "{}_reset", side(by)),
            Self::Failed(by, _) => write!(f, "{}_failed", side(by)),
            Self::Idle => f.write_str("idle_timeout"),
            Self::Cancelled => f.write_str("cancelled"),
        }
    }
}

/// What a relay has done.
#[derive(Debug)]
pub struct Outcome {
    /// Bytes from the client to the upstream.
    pub received: u64,
    /// Bytes from the upstream to the client.
    pub sent: u64,
    /// How it ended.
    pub end: End,
}

/// Copies both ways until both sides are closed, one breaks, nothing moves for
/// `idle`, or `cancel` is ready. Takes the streams, as they are closed with it.
pub async fn relay<C, U>(
    mut client: C,
    mut upstream: U,
    idle: Option<Duration>,
    cancel: impl Future<Output = ()>,
    meter: &impl Meter,
) -> Outcome
where
    C: AsyncRead + AsyncWrite + Reset + Unpin,
    U: AsyncRead + AsyncWrite + Reset + Unpin,
{
    let mut copying = Copying::default();
    let end = {
        let mut cancel = pin!(cancel);
        let mut standstill = pin!(tokio::time::sleep(idle.unwrap_or_default()));
        let mut last_move = Instant::now();
        poll_fn(|cx| {
            if cancel.as_mut().poll(cx).is_ready() {
                return Poll::Ready(End::Cancelled);
            }
            let before = copying.moved();
            if let Poll::Ready(end) = copying.poll(cx, &mut client, &mut upstream, meter) {
                return Poll::Ready(end);
            }
            let Some(idle) = idle else {
                return Poll::Pending;
            };
            if copying.moved() != before {
                last_move = Instant::now();
            }
            // The timer is wound again only when it rings.
            while standstill.as_mut().poll(cx).is_ready() {
                let deadline = last_move + idle;
                if standstill.deadline() >= deadline {
                    return Poll::Ready(End::Idle);
                }
                standstill.as_mut().reset(deadline);
            }
            Poll::Pending
        })
        .await
    };
    if matches!(end, End::Reset(_) | End::Failed(..)) {
        // The side that broke is gone already; the other learns it by its reset.
        let _ = client.reset_on_close();
        let _ = upstream.reset_on_close();
    }
    Outcome {
        received: copying.inward.copied,
        sent: copying.outward.copied,
        end,
    }
}

/// Both directions.
#[derive(Debug, Default)]
struct Copying {
    inward: Direction,
    outward: Direction,
    first_closed: Option<Side>,
}

impl Copying {
    fn moved(&self) -> u64 {
        self.inward.copied + self.outward.copied
    }

    fn poll<C, U>(
        &mut self,
        cx: &mut Context<'_>,
        client: &mut C,
        upstream: &mut U,
        meter: &impl Meter,
    ) -> Poll<End>
    where
        C: AsyncRead + AsyncWrite + Unpin,
        U: AsyncRead + AsyncWrite + Unpin,
    {
        let steps = [
            (Side::Client, self.inward.poll(cx, client, upstream)),
            (Side::Upstream, self.outward.poll(cx, upstream, client)),
        ];
        meter.received(self.inward.take_uncounted());
        meter.sent(self.outward.take_uncounted());
        for (from, step) in steps {
            match step {
                Step::Running => {}
                Step::Done => {
                    self.first_closed.get_or_insert(from);
                }
                Step::ReadFailed(error) => return Poll::Ready(broken(from, error)),
                Step::WriteFailed(error) => return Poll::Ready(broken(other(from), error)),
            }
        }
        match self.first_closed {
            Some(first) if self.inward.is_done() && self.outward.is_done() => {
                Poll::Ready(End::Closed(first))
            }
            _ => Poll::Pending,
        }
    }
}

fn other(side: Side) -> Side {
    match side {
        Side::Client => Side::Upstream,
        Side::Upstream => Side::Client,
    }
}

/// A TLS stream that ends without `close_notify` may have been cut by anyone;
/// passing an orderly end on would vouch for what was cut.
fn broken(side: Side, error: io::Error) -> End {
    match error.kind() {
        io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::BrokenPipe
        | io::ErrorKind::UnexpectedEof => End::Reset(side),
        _ => End::Failed(side, error),
    }
}
