//! The end of a process: no new connections, those there are finish up to a deadline.
//!
//! The order is: [`Drain::begin`] (readiness fails at once, so that balancers
//! look elsewhere), then the listeners are closed, then [`Drain::finished`] is
//! awaited. What a second signal does is the program's business.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

/// The drain state of a process. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Drain(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// Set once, when the drain begins.
    deadline: watch::Sender<Option<Instant>>,
    in_flight: AtomicUsize,
    /// Sockets that still accept.
    sockets: AtomicUsize,
    idle: Notify,
}

/// How a drain ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drained {
    /// All connections ended by themselves.
    Complete,
    /// The deadline passed; so many were left.
    Abandoned(usize),
}

/// Something that a drain waits for, until dropped.
#[derive(Debug)]
pub struct InFlight(Arc<Inner>);

/// A socket that accepts, until dropped: what it takes in is not in flight yet.
#[derive(Debug)]
pub struct Accepting(Arc<Inner>);

impl Drop for Accepting {
    fn drop(&mut self) {
        if self.0.sockets.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.idle.notify_waiters();
        }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        if self.0.in_flight.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.idle.notify_waiters();
        }
    }
}

impl Drain {
    /// Begins the drain. Only the first call counts.
    pub fn begin(&self, deadline: Instant) {
        self.0.deadline.send_if_modified(|set| {
            let first = set.is_none();
            set.get_or_insert(deadline);
            first
        });
    }

    /// Whether the drain has begun: readiness fails.
    pub fn has_begun(&self) -> bool {
        self.0.deadline.borrow().is_some()
    }

    /// Returns the deadline once the drain has begun.
    pub async fn begun(&self) -> Instant {
        let mut watch = self.0.deadline.subscribe();
        match watch.wait_for(Option::is_some).await.map(|set| *set) {
            Ok(Some(deadline)) => deadline,
            // The sender lives in self and the condition asked for a value.
            _ => std::future::pending().await,
        }
    }

    /// Counts something that a drain waits for.
    pub fn enter(&self) -> InFlight {
        self.0.in_flight.fetch_add(1, Ordering::Relaxed);
        InFlight(Arc::clone(&self.0))
    }

    /// Counts a socket that accepts. A drain waits until it is closed: before,
    /// nothing in flight only means that nothing has been accepted yet.
    pub fn accepting(&self) -> Accepting {
        self.0.sockets.fetch_add(1, Ordering::Relaxed);
        Accepting(Arc::clone(&self.0))
    }

    /// How many things a drain would wait for.
    pub fn in_flight(&self) -> usize {
        self.0.in_flight.load(Ordering::Acquire)
    }

    /// Waits until the drain has begun, no socket accepts and nothing is in
    /// flight, or its deadline.
    pub async fn finished(&self) -> Drained {
        let deadline = self.begun().await;
        match tokio::time::timeout_at(deadline, self.idle()).await {
            Ok(()) => Drained::Complete,
            Err(_) => Drained::Abandoned(self.in_flight()),
        }
    }

    async fn idle(&self) {
        loop {
            let notified = self.0.idle.notified();
            let mut notified = std::pin::pin!(notified);
            // Registered before the look, so that no notice is missed in between.
            notified.as_mut().enable();
            if self.0.sockets.load(Ordering::Acquire) == 0 && self.in_flight() == 0 {
                return;
            }
            notified.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Drain, Drained};
    use std::time::Duration;
    use tokio::time::Instant;

    #[tokio::test(start_paused = true)]
    async fn ends_as_soon_as_nothing_is_in_flight() {
        let drain = Drain::default();
        let one = drain.enter();
        assert!(!drain.has_begun());
        let start = Instant::now();
        drain.begin(start + Duration::from_secs(30));
        assert!(drain.has_begun());
        let finished = tokio::spawn({
            let drain = drain.clone();
            async move { drain.finished().await }
        });
        tokio::time::sleep(Duration::from_secs(3)).await;
        assert!(!finished.is_finished());
        drop(one);
        assert_eq!(finished.await.unwrap(), Drained::Complete);
        assert_eq!(start.elapsed().as_secs(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn waits_for_sockets_that_accept() {
        let drain = Drain::default();
        let socket = drain.accepting();
        drain.begin(Instant::now() + Duration::from_secs(30));
        let early = tokio::time::timeout(Duration::from_secs(1), drain.finished());
        assert!(early.await.is_err());
        drop(socket);
        assert_eq!(drain.finished().await, Drained::Complete);
    }

    #[tokio::test(start_paused = true)]
    async fn gives_up_at_the_first_deadline_that_was_set() {
        let drain = Drain::default();
        let _one = drain.enter();
        let start = Instant::now();
        drain.begin(start + Duration::from_secs(5));
        drain.begin(start + Duration::from_secs(60));
        assert_eq!(drain.finished().await, Drained::Abandoned(1));
        assert_eq!(start.elapsed().as_secs(), 5);
    }
}
