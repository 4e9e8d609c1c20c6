//! A cluster at one generation: targets in failover order, each with a transport profile
//! and a balancer, and the limits that hold for them together.

use super::target::{TargetState, same};
use crate::balance::{EndpointId, Member, PickContext, RequestHash, choose_target, request_hash};
use crate::downstream::{Connection, Incoming};
use crate::resilience::{Breaker, Outcome, Outlier, Report};
use crate::route::RequestFacts;
use crate::tables::App;
use crate::upstream::TransportProfile;
use http::{HeaderMap, Method};
use meridian_model::policy::{HashPolicy, LoadBalancing};
use meridian_model::{Cluster, Identity};
use meridian_telemetry::metrics::ClusterMetrics;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

/// A cluster at one generation.
pub(crate) struct ClusterState {
    /// What is wanted of it.
    pub(crate) model: Arc<Cluster>,
    /// Targets in failover order.
    pub(crate) targets: Vec<Arc<TargetState>>,
    /// Caps on what it may be asked at once.
    pub(crate) breaker: Arc<Breaker>,
    /// Passive health checking; `None` never ejects.
    pub(super) outlier: Option<Arc<Outlier>>,
    /// Its counters.
    pub(crate) metrics: Arc<ClusterMetrics>,
}

/// A chosen endpoint.
pub(crate) struct Picked {
    /// The endpoint.
    pub(crate) member: Arc<Member>,
    /// The target that it is of.
    target: Arc<TargetState>,
    /// How to reach it.
    pub(crate) profile: Arc<TransportProfile>,
}

impl ClusterState {
    /// Chooses an endpoint of the first target that has one to use which was not tried before, or
    /// else of the first that has one at all. A request whose first try found nobody thus moves on
    /// to the next target, as those after it will once the failing endpoints are ejected.
    pub(crate) fn pick(
        &self,
        hash: Option<u64>,
        now: Instant,
        exclude: &[EndpointId],
    ) -> Option<Picked> {
        let target = self.first_available(now, exclude);
        let target = match target {
            None if !exclude.is_empty() => self.first_available(now, &[]),
            target => target,
        }?;
        let member = RNG.with_borrow_mut(|rng| {
            target.balancer.pick(PickContext {
                hash,
                rng,
                now,
                exclude,
            })
        })?;
        Some(Picked {
            member,
            profile: Arc::clone(&target.profile),
            target: Arc::clone(target),
        })
    }

    fn first_available(&self, now: Instant, exclude: &[EndpointId]) -> Option<&Arc<TargetState>> {
        let targets = self.targets.iter();
        let available = targets.map(|target| target.balancer.has_available(now, exclude));
        self.targets.get(choose_target(available)?)
    }

    /// Whether a request could go to another endpoint than this one and those tried before.
    pub(crate) fn has_other(&self, picked: &Picked, tried: &[EndpointId], now: Instant) -> bool {
        let exclude = [tried, &[picked.member.id()]].concat();
        self.first_available(now, &exclude).is_some()
    }

    /// A try at an endpoint ended.
    pub(crate) fn report(&self, picked: &Picked, outcome: Outcome, now: Instant) {
        let Some(outlier) = &self.outlier else { return };
        let relieved = || {
            let mut others = self.targets.iter();
            others.any(|other| {
                !Arc::ptr_eq(&other.balancer, &picked.target.balancer)
                    && other.balancer.has_available(now, &[])
            })
        };
        let report = Report {
            balancer: &picked.target.balancer,
            member: &picked.member,
            outcome,
            relieved: &relieved,
        };
        let ejection = RNG.with_borrow_mut(|rng| outlier.report(&report, now, rng));
        if let Some(ejection) = ejection {
            tracing::warn!(
                cluster = %self.model.name,
                endpoint = %picked.member.endpoint().address,
                failures = ejection.failures,
                length = ?ejection.length,
                "endpoint ejected"
            );
        }
    }

    /// Looks whether ejected endpoints may come back.
    pub(crate) fn sweep(&self, now: Instant) {
        if let Some(outlier) = &self.outlier {
            for target in &self.targets {
                outlier.sweep(&target.balancer, now);
            }
        }
    }

    /// The hash of a request, where the cluster balances by one.
    pub(crate) fn request_hash(
        &self,
        session: &Incoming,
        connection: &Connection<App>,
    ) -> RequestHash {
        let Some(policies) = self.hash_policies() else {
            return RequestHash::default();
        };
        let head = session.head();
        let facts = RequestFacts {
            host: "",
            path: head.uri.path(),
            query: head.uri.query(),
            method: &head.method,
            headers: &head.headers,
        };
        let source = connection.peer_address.map(|address| address.ip());
        RNG.with_borrow_mut(|rng| request_hash(policies, &facts, source, rng))
    }

    /// The hash of a connection, of which nothing but the client's address is known.
    pub(crate) fn connection_hash(&self, client: Option<IpAddr>) -> Option<u64> {
        let policies = self.hash_policies()?;
        let nothing = HeaderMap::new();
        let facts = RequestFacts {
            host: "",
            path: "",
            query: None,
            method: &Method::CONNECT,
            headers: &nothing,
        };
        RNG.with_borrow_mut(|rng| request_hash(policies, &facts, client, rng).hash)
    }

    fn hash_policies(&self) -> Option<&[HashPolicy]> {
        match &self.model.balancing {
            LoadBalancing::RingHash { hash, .. } | LoadBalancing::Maglev { hash } => Some(hash),
            _ => None,
        }
    }

    pub(super) fn target(&self, name: &str) -> Option<&TargetState> {
        let mut targets = self.targets.iter();
        targets
            .find(|target| &*target.model.name == name)
            .map(|target| &**target)
    }

    /// Whether the targets were made ready with just these identities.
    pub(super) fn presents(&self, identities: &[Option<Arc<Identity>>]) -> bool {
        self.targets.len() == identities.len()
            && self
                .targets
                .iter()
                .zip(identities)
                .all(|(target, identity)| same(target.identity.as_ref(), identity.as_ref()))
    }
}

thread_local! {
    static RNG: std::cell::RefCell<fastrand::Rng> = std::cell::RefCell::new(fastrand::Rng::new());
}
