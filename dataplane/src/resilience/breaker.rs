//! Caps on what one cluster may hold at once (Envoy's circuit breakers).
//!
//! Counted for the whole process, so that the limits are exact; Envoy's hold
//! for each of its threads only by and large.

use meridian_model::policy::CircuitLimits;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use tokio::sync::Notify;

/// Counts what a cluster holds, and refuses more than its limits.
#[derive(Debug)]
pub struct Breaker {
    connections: Gauge,
    pending: Gauge,
    requests: Gauge,
    retries: Gauge,
    freed: Notify,
}

/// What is capped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resource {
    /// Open connections.
    Connection,
    /// Requests that wait for a connection.
    Pending,
    /// Requests under way; those that wait for a connection are not.
    Request,
    /// Retries under way.
    Retry,
}

/// One unit of a resource, given back when dropped.
#[derive(Debug)]
pub struct Permit {
    breaker: Arc<Breaker>,
    resource: Resource,
}

/// How much of a resource is in use, for metrics and `/snapshot`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// In use.
    pub used: u32,
    /// Most that may be.
    pub limit: u32,
    /// How often more was asked for.
    pub refused: u64,
}

impl Breaker {
    /// A breaker with nothing in use.
    pub fn new(limits: &CircuitLimits) -> Arc<Self> {
        let breaker = Self {
            connections: Gauge::default(),
            pending: Gauge::default(),
            requests: Gauge::default(),
            retries: Gauge::default(),
            freed: Notify::new(),
        };
        breaker.set_limits(limits);
        Arc::new(breaker)
    }

    /// Changes the limits. What is in use stays, even above a lower limit.
    pub fn set_limits(&self, limits: &CircuitLimits) {
        let set = |gauge: &Gauge, limit: Option<u32>| {
            gauge
                .limit
                .store(limit.unwrap_or(DEFAULT_LIMIT), Ordering::Relaxed);
        };
        set(&self.connections, limits.connections);
        set(&self.pending, limits.pending_requests);
        set(&self.requests, limits.requests);
    }

    /// Leave to open a connection. Hold it as long as the connection lives.
    pub fn try_connection(self: &Arc<Self>) -> Option<Permit> {
        self.try_permit(Resource::Connection)
    }

    /// Leave to open a connection that requests wait for. One there may always be: at a limit
    /// of 0 they would wait for what can't come.
    pub fn try_awaited_connection(self: &Arc<Self>) -> Option<Permit> {
        self.connections
            .take(1)
            .then(|| self.permit(Resource::Connection))
    }

    /// Wakes up when a connection was closed: who waits looks again.
    pub fn freed(&self) -> &Notify {
        &self.freed
    }

    /// Leave to wait for a connection.
    pub fn try_pending(self: &Arc<Self>) -> Option<Permit> {
        self.try_permit(Resource::Pending)
    }

    /// Leave for a request. On `None` answer 503 at once.
    pub fn try_request(self: &Arc<Self>) -> Option<Permit> {
        self.try_permit(Resource::Request)
    }

    /// Leave for a retry: a fifth of the requests under way may be retries,
    /// and three always may (Envoy's `retry_budget`). Beyond that retries make
    /// an overload worse.
    pub fn try_retry(self: &Arc<Self>) -> Option<Permit> {
        let requests = self.requests.used.load(Ordering::Relaxed);
        let budget = (requests / RETRY_SHARE).max(MIN_RETRIES);
        self.retries.limit.store(budget, Ordering::Relaxed);
        self.try_permit(Resource::Retry)
    }

    /// Whether no further connection may be opened that requests wait for.
    pub fn is_full(&self) -> bool {
        let connections = self.usage(Resource::Connection);
        connections.used >= connections.limit.max(1)
    }

    /// How much of a resource is in use.
    pub fn usage(&self, resource: Resource) -> Usage {
        let gauge = self.gauge(resource);
        Usage {
            used: gauge.used.load(Ordering::Relaxed),
            limit: gauge.limit.load(Ordering::Relaxed),
            refused: gauge.refused.load(Ordering::Relaxed),
        }
    }

    fn try_permit(self: &Arc<Self>, resource: Resource) -> Option<Permit> {
        self.gauge(resource).take(0).then(|| self.permit(resource))
    }

    fn permit(self: &Arc<Self>, resource: Resource) -> Permit {
        Permit {
            breaker: Arc::clone(self),
            resource,
        }
    }

