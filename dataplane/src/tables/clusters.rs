//! Clusters at work, and how they follow snapshots.
//!
//! | module | what |
//! |---|---|
//! | `state` | a cluster at one generation: choosing an endpoint, learning how it did |
//! | `target` | a target at one generation: how its endpoints are reached safely |

mod state;
mod target;

pub(crate) use state::{ClusterState, Picked};
pub(crate) use target::TargetState;

use crate::resilience::{Breaker, Outlier};
use crate::upstream::profile::Security;
use arc_swap::ArcSwapOption;
use meridian_model::{Cluster, ClusterName, Identity, Rejection, Snapshot, Target, Transport};
use meridian_telemetry::metrics::Metrics;
use std::collections::HashMap;
use std::sync::Arc;

/// A cluster for as long as a route names it. Its state is swapped by itself.
pub(crate) struct ClusterHandle {
    state: ArcSwapOption<ClusterState>,
}

impl ClusterHandle {
    /// The newest state; `None` while the snapshot has no such cluster.
    pub(crate) fn state(&self) -> Option<Arc<ClusterState>> {
        self.state.load_full()
    }
}

/// All clusters, on the control side.
pub(crate) struct Clusters {
    handles: HashMap<ClusterName, Arc<ClusterHandle>>,
    metrics: Metrics,
}

impl Clusters {
    pub(crate) fn new(metrics: Metrics) -> Self {
        Self {
            handles: HashMap::new(),
            metrics,
        }
    }

    /// The handle of a cluster, which may come later or never.
    pub(crate) fn handle(&mut self, name: &ClusterName) -> Arc<ClusterHandle> {
        let handle = self.handles.entry(name.clone()).or_insert_with(|| {
            Arc::new(ClusterHandle {
                state: ArcSwapOption::empty(),
            })
        });
        Arc::clone(handle)
    }

    /// All handles, in the order of their names.
    pub(crate) fn all(&self) -> Vec<Arc<ClusterHandle>> {
        let mut named: Vec<_> = self.handles.iter().collect();
        named.sort_by_key(|(name, _)| *name);
        named
            .into_iter()
            .map(|(_, handle)| Arc::clone(handle))
            .collect()
    }

    /// Brings the clusters to a snapshot. What can't be made ready is rejected,
    /// and requests to it fail with that reason.
    pub(crate) fn update(&mut self, snapshot: &Snapshot, rejected: &mut Vec<Rejection>) {
        for (name, cluster) in &snapshot.clusters {
            let handle = self.handle(name);
            let before = handle.state();
            let state = self.make_ready(cluster, snapshot, before.as_deref(), rejected);
            if let Some(state) = state {
                retire_replaced(before.as_deref(), &state);
                handle.state.store(Some(Arc::new(state)));
            }
        }
        for (name, handle) in &self.handles {
            if !snapshot.clusters.contains_key(name)
                && let Some(gone) = handle.state.swap(None)
            {
                gone.targets
                    .iter()
                    .for_each(|target| target.profile.retire());
            }
        }
    }

    /// Forgets handles of clusters that are gone and that no route names any more.
    pub(crate) fn forget_unused(&mut self) {
        self.handles
            .retain(|_, handle| handle.state.load().is_some() || Arc::strong_count(handle) > 1);
    }

    /// `None` where nothing changed.
    fn make_ready(
        &self,
        cluster: &Arc<Cluster>,
        snapshot: &Snapshot,
        before: Option<&ClusterState>,
        rejected: &mut Vec<Rejection>,
    ) -> Option<ClusterState> {
        let identities: Vec<_> = cluster
            .targets
            .iter()
            .map(|target| identity_of(target, snapshot))
            .collect();
        if let Some(before) = before
            && Arc::ptr_eq(&before.model, cluster)
            && before.presents(&identities)
        {
            return None;
        }
        let targets = cluster
            .targets
            .iter()
            .zip(identities)
            .map(|(target, identity)| {
                let old = before.and_then(|before| before.target(&target.name));
                let made = TargetState::new(cluster, target, identity, old, before);
                if let Security::Unusable(reason) = made.profile.security() {
                    rejected.push(Rejection {
                        resource: format!("cluster {}, target {}", cluster.name, target.name),
                        reason: reason.clone(),
                    });
                }
                Arc::new(made)
            })
            .collect();
        let breaker = match before {
            Some(before) => {
                before.breaker.set_limits(&cluster.limits);
                Arc::clone(&before.breaker)
            }
            None => Breaker::new(&cluster.limits),
        };
        let outlier = match before {
            Some(before) if before.model.outlier == cluster.outlier => before.outlier.clone(),
            _ => cluster.outlier.map(|policy| Arc::new(Outlier::new(policy))),
        };
        Some(ClusterState {
            model: Arc::clone(cluster),
            targets,
            breaker,
            outlier,
            metrics: self.metrics.cluster(cluster.name.as_str()),
        })
    }
}

/// Idle connections of profiles that nobody picks any more are given up.
fn retire_replaced(before: Option<&ClusterState>, now: &ClusterState) {
    let targets = before.map_or(&[][..], |before| before.targets.as_slice());
    for old in targets {
        let lineage = old.profile.lineage();
        let kept = now
            .targets
            .iter()
            .any(|new| new.profile.lineage() == lineage);
        if !kept {
            old.profile.retire();
        }
    }
}

fn identity_of(target: &Target, snapshot: &Snapshot) -> Option<Arc<Identity>> {
    match &target.transport {
        Transport::Mesh(mesh) => snapshot.identities.get(&mesh.identity).cloned(),
        Transport::Plain | Transport::Tls(_) => None,
    }
}
