//! The clock of one exchange: a request deadline, an idle limit, and a regular
//! look at whether the caller may still call.
//!
//! One timer serves all three, and all requests of an HTTP/1 connection: it is wound
//! again only when it rings, so neither bytes that move nor requests that come
//! cost timer work. A timer of its own for each request would be the earliest of
//! its worker, whose sleep the runtime then cuts short through the kernel.

use crate::downstream::Deadline;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::Instant;

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
pub(crate) struct Clock<'a> {
    request: Option<Instant>,
    head: Option<Instant>,
    idle: Option<Duration>,
    last_byte: Instant,
    look: Instant,
    timer: &'a mut Deadline,
}

impl<'a> Clock<'a> {
    pub(crate) fn new(
        request: Option<Instant>,
        idle: Option<Duration>,
        now: Instant,
        timer: &'a mut Deadline,
    ) -> Self {
        Self {
            request,
            head: None,
            idle,
            last_byte: now,
            look: now + LOOK,
            timer,
        }
    }

    /// Limits the wait for the response's head; `None` when it has come.
    pub(crate) fn limit_head(&mut self, at: Option<Instant>) {
        self.head = at;
    }

    /// No total limit from here on: the connection became another protocol.
    pub(crate) fn lift_request_limit(&mut self) {
        self.request = None;
    }

    /// Bytes moved.
    pub(crate) fn touch(&mut self) {
        if self.idle.is_some() {
            self.last_byte = Instant::now();
        }
    }

    /// Waits until something is due. Dropping the future loses nothing.
    pub(crate) async fn ring(&mut self) -> Ring {
        std::future::poll_fn(|cx| self.poll_ring(cx)).await
    }

    fn poll_ring(&mut self, cx: &mut Context<'_>) -> Poll<Ring> {
        let idle = self.idle.map(|idle| self.last_byte + idle);
        let limits = [self.request, self.head, idle];
        let next = limits.into_iter().flatten().fold(self.look, Instant::min);
        ready!(self.timer.poll(cx, next));
        Poll::Ready(self.due(Instant::now()))
    }

    fn due(&mut self, now: Instant) -> Ring {
        let passed = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        if passed(self.request) {
            Ring::Request
        } else if passed(self.head) {
            Ring::Try
        } else if passed(self.idle.map(|idle| self.last_byte + idle)) {
            Ring::Idle
        } else {
            self.look = now + LOOK;
            Ring::Look
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn rings_for_the_nearest_limit() {
        let start = Instant::now();
        let mut timer = Deadline::default();
        let mut clock = Clock::new(
            Some(start + Duration::from_millis(800)),
            Some(Duration::from_millis(500)),
            start,
            &mut timer,
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
        let mut timer = Deadline::default();
        let mut clock = Clock::new(None, None, start, &mut timer);
        assert_eq!(clock.ring().await, Ring::Look);
        assert_eq!(clock.ring().await, Ring::Look);
        assert_eq!(start.elapsed(), LOOK * 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_timer_serves_one_request_after_the_other() {
        let start = Instant::now();
        let mut timer = Deadline::default();
        for request in 0..3 {
            let now = start + LOOK / 2 * request;
            assert_eq!(Instant::now(), now);
            let limit = now + LOOK / 2;
            let mut clock = Clock::new(Some(limit), None, now, &mut timer);
            assert_eq!(clock.ring().await, Ring::Request);
        }
        let mut clock = Clock::new(None, None, Instant::now(), &mut timer);
        assert_eq!(clock.ring().await, Ring::Look);
        assert_eq!(start.elapsed(), LOOK * 5 / 2);
    }
}
