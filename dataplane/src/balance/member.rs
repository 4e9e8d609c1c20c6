//! An endpoint as the balancer knows it.

use super::stats::{ActiveRequest, EndpointStats, OpenConnection};
use meridian_model::{Endpoint, Health};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// Names an endpoint in this process, unlike its place in a list, which moves.
/// It keeps its value through changes of weight and health.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct EndpointId(u64);

/// One endpoint with what is measured about it.
#[derive(Debug)]
pub struct Member {
    id: EndpointId,
    endpoint: Endpoint,
    stats: Arc<EndpointStats>,
    /// When it joined or recovered; `None` for those that were there first.
    pub(super) since: Option<Instant>,
}

impl Member {
    pub(super) fn new(endpoint: Endpoint, now: Instant, since: Option<Instant>) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self {
            id: EndpointId(NEXT.fetch_add(1, Ordering::Relaxed)),
            endpoint,
            stats: Arc::new(EndpointStats::new(now)),
            since,
        }
    }

    /// The same endpoint with other weight, health or name. One that was found healthy again is
    /// no longer ejected: what its failures said is out of date.
    pub(super) fn changed(&self, endpoint: Endpoint, now: Instant) -> Self {
        let recovered = self.endpoint.health != endpoint.health;
        if recovered && endpoint.health == Health::Healthy {
            self.stats.readmit();
        }
        Self {
            id: self.id,
            endpoint,
            stats: Arc::clone(&self.stats),
            since: if recovered { Some(now) } else { self.since },
        }
    }

    /// Its name in this process, for [`super::PickContext::exclude`].
    pub fn id(&self) -> EndpointId {
        self.id
    }

    /// Address, weight and health.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// What is measured about it.
    pub fn stats(&self) -> &EndpointStats {
        &self.stats
    }

    /// Counts a request as under way until the guard is dropped. Call it at
    /// once after the pick: the next pick depends on it.
    pub fn begin(&self) -> ActiveRequest {
        self.stats.begin()
    }

    /// Counts a connection to it as open until the guard is dropped.
    pub fn connect(&self) -> OpenConnection {
        self.stats.connect()
    }

    pub(super) fn weight(&self) -> u32 {
        self.endpoint.weight.max(1)
    }
}
