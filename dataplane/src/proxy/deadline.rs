//! The clock of one exchange: a request deadline, an idle limit, and a regular
//! look at whether the caller may still call.
//!
//! One timer serves all three. It is armed when the exchange first has to wait
//! and re-armed only when it fires, so bytes that move cost no timer work.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::{Instant, Sleep};

/// How often a long exchange is looked at: a revoked intention acts on open
/// streams at most this late.
const LOOK: Duration = Duration::from_secs(1);

/// Why the clock rang.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ring {
    /// The request's time is up.
    Request,
    /// This try's time for a head is up.
    Try,
    /// Nothing moved for too long.
    Idle,
    /// Time to look whether the caller may still call.
    Look,
}

/// The clock.
pub(crate) struct Clock {
    request: Option<Instant>,
    head: Option<Instant>,
    idle: Option<Duration>,
    last_byte: Instant,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Clock {
    pub(crate) fn new(request: Option<Instant>, idle: Option<Duration>, now: Instant) -> Self {
        Self {
            request,
            head: None,
            idle,
            last_byte: now,
            timer: None,
        }
    }

    /// Limits the wait for the response's head; `None` when it has come.
    pub(crate) fn limit_head(&mut self, at: Option<Instant>) {
        self.head = at;
        self.timer = None;
    }

    /// No total limit from here on: the connection became another protocol.
    pub(crate) fn lift_request_limit(&mut self) {
        self.request = None;
        self.timer = None;
    }

    /// Bytes moved.
    pub(crate) fn touch(&mut self) {
        self.last_byte = Instant::now();
    }

    /// Waits until something is due. Dropping the future loses nothing.
    pub(crate) async fn ring(&mut self) -> Ring {
        std::future::poll_fn(|cx| self.poll_ring(cx)).await
    }

    fn poll_ring(&mut self, cx: &mut Context<'_>) -> Poll<Ring> {
        loop {
            let timer = self.timer.get_or_insert_with(|| {
                let mut at = Instant::now() + LOOK;
                for limit in [
                    self.request,
                    self.head,
                    self.idle.map(|i| self.last_byte + i),
                ] {
                    at = limit.map_or(at, |limit| limit.min(at));
                }
                Box::pin(tokio::time::sleep_until(at))
            });
            if timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            self.timer = None;
            if let Some(ring) = self.due(Instant::now()) {
                return Poll::Ready(ring);
            }
        }
    }

    fn due(&self, now: Instant) -> Option<Ring> {
        let passed = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        if passed(self.request) {
            Some(Ring::Request)
        } else if passed(self.head) {
            Some(Ring::Try)
        } else if passed(self.idle.map(|idle| self.last_byte + idle)) {
            Some(Ring::Idle)
        } else {
            Some(Ring::Look)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn rings_for_the_nearest_limit() {
        let start = Instant::now();
        let mut clock = Clock::new(
            Some(start + Duration::from_millis(800)),
            Some(Duration::from_millis(500)),
            start,
        );
        clock.limit_head(Some(start + Duration::from_millis(300)));
        assert_eq!(clock.ring().await, Ring::Try);
        clock.limit_head(None);
        assert_eq!(clock.ring().await, Ring::Idle);
        clock.touch();
        assert_eq!(clock.ring().await, Ring::Request);
        assert_eq!(start.elapsed(), Duration::from_millis(800));
    }

    #[tokio::test(start_paused = true)]
    async fn looks_every_second_without_limits() {
        let start = Instant::now();
        let mut clock = Clock::new(None, None, start);
        assert_eq!(clock.ring().await, Ring::Look);
        assert_eq!(clock.ring().await, Ring::Look);
        assert_eq!(start.elapsed(), LOOK * 2);
    }
}
