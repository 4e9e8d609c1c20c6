//! Clusters at work: targets in failover order, each with a transport profile
//! and a balancer, and the limits that hold for them together.

use super::apps::App;
use crate::balance::{
    BalanceOptions, Balancer, EndpointId, Member, PickContext, RequestHash, choose_target,
    request_hash,
};
use crate::downstream::Connection;
use crate::resilience::{Breaker, Outcome, Outlier, Report};
use crate::route::RequestFacts;
use crate::tls::{self, TlsError};
use crate::upstream::TransportProfile;
use crate::upstream::profile::Security;
use arc_swap::ArcSwapOption;
use http::{HeaderMap, Method};
use meridian_model::listener::Alpn;
use meridian_model::policy::{HashPolicy, LoadBalancing};
use meridian_model::{
    Cluster, ClusterName, Identity, Rejection, Snapshot, Target, Transport, UpstreamProtocol,
};
use meridian_telemetry::Chain;
use meridian_telemetry::metrics::{ClusterMetrics, Metrics};
use pingora_core::protocols::http::server::Session as ServerSession;
use rustls_pki_types::ServerName;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Instant;

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

/// A cluster at one generation.
pub(crate) struct ClusterState {
    /// What is wanted of it.
    pub(crate) model: Arc<Cluster>,
    /// Targets in failover order.
    pub(crate) targets: Vec<Arc<TargetState>>,
    /// Caps on what it may be asked at once.
    pub(crate) breaker: Arc<Breaker>,
    /// Passive health checking; `None` never ejects.
    outlier: Option<Arc<Outlier>>,
    /// Its counters.
    pub(crate) metrics: Arc<ClusterMetrics>,
}

/// A target at one generation.
pub(crate) struct TargetState {
    /// What is wanted of it.
    pub(crate) model: Arc<Target>,
    /// The identity that is presented to it.
    identity: Option<Arc<Identity>>,
    /// How its endpoints are reached safely.
    profile: Arc<TransportProfile>,
    /// Which of them is next. Outlives changes of the endpoints.
    balancer: Arc<Balancer>,
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
        session: &ServerSession,
        connection: &Connection<App>,
    ) -> RequestHash {
        let Some(policies) = self.hash_policies() else {
            return RequestHash::default();
        };
        let head = session.req_header();
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
}

thread_local! {
    static RNG: std::cell::RefCell<fastrand::Rng> = std::cell::RefCell::new(fastrand::Rng::new());
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

impl ClusterState {
    fn target(&self, name: &str) -> Option<&TargetState> {
        let mut targets = self.targets.iter();
        targets
            .find(|target| &*target.model.name == name)
            .map(|target| &**target)
    }

    /// Whether the targets were made ready with just these identities.
    fn presents(&self, identities: &[Option<Arc<Identity>>]) -> bool {
        self.targets.len() == identities.len()
            && self
                .targets
                .iter()
                .zip(identities)
                .all(|(target, identity)| same(target.identity.as_ref(), identity.as_ref()))
    }
}

impl TargetState {
    fn new(
        cluster: &Cluster,
        target: &Arc<Target>,
        identity: Option<Arc<Identity>>,
        old: Option<&Self>,
        before: Option<&ClusterState>,
    ) -> Self {
        let now = Instant::now();
        let same_cluster = before.is_some_and(|before| {
            before.model.balancing == cluster.balancing
                && before.model.protocol == cluster.protocol
                && before.model.panic_percent == cluster.panic_percent
        });
        let old = old.filter(|_| same_cluster);
        let kept = old.filter(|old| {
            old.model.transport == target.transport
                && same(old.identity.as_ref(), identity.as_ref())
        });
        let profile = match (kept, old) {
            (Some(kept), _) => Arc::clone(&kept.profile),
            (None, Some(old)) if old.is_renewed_by(target, identity.as_deref()) => {
                let security = ready(cluster.protocol, &target.transport, identity.as_deref());
                Arc::new(old.profile.renewed(security, now))
            }
            (None, _) => {
                let security = ready(cluster.protocol, &target.transport, identity.as_deref());
                Arc::new(TransportProfile::new(cluster.protocol, security))
            }
        };
        let balancer = match old {
            Some(old) => {
                old.balancer.update(&target.endpoints, now);
                Arc::clone(&old.balancer)
            }
            None => Arc::new(Balancer::new(
                cluster.balancing.clone(),
                BalanceOptions {
                    panic_percent: cluster.panic_percent,
                    ..BalanceOptions::default()
                },
                &target.endpoints,
                now,
            )),
        };
        Self {
            model: Arc::clone(target),
            identity,
            profile,
            balancer,
        }
    }
}

impl TargetState {
    /// Its endpoints, with what is measured about them.
    pub(crate) fn balancer(&self) -> &Balancer {
        &self.balancer
    }

    /// Whether only the leaf is new, or roots were added: then connections that
    /// were made before are as trustworthy as they were.
    fn is_renewed_by(&self, target: &Target, identity: Option<&Identity>) -> bool {
        let (Some(old), Some(new)) = (&self.identity, identity) else {
            return false;
        };
        self.model.transport == target.transport
            && old.spiffe == new.spiffe
            && old.trust.roots.iter().all(|(domain, roots)| {
                let now = new.trust.roots.get(domain);
                now.is_some_and(|now| roots.iter().all(|root| now.contains(root)))
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

fn same<T>(one: Option<&Arc<T>>, other: Option<&Arc<T>>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => Arc::ptr_eq(one, other),
        (None, None) => true,
        _ => false,
    }
}

/// The transport made ready, or the reason why it can't be.
fn ready(
    protocol: UpstreamProtocol,
    transport: &Transport,
    identity: Option<&Identity>,
) -> Security {
    secure(protocol, transport, identity)
        .unwrap_or_else(|error| Security::Unusable(Chain(&error).to_string()))
}

fn secure(
    protocol: UpstreamProtocol,
    transport: &Transport,
    identity: Option<&Identity>,
) -> Result<Security, TlsError> {
    let alpn = match protocol {
        UpstreamProtocol::Tcp => None,
        UpstreamProtocol::Http1 => Some(Alpn::Http1),
        UpstreamProtocol::Http2 => Some(Alpn::H2),
    };
    let (config, name) = match transport {
        Transport::Plain => return Ok(Security::Plain),
        Transport::Mesh(mesh) => {
            let identity = identity.ok_or(TlsError::NoCertificate)?;
            let config = tls::mesh_client_config(identity, mesh, alpn)?;
            (config, Some(&mesh.sni))
        }
        Transport::Tls(outside) => {
            let config = tls::tls_client_config(outside, alpn)?;
            (config, outside.server_name.as_ref())
        }
    };
    let Some(name) = name else {
        return Ok(Security::Tls {
            config,
            // Stands where rustls wants a name: none is sent or verified.
            server_name: ServerName::from(Ipv4Addr::UNSPECIFIED),
        });
    };
    match ServerName::try_from(name.to_string()) {
        Ok(server_name) => Ok(Security::Tls {
            config,
            server_name,
        }),
        Err(_) => Ok(Security::Unusable(format!("{name:?} is no server name"))),
    }
}
