//! The snapshot: everything known at one generation.

use crate::{AccessLogPlan, Cluster, ClusterName, Identity, IdentityName, Listener, ListenerName};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;

/// Everything a data plane needs, at one moment.
///
/// Resources that did not change between two generations are the same `Arc`,
/// so that the data plane can tell by pointer what to rebuild.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// Counts up with each published snapshot; 0 is the empty one before the first.
    pub generation: u64,
    /// Ports to open.
    pub listeners: BTreeMap<ListenerName, Arc<Listener>>,
    /// Where requests can go.
    pub clusters: BTreeMap<ClusterName, Arc<Cluster>>,
    /// Who we are.
    pub identities: BTreeMap<IdentityName, Arc<Identity>>,
    /// Resources that were refused; their last good version stays above.
    pub rejected: Vec<Rejection>,
    /// How fresh the knowledge is.
    pub sources: Vec<SourceStatus>,
    /// Where metrics, and nothing else, are told to scrapers, beside the admin listener.
    pub scrape: Option<SocketAddr>,
    /// The access log, where it is not the program's own.
    pub access_log: Option<Arc<AccessLogPlan>>,
}

impl Snapshot {
    /// The next generation after `previous`: equal resources are shared with it.
    pub fn succeeding(mut self, previous: &Self) -> Self {
        self.generation = previous.generation + 1;
        share(&mut self.listeners, &previous.listeners);
        share(&mut self.clusters, &previous.clusters);
        share(&mut self.identities, &previous.identities);
        self
    }

    /// Whether both describe the same traffic: everything but generation and freshness.
    pub fn same_traffic(&self, other: &Self) -> bool {
        self.listeners == other.listeners
            && self.clusters == other.clusters
            && self.identities == other.identities
            && self.rejected == other.rejected
            && self.scrape == other.scrape
            && self.access_log == other.access_log
    }
}

/// A resource that was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// What: `service-router web`, `routes[3]`.
    pub resource: String,
    /// Why, and what is expected.
    pub reason: String,
}

/// How fresh one source's knowledge is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceStatus {
    /// Name: `consul`, `file:gateway.yaml`.
    pub name: Arc<str>,
    /// Whether it is being kept up to date.
    pub state: SourceState,
}

/// Whether a source is being kept up to date.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SourceState {
    /// Yes.
    Current,
    /// No: what is known is as old as `since`.
    Stale {
        /// When it was last known to be current.
        since: SystemTime,
        /// Whose turn it is to do something.
        cause: StaleCause,
        /// What keeps it from being updated.
        reason: String,
    },
}

/// What keeps a source from being updated, told apart by what helps against it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StaleCause {
    /// Its token is unknown, revoked or expired: it needs another one.
    Token,
    /// Its token is good but lacks a right.
    Rights,
    /// It does not answer, or only with troubles of its own.
    Unreachable,
    /// It answers, but not with what is asked for.
    Answer,
}

impl StaleCause {
    /// The word in `/snapshot`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::Rights => "rights",
            Self::Unreachable => "unreachable",
            Self::Answer => "answer",
        }
    }
}

fn share<K: Ord, V: PartialEq>(new: &mut BTreeMap<K, Arc<V>>, old: &BTreeMap<K, Arc<V>>) {
    for (name, value) in new {
        if let Some(before) = old.get(name)
            && !Arc::ptr_eq(before, value)
            && before == value
        {
            *value = Arc::clone(before);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Snapshot;
    use crate::{Cluster, UpstreamProtocol};
    use std::sync::Arc;

    fn with_cluster(protocol: UpstreamProtocol) -> Snapshot {
        let mut snapshot = Snapshot::default();
        let cluster = Cluster::new("web".into(), protocol, Vec::new());
        snapshot
            .clusters
            .insert(cluster.name.clone(), Arc::new(cluster));
        snapshot
    }

    #[test]
    fn equal_resources_are_shared_between_generations() {
        let first = with_cluster(UpstreamProtocol::Http1);
        let second = with_cluster(UpstreamProtocol::Http1).succeeding(&first);
        assert_eq!(second.generation, 1);
        assert!(Arc::ptr_eq(&first.clusters["web"], &second.clusters["web"]));
        assert!(second.same_traffic(&first));
    }

    #[test]
    fn changed_resources_are_not_shared() {
        let first = with_cluster(UpstreamProtocol::Http1);
        let second = with_cluster(UpstreamProtocol::Http2).succeeding(&first);
        assert_eq!(second.clusters["web"].protocol, UpstreamProtocol::Http2);
        assert!(!second.same_traffic(&first));
    }
}
