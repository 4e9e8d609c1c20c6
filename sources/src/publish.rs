//! Publishing: from what a source believes now to the generations that the data plane reads.
//!
//! Sources say the same thing again and again, because a poll returned or an unrelated entry was
//! written. A [`Publisher`] lets only news through.

use meridian_model::{
    AccessLogPlan, Cluster, ClusterName, Identity, IdentityName, Listener, ListenerName, Rejection,
    Snapshot, SourceState, SourceStatus, StaleCause,
};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// What a source believes at one moment: a snapshot without generation and freshness.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Contents {
    /// Ports to open.
    pub listeners: BTreeMap<ListenerName, Arc<Listener>>,
    /// Where requests can go.
    pub clusters: BTreeMap<ClusterName, Arc<Cluster>>,
    /// Who we are.
    pub identities: BTreeMap<IdentityName, Arc<Identity>>,
    /// What was refused.
    pub rejected: Vec<Rejection>,
    /// Where metrics are told to scrapers.
    pub scrape: Option<SocketAddr>,
    /// The access log, where it is not the program's own.
    pub access_log: Option<Arc<AccessLogPlan>>,
}

impl Contents {
    /// Adds a listener under its own name.
    pub fn listener(&mut self, listener: Listener) {
        self.listeners
            .insert(listener.name.clone(), Arc::new(listener));
    }

    /// Adds a cluster under its own name.
    pub fn cluster(&mut self, cluster: Cluster) {
        self.clusters
            .insert(cluster.name.clone(), Arc::new(cluster));
    }

    /// Adds an identity under its own name.
    pub fn identity(&mut self, identity: Identity) {
        self.identities
            .insert(identity.name.clone(), Arc::new(identity));
    }

    /// Notes that `resource` was refused, and why.
    pub fn reject(&mut self, resource: impl Into<String>, reason: impl Into<String>) {
        self.rejected.push(Rejection {
            resource: resource.into(),
            reason: reason.into(),
        });
    }

    /// Takes everything of `other` in; its resources win over those of the same name.
    pub fn absorb(&mut self, other: Self) {
        self.listeners.extend(other.listeners);
        self.clusters.extend(other.clusters);
        self.identities.extend(other.identities);
        self.rejected.extend(other.rejected);
        self.scrape = other.scrape.or(self.scrape);
        self.access_log = other.access_log.or_else(|| self.access_log.take());
    }
}

/// Numbers generations and hands them to readers.
#[derive(Debug)]
pub struct Publisher {
    sender: watch::Sender<Arc<Snapshot>>,
}

impl Publisher {
    /// A publisher whose readers see generation 0, the empty snapshot.
    pub fn new() -> (Self, watch::Receiver<Arc<Snapshot>>) {
        let (sender, receiver) = watch::channel(Arc::new(Snapshot::default()));
        (Self { sender }, receiver)
    }

    /// The newest generation.
    pub fn last(&self) -> Arc<Snapshot> {
        Arc::clone(&self.sender.borrow())
    }

    /// Publishes a new generation if contents or freshness differ from the last one.
    /// Returns whether they did.
    pub fn publish(&mut self, contents: Contents, sources: Vec<SourceStatus>) -> bool {
        let last = self.last();
        let next = Snapshot {
            generation: 0,
            listeners: contents.listeners,
            clusters: contents.clusters,
            identities: contents.identities,
            rejected: contents.rejected,
            sources,
            scrape: contents.scrape,
            access_log: contents.access_log,
        };
        if last.generation > 0 && next.same_traffic(&last) && next.sources == last.sources {
            return false;
        }
        self.sender.send_replace(Arc::new(next.succeeding(&last)));
        true
    }

    /// Publishes the last contents again with another freshness. Before there are contents, only
    /// the freshness of generation 0 changes: it tells what is waited for.
    /// Returns whether a generation was published.
    pub fn refresh(&mut self, sources: Vec<SourceStatus>) -> bool {
        let last = self.last();
        if last.sources == sources {
            return false;
        }
        let mut next = Snapshot::clone(&last);
        next.sources = sources;
        let has_contents = last.generation > 0;
        if has_contents {
            next = next.succeeding(&last);
        }
        self.sender.send_replace(Arc::new(next));
        has_contents
    }
}

