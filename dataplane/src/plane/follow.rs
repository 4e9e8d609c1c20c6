//! The control side: follows the snapshots and brings tables and listeners to
//! each.
//!
//! Work is done for what changed: resources that are the same `Arc` as in the
//! snapshot before keep their tables. A resource that can't be made ready keeps
//! its last good version, and is reported.

use super::entrance;
use super::handler::Handler;
use super::report::{Readiness, Report};
use crate::access_log::LogSwitch;
use crate::authorize;
use crate::drain::Drain;
use crate::listener::{Entrance, ListenerState, Listeners};
use crate::tables::{App, AppBuilder, Clusters};
use crate::tls::{self, TlsError};
use crate::workers::Workers;
use meridian_model::{
    Authorization, Identity, Listener, ListenerName, Rejection, Snapshot, SourceState, Verdict,
};
use meridian_telemetry::Chain;
use meridian_telemetry::metrics::{Layer, Metrics};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// Follows the snapshots.
pub(super) struct Follower {
    metrics: Metrics,
    access_log: Arc<LogSwitch>,
    /// What is wrong with the access log of the newest snapshot.
    log_complaints: Vec<Rejection>,
    drain: Drain,
    workers: Arc<Workers>,
    listeners: Listeners<Handler>,
    clusters: Clusters,
    ready: BTreeMap<ListenerName, Ready>,
    current: Arc<Snapshot>,
    rejected: Vec<Rejection>,
    report: watch::Sender<Arc<Report>>,
    readiness: watch::Sender<Readiness>,
}

/// How often ejected endpoints are looked at: Envoy's default interval.
const OUTLIER_SWEEP: Duration = Duration::from_secs(10);

/// A listener that was made ready, and what it was made of.
struct Ready {
    listener: Arc<Listener>,
    identities: Vec<Option<Arc<Identity>>>,
    entrance: Entrance,
    app: App,
}

impl Follower {
    pub(super) fn new(
        handler: Arc<Handler>,
        workers: Arc<Workers>,
        metrics: Metrics,
        access_log: Arc<LogSwitch>,
        drain: Drain,
        report: watch::Sender<Arc<Report>>,
        readiness: watch::Sender<Readiness>,
    ) -> Self {
        Self {
            listeners: Listeners::new(
                handler,
                Arc::clone(&workers),
                metrics.clone(),
                drain.clone(),
            ),
            workers,
            clusters: Clusters::new(metrics.clone()),
            metrics,
            access_log,
            log_complaints: Vec::new(),
            drain,
            ready: BTreeMap::new(),
            current: Arc::new(Snapshot::default()),
            rejected: Vec::new(),
            report,
            readiness,
        }
    }

    /// Runs until a drain begins. Without a source, what is known goes on being served.
    pub(super) async fn run(mut self, mut snapshots: watch::Receiver<Arc<Snapshot>>) {
        let drain = self.drain.clone();
        let mut drain_begun = std::pin::pin!(drain.begun());
        let mut source_alive = true;
        let mut sweeps = tokio::time::interval(OUTLIER_SWEEP);
        let first = Arc::clone(&snapshots.borrow_and_update());
        self.apply(first);
        loop {
            tokio::select! {
                _ = &mut drain_begun => break,
                changed = snapshots.changed(), if source_alive => match changed {
                    Ok(()) => {
                        let newest = Arc::clone(&snapshots.borrow_and_update());
                        self.apply(newest);
                    }
                    Err(_) => {
                        source_alive = false;
                        tracing::warn!("no more snapshots will come; the last one stays");
                    }
                },
                () = self.listeners.retry_failed() => self.tell(),
                _ = sweeps.tick() => self.sweep_outliers(),
            }
        }
        self.listeners.reconcile(Vec::new());
        self.tell();
        // The listeners' connections hold what they need; they are watched by
        // whoever waits for the drain.
        self.drain.finished().await;
    }

    fn sweep_outliers(&self) {
        let now = Instant::now();
        for cluster in self.clusters.all().iter().filter_map(|c| c.state()) {
            cluster.sweep(now);
        }
    }

    fn apply(&mut self, snapshot: Arc<Snapshot>) {
        self.rejected.clear();
        self.follow_log(&snapshot);
        self.clusters.update(&snapshot, &mut self.rejected);
        let mut before = std::mem::take(&mut self.ready);
        let mut ready = BTreeMap::new();
        for (name, listener) in &snapshot.listeners {
            let last = before.remove(name);
            if let Some(made) = self.make_ready(listener, &snapshot, last) {
                ready.insert(name.clone(), made);
            }
        }
        self.ready = ready;
        let desired = self.ready.values().map(|ready| ListenerState {
            model: Arc::clone(&ready.listener),
            entrance: ready.entrance.clone(),
            app: ready.app.clone(),
        });
        self.listeners.reconcile(desired.collect());
        self.clusters.forget_unused();
        self.current = snapshot;
        self.close_revoked();
        self.count();
        self.tell();
    }

