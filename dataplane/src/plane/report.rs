//! What the data plane says of itself.

mod upstream;

use crate::listener::{BindStatus, Bound};
use crate::tables::ClusterHandle;
use meridian_model::{Bind, ListenerName, Rejection, Snapshot, SourceState, SourceStatus};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Instant, SystemTime};
use upstream::Room;

/// Whether traffic may be sent here.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Readiness {
    /// A snapshot has come, every listener is open, and no drain has begun.
    pub ready: bool,
    /// What is waited for, in words.
    pub waiting_for: Vec<String>,
}

/// How a drain ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DrainReport {
    /// Connections that were cut at the deadline.
    pub cut: usize,
}

/// A look at everything at one generation.
#[derive(Default)]
pub(super) struct Report {
    pub(super) snapshot: Arc<Snapshot>,
    pub(super) listeners: Vec<BindStatus>,
    pub(super) clusters: Vec<Arc<ClusterHandle>>,
    /// Resources that the data plane itself refused.
    pub(super) rejected: Vec<Rejection>,
}

impl Report {
    pub(super) fn readiness(&self, draining: bool) -> Readiness {
        if draining {
            // Nothing that could still come would change it.
            return Readiness {
                ready: false,
                waiting_for: vec!["draining".to_owned()],
            };
        }
        let mut waiting_for = Vec::new();
        if self.snapshot.generation == 0 {
            waiting_for.push(first_snapshot(&self.snapshot.sources));
        }
        // One that could not even be made ready has no status.
        let is_open = |name: &ListenerName| {
            let mut statuses = self.listeners.iter();
            statuses.any(|status| status.name == *name && status.is_open())
        };
        for name in self.snapshot.listeners.keys().filter(|name| !is_open(name)) {
            waiting_for.push(format!("listener {name} to open"));
        }
        Readiness {
            ready: waiting_for.is_empty(),
            waiting_for,
        }
    }

    pub(super) fn addresses(&self) -> BTreeMap<ListenerName, SocketAddr> {
        let address = |status: &BindStatus| match &status.bound {
            Bound::Open(Some(address)) => Some((status.name.clone(), *address)),
            Bound::Open(None) | Bound::Failed { .. } => None,
        };
        self.listeners.iter().filter_map(address).collect()
    }

    pub(super) fn document(&self, connections: usize, by_worker: &[usize]) -> Value {
        let now = SystemTime::now();
        let (instant, mut room) = (Instant::now(), Room::for_a_document());
        let clusters = self.clusters.iter();
        let clusters = clusters.filter_map(|one| upstream::cluster(one, instant, &mut room));
        let clusters: Vec<_> = clusters.collect();
        json!({
            "generation": self.snapshot.generation,
            "connections": connections,
            "connectionsByWorker": by_worker,
            "sources": self.snapshot.sources.iter().map(|source| {
                let (state, age, cause, reason) = match &source.state {
                    SourceState::Current => ("current", 0.0, None, None),
                    SourceState::Stale { since, cause, reason } => {
                        // A clock that was set back makes no age.
                        let age = now.duration_since(*since).unwrap_or_default();
                        ("stale", age.as_secs_f64(), Some(cause.as_str()), Some(reason.as_str()))
                    }
                };
                json!({"name": &*source.name, "state": state, "ageSeconds": age, "cause": cause,
                    "reason": reason})
            }).collect::<Vec<_>>(),
            "identities": self.snapshot.identities.values().map(|identity| {
                let left = identity.expires.duration_since(now).unwrap_or_default();
                json!({
                    "name": identity.name.as_str(),
                    "spiffe": identity.spiffe.as_str(),
                    "expiresInSeconds": left.as_secs(),
                })
            }).collect::<Vec<_>>(),
            "listeners": self.listeners.iter().map(listener).collect::<Vec<_>>(),
            "clusters": clusters,
            "rejected": self.snapshot.rejected.iter().chain(&self.rejected).map(|rejection| {
                json!({"resource": rejection.resource, "reason": rejection.reason})
            }).collect::<Vec<_>>(),
        })
    }
}

/// What a first snapshot needs, and what keeps it away.
fn first_snapshot(sources: &[SourceStatus]) -> String {
    let mut text = "the first snapshot".to_owned();
    for source in sources {
        if let SourceState::Stale { reason, .. } = &source.state {
            text.push_str(&format!(" ({}: {reason})", source.name));
        }
    }
    text
}

fn listener(status: &BindStatus) -> Value {
    let wanted = match &status.bind {
        Bind::Tcp(address) => address.to_string(),
        Bind::Unix { path, .. } => format!("unix:{}", path.display()),
    };
    match &status.bound {
        Bound::Open(address) => json!({
            "name": status.name.as_str(),
            "bind": wanted,
            "state": "open",
            "address": address.map(|address| address.to_string()),
        }),
        Bound::Failed { error, attempts } => json!({
            "name": status.name.as_str(),
            "bind": wanted,
            "state": "failed",
            "error": meridian_telemetry::Chain(error.as_ref()).to_string(),
            "attempts": attempts,
        }),
    }
}