    fn gauge(&self, resource: Resource) -> &Gauge {
        match resource {
            Resource::Connection => &self.connections,
            Resource::Pending => &self.pending,
            Resource::Request => &self.requests,
            Resource::Retry => &self.retries,
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let gauge = self.breaker.gauge(self.resource);
        // In one order with the wake-up, so that nobody who waits misses it.
        gauge.used.fetch_sub(1, Ordering::SeqCst);
        if self.resource == Resource::Connection {
            self.breaker.freed.notify_waiters();
        }
    }
}

/// Envoy's default for connections, pending requests and requests.
const DEFAULT_LIMIT: u32 = 1024;

/// One retry for so many requests: 20 %.
const RETRY_SHARE: u32 = 5;
const MIN_RETRIES: u32 = 3;

/// The counters guard no other memory: only what a waiter looks at is ordered.
#[derive(Debug, Default)]
struct Gauge {
    used: AtomicU32,
    limit: AtomicU32,
    refused: AtomicU64,
}

impl Gauge {
    /// Takes one more, up to the limit, or to `least` where that is higher.
    fn take(&self, least: u32) -> bool {
        let limit = self.limit.load(Ordering::Relaxed).max(least);
        let one_more = |used: u32| (used < limit).then(|| used + 1);
        let taken = self
            .used
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_more)
            .is_ok();
        if !taken {
            self.refused.fetch_add(1, Ordering::Relaxed);
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(each: u32) -> CircuitLimits {
        CircuitLimits {
            connections: Some(each),
            pending_requests: Some(each),
            requests: Some(each),
        }
    }

    type Take = fn(&Arc<Breaker>) -> Option<Permit>;

    #[test]
    fn nothing_passes_the_limit_and_dropping_makes_room() {
        let breaker = Breaker::new(&limits(2));
        let takes: [Take; 3] = [
            Breaker::try_connection,
            Breaker::try_pending,
            Breaker::try_request,
        ];
        let resources = [Resource::Connection, Resource::Pending, Resource::Request];
        for (take, resource) in takes.into_iter().zip(resources) {
            let first = take(&breaker);
            let second = take(&breaker);
            assert!(first.is_some() && second.is_some());
            assert!(take(&breaker).is_none());
            drop(first);
            assert!(take(&breaker).is_some());
            let expected = Usage {
                used: 1,
                limit: 2,
                refused: 1,
            };
            assert_eq!(breaker.usage(resource), expected);
        }
    }

    #[test]
    fn unset_limits_are_envoys_and_may_change() {
        let breaker = Breaker::new(&CircuitLimits::default());
        assert_eq!(breaker.usage(Resource::Request).limit, 1024);
        let _first = breaker.try_request();
        breaker.set_limits(&limits(1));
        assert!(breaker.try_request().is_none());
        breaker.set_limits(&limits(0));
        assert!(breaker.try_connection().is_none());
    }

    #[test]
    fn one_connection_that_is_waited_for_may_always_be() {
        for limit in [0, 1] {
            let breaker = Breaker::new(&limits(limit));
            assert!(!breaker.is_full());
            let first = breaker.try_awaited_connection();
            assert!(first.is_some() && breaker.is_full());
            assert!(breaker.try_awaited_connection().is_none());
            drop(first);
            assert!(breaker.try_awaited_connection().is_some());
        }
    }

    #[test]
    fn retries_stay_within_a_fifth_of_the_requests() {
        let breaker = Breaker::new(&CircuitLimits::default());
        for (requests, budget) in [(0, 3), (10, 3), (20, 4), (100, 20)] {
            let _requests: Vec<_> = (0..requests).map(|_| breaker.try_request()).collect();
            let retries: Vec<_> = std::iter::from_fn(|| breaker.try_retry()).collect();
            assert_eq!(retries.len(), budget, "{requests} requests");
        }
    }

    #[test]
    fn threads_together_keep_the_limit() {
        let breaker = Breaker::new(&limits(10));
        let peak = AtomicU32::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..1000 {
                        let _permits: Vec<_> = (0..5).map(|_| breaker.try_request()).collect();
                        let used = breaker.usage(Resource::Request).used;
                        peak.fetch_max(used, Ordering::Relaxed);
                    }
                });
            }
        });
        assert!(peak.into_inner() <= 10);
        assert_eq!(breaker.usage(Resource::Request).used, 0);
    }
}