/// Where a source counts. The program fills it in, so that sources don't know its telemetry.
///
/// Every name given here comes from a fixed list, so it may become a label.
pub trait SourceMetrics: Send + Sync + 'static {
    /// A watch failed: `leaf`, `roots`, `chain`, `health`, `dns`, `file`, …
    fn watch_failed(&self, watch: &'static str);
    /// Whether everything that `source` watches answers.
    fn current(&self, source: &'static str, current: bool);
    /// Whether `source` refuses our token.
    fn token_refused(&self, source: &'static str, refused: bool);
    /// A generation was published, with so many refused resources.
    fn published(&self, generation: u64, rejected: usize);
}

/// Counts nothing.
impl SourceMetrics for () {
    fn watch_failed(&self, _: &'static str) {}
    fn current(&self, _: &'static str, _: bool) {}
    fn token_refused(&self, _: &'static str, _: bool) {}
    fn published(&self, _: u64, _: usize) {}
}

/// A running source.
#[derive(Debug)]
pub struct Source {
    /// Its generations. Generation 0 is empty: nothing is known yet.
    pub snapshots: watch::Receiver<Arc<Snapshot>>,
    /// The task behind it, which ends with it.
    pub task: Task,
}

/// A task that is stopped when this is dropped.
#[derive(Debug)]
pub struct Task(JoinHandle<()>);

impl Task {
    /// Spawns on the current runtime, which should be the control plane's.
    pub(crate) fn spawn(work: impl Future<Output = ()> + Send + 'static) -> Self {
        Self(tokio::spawn(work))
    }

    /// Whether the task has ended: it never does by itself, except when its input ended.
    pub fn is_finished(&self) -> bool {
        self.0.is_finished()
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Says once in the log what was published and what was newly refused.
pub(crate) fn announce(publisher: &Publisher, before: &Snapshot, metrics: &dyn SourceMetrics) {
    let now = publisher.last();
    for rejection in &now.rejected {
        if !before.rejected.contains(rejection) {
            tracing::warn!(resource = %rejection.resource, reason = %rejection.reason, "refused");
        }
    }
    for status in &now.sources {
        let earlier = before.sources.iter().find(|one| one.name == status.name);
        if earlier.is_some_and(|earlier| is_said(&earlier.state, &status.state)) {
            continue;
        }
        match &status.state {
            SourceState::Current => tracing::info!(source = %status.name, "source is current"),
            SourceState::Stale {
                cause: StaleCause::Token,
                reason,
                ..
            } => tracing::error!(
                source = %status.name, %reason,
                "the token is refused; going on with what is known until there is a valid one"
            ),
            SourceState::Stale {
                cause: StaleCause::Rights,
                reason,
                ..
            } => tracing::warn!(
                source = %status.name, %reason,
                "the token lacks a right; going on without what it may not read"
            ),
            SourceState::Stale { reason, .. } => {
                tracing::warn!(source = %status.name, %reason, "source is stale; going on with what is known");
            }
        }
    }
    tracing::debug!(
        generation = now.generation,
        listeners = now.listeners.len(),
        clusters = now.clusters.len(),
        "published"
    );
    metrics.published(now.generation, now.rejected.len());
}

/// Whether a state was said with the one before it. Which watch found the token refused first
/// changes, and nobody needs to know.
fn is_said(before: &SourceState, now: &SourceState) -> bool {
    let refused = |state: &SourceState| {
        let SourceState::Stale { cause, .. } = state else {
            return false;
        };
        *cause == StaleCause::Token
    };
    before == now || (refused(before) && refused(now))
}

/// Says in the log what keeps the first generation from being published.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    said: Vec<SourceStatus>,
}

impl Waiting {
    /// Says it once for each obstacle; nothing once there is a generation.
    pub(crate) fn explain(&mut self, publisher: &Publisher, sources: &[SourceStatus]) {
        if publisher.last().generation > 0 || self.said == sources {
            return;
        }
        for status in sources {
            if let SourceState::Stale { reason, .. } = &status.state {
                tracing::warn!(source = %status.name, %reason, "nothing to serve yet");
            }
        }
        self.said = sources.to_vec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use meridian_model::{StaleCause, UpstreamProtocol};
    use std::time::SystemTime;

    fn contents(protocol: UpstreamProtocol) -> Contents {
        let mut contents = Contents::default();
        contents.cluster(Cluster::new("web".into(), protocol, Vec::new()));
        contents
    }

    fn status(state: SourceState) -> Vec<SourceStatus> {
        vec![SourceStatus {
            name: "consul".into(),
            state,
        }]
    }

    fn stale() -> SourceState {
        SourceState::Stale {
            since: SystemTime::UNIX_EPOCH,
            cause: StaleCause::Unreachable,
            reason: "away".into(),
        }
    }

    #[test]
    fn the_same_contents_are_published_once() {
        let (mut publisher, mut reader) = Publisher::new();
        assert!(publisher.publish(
            contents(UpstreamProtocol::Tcp),
            status(SourceState::Current)
        ));
        assert_eq!(reader.borrow_and_update().generation, 1);
        assert!(!publisher.publish(
            contents(UpstreamProtocol::Tcp),
            status(SourceState::Current)
        ));
        assert!(!reader.has_changed().unwrap());
        assert!(publisher.publish(
            contents(UpstreamProtocol::Http1),
            status(SourceState::Current)
        ));
        assert_eq!(reader.borrow_and_update().generation, 2);
    }

    #[test]
    fn empty_contents_are_a_first_generation_too() {
        let (mut publisher, reader) = Publisher::new();
        assert!(publisher.publish(Contents::default(), Vec::new()));
        assert_eq!(reader.borrow().generation, 1);
    }

    #[test]
    fn a_change_of_freshness_keeps_the_resources() {
        let (mut publisher, reader) = Publisher::new();
        assert!(!publisher.refresh(status(stale())), "nothing known yet");
        assert_eq!(reader.borrow().generation, 0);
        assert_eq!(reader.borrow().sources, status(stale()), "but it says why");
        publisher.publish(
            contents(UpstreamProtocol::Tcp),
            status(SourceState::Current),
        );
        let first = publisher.last();
        assert!(publisher.refresh(status(stale())));
        assert!(!publisher.refresh(status(stale())));
        let second = Arc::clone(&reader.borrow());
        assert_eq!(second.generation, 2);
        assert!(Arc::ptr_eq(&first.clusters["web"], &second.clusters["web"]));
    }
}