    /// The listener with its tables; those it had, where nothing changed; its
    /// last good version, where it can't be made ready.
    fn make_ready(
        &mut self,
        listener: &Arc<Listener>,
        snapshot: &Snapshot,
        last: Option<Ready>,
    ) -> Option<Ready> {
        let identities: Vec<_> = entrance::presented(listener)
            .map(|name| snapshot.identities.get(name).cloned())
            .collect();
        let same_identities = |last: &Ready| same_identities(&last.identities, &identities);
        let same_listener = |last: &Ready| Arc::ptr_eq(&last.listener, listener);
        if let Some(last) = last
            .as_ref()
            .filter(|last| same_listener(last) && same_identities(last))
        {
            return Some(Ready {
                listener: Arc::clone(&last.listener),
                identities,
                entrance: last.entrance.clone(),
                app: last.app.clone(),
            });
        }
        let made = entrance::entrance(listener, &snapshot.identities, |name, error| {
            self.reject(&format!("listener {}, {name}", listener.name), error);
        });
        let entrance = match made {
            Ok(entrance) => entrance,
            Err(error) => {
                self.reject(&format!("listener {}", listener.name), &error);
                return last;
            }
        };
        let mut builder = AppBuilder {
            clusters: &mut self.clusters,
            identities: &snapshot.identities,
            metrics: &self.metrics,
            workers: &self.workers,
            before: last.as_ref().map(|last| &last.app),
        };
        Some(Ready {
            listener: Arc::clone(listener),
            identities,
            entrance,
            app: builder.build(listener),
        })
    }

    /// Takes up another access log. One that cannot be opened leaves the last one in place.
    fn follow_log(&mut self, snapshot: &Snapshot) {
        if self.current.access_log != snapshot.access_log {
            let plan = snapshot.access_log.as_deref();
            let complaints = match self.access_log.follow(plan, self.metrics.access_log()) {
                Ok(unknown) => unknown
                    .into_iter()
                    .map(|operator| format!("`{operator}` holds nothing here"))
                    .collect(),
                Err(error) => vec![Chain(&error).to_string()],
            };
            let complaint = |reason: String| {
                tracing::warn!(reason, "access log is not as it was asked for");
                Rejection {
                    resource: "access log".to_owned(),
                    reason,
                }
            };
            self.log_complaints = complaints.into_iter().map(complaint).collect();
        }
        self.rejected.extend(self.log_complaints.iter().cloned());
    }

    fn reject(&mut self, resource: &str, error: &TlsError) {
        let reason = Chain(error).to_string();
        tracing::error!(resource, reason, "resource refused, its last version stays");
        self.rejected.push(Rejection {
            resource: resource.to_owned(),
            reason,
        });
    }

    /// Closes TCP connections whose peer may not connect any more, and all that were for something
    /// that is gone. HTTP peers that are denied learn it from their next response, or while they
    /// stream.
    fn close_revoked(&self) {
        for handle in self.listeners.handles() {
            let state = handle.state();
            for connection in handle.connections() {
                let chosen_by = connection.chosen_by.as_deref();
                // Its handshake ended here, in the name of a service that is not ours any more.
                if connection.peer().is_some() && !state.app.serves(chosen_by) {
                    tracing::info!(
                        listener = %handle.name(),
                        name = chosen_by,
                        "connection closed: what it was for is not served any more"
                    );
                    connection.close();
                    continue;
                }
                let Some(app) = state.app.tcp(chosen_by) else {
                    continue;
                };
                let Some(rules) = &app.service.authorization else {
                    continue;
                };
                if is_denied(rules, connection.peer()) {
                    app.metrics
                        .verdict(Layer::L4, authorize::label(Verdict::Deny));
                    tracing::info!(
                        listener = %handle.name(),
                        peer = connection.peer().map(|peer| peer.spiffe.as_str()),
                        "connection closed: an intention now denies its peer"
                    );
                    connection.close();
                }
            }
        }
    }

    fn count(&self) {
        let now = Instant::now();
        let refused = self.current.rejected.len() + self.rejected.len();
        let metrics = self.metrics.snapshot();
        metrics.published(self.current.generation, refused, now);
        let current = |source: &meridian_model::SourceStatus| source.state == SourceState::Current;
        if self.current.sources.iter().all(current) {
            metrics.confirmed(now);
        }
        for identity in self.current.identities.values() {
            self.metrics
                .identity(identity.spiffe.as_str())
                .expires(identity.expires);
        }
        self.metrics.sweep(now);
    }

    fn tell(&self) {
        let report = Report {
            snapshot: Arc::clone(&self.current),
            listeners: self.listeners.status(),
            clusters: self.clusters.all(),
            rejected: self.rejected.clone(),
        };
        self.readiness
            .send_replace(report.readiness(self.drain.has_begun()));
        self.report.send_replace(Arc::new(report));
    }
}

fn is_denied(rules: &Authorization, peer: Option<&tls::PeerCertificate>) -> bool {
    authorize::connection(rules, peer) == Verdict::Deny
}

fn same_identities(one: &[Option<Arc<Identity>>], other: &[Option<Arc<Identity>>]) -> bool {
    one.len() == other.len()
        && one.iter().zip(other).all(|pair| match pair {
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            (None, None) => true,
            _ => false,
        })
}
