//! A mesh gateway: bytes of the mesh pass by the name in their handshake, to the services of its
//! own datacenter, or to the gateways of another. It holds no key and reads nothing.

mod servers;

pub(crate) use servers::META;

use super::endpoint::{View, endpoints};
use super::inbound::TCP_IDLE;
use super::mesh;
use super::sni_gateway::bind::{self, Settings};
use super::sni_gateway::place::{self, Place};
use super::sni_gateway::{self, SniGateway, plain_cluster};
use crate::chain;
use crate::gateways;
use crate::knowledge::{Knowledge, Known, NoEntry, Topic};
use crate::publish::Contents;
use crate::role::Role;
use consul::agent::AgentService;
use consul::entry::{Entry, ServiceDefaults, ServiceResolver};
use consul::health::ServiceEntry;
use meridian_model::policy::{CircuitLimits, LoadBalancing, OutlierPolicy};
use meridian_model::sni::{SniAction, SniChain, SniName};
use meridian_model::{Cluster, Endpoint, Snapshot, UpstreamProtocol};
use std::collections::BTreeSet;
use std::sync::Arc;

/// A mesh gateway.
#[derive(Debug, Clone)]
pub(crate) struct MeshGateway(pub(crate) SniGateway);

impl Role for MeshGateway {
    fn wanted(&self, knowledge: &Knowledge) -> BTreeSet<Topic> {
        let name = &self.0.name;
        let mut wanted = BTreeSet::from([
            Topic::Registration(name.clone()),
            Topic::Roots,
            Topic::Mesh,
            Topic::Services,
            Topic::FederationStates,
            Topic::Datacenters,
            Topic::Resolvers,
            Topic::Entry(ServiceDefaults::KIND, name.clone()),
        ]);
        for place in places(knowledge) {
            wanted.insert(Topic::Instances(place.query(true)));
        }
        if let Some(registration) = knowledge.registration(name) {
            for datacenter in remotes(knowledge, &registration.datacenter) {
                wanted.extend(gateways::wanted(
                    knowledge,
                    datacenter,
                    &registration.datacenter,
                ));
                let stated = stated(knowledge, datacenter);
                wanted.extend(gateways::names_of(stated, &registration.datacenter));
            }
            if servers::are_exposed(registration) {
                wanted.extend(servers::wanted());
            }
        }
        wanted
    }

    fn contents(&self, knowledge: &Knowledge, previous: &Snapshot) -> Option<Contents> {
        let first = previous.generation == 0;
        let registration = knowledge.registration(&self.0.name)?;
        let trust_domain = &knowledge.roots()?.trust_domain;
        knowledge.services()?;
        knowledge.resolvers()?;
        if first && !datacenters_are_known(knowledge) {
            return None;
        }
        let mut making = Making {
            knowledge,
            registration,
            trust_domain,
            settings: bind::settings(&self.0, registration),
            limits: limits(&self.0.name, knowledge),
            contents: Contents::default(),
            chains: Vec::new(),
        };
        for place in places(knowledge) {
            making.place(&place, first)?;
        }
        for remote in remotes(knowledge, &registration.datacenter) {
            making.remote(remote);
        }
        if servers::are_exposed(registration) {
            servers::expose(&mut making, first)?;
        }
        Some(making.done())
    }
}

/// One generation in the making.
struct Making<'a> {
    knowledge: &'a Knowledge,
    registration: &'a AgentService,
    trust_domain: &'a str,
    settings: Settings,
    /// Caps of every cluster.
    limits: CircuitLimits,
    contents: Contents,
    chains: Vec<SniChain>,
}

impl<'a> Making<'a> {
    /// A service of the own datacenter, or a subset of it. `None` while a first generation has to
    /// wait for its instances.
    fn place(&mut self, place: &Place, first: bool) -> Option<()> {
        let found = match self.knowledge.instances(&place.query(true)) {
            Known::Value(found) => found.as_slice(),
            Known::Waiting if first => return None,
            // Nobody to call yet.
            Known::Waiting | Known::Failed(_) => &[],
        };
        let view = View {
            only_passing: place.only_passing,
            local_datacenter: None,
        };
        let (endpoints, rejected) = endpoints(found, view);
        self.contents.rejected.extend(rejected);
        let names = place.names(&self.registration.datacenter, self.trust_domain);
        let mut cluster = self.cluster(&place.label(), endpoints);
        if let Some(resolver) = resolver(self.knowledge, &place.service) {
            if let Some(timeout) = resolver.connect_timeout.filter(|limit| !limit.is_zero()) {
                cluster.connect_timeout = timeout;
            }
            cluster.balancing = balancing(resolver);
        }
        self.pass(names, cluster);
        Some(())
    }

    /// The gateways of another datacenter.
    fn remote(&mut self, datacenter: &str) {
        let found = self.gateways(datacenter);
        let home = &self.registration.datacenter;
        let (endpoints, rejected) = gateways::as_endpoints(self.knowledge, found, home);
        self.contents.rejected.extend(rejected);
        let cluster = self.cluster(&format!("dc/{datacenter}"), endpoints);
        let suffix = format!(".{datacenter}.internal.{}", self.trust_domain).to_ascii_lowercase();
        self.pass(vec![SniName::Suffix(suffix)], cluster);
    }

    /// As the other datacenter has them, or else as federation states do, which is all that there
    /// is before datacenters that are joined through their gateways can ask each other.
    fn gateways(&mut self, datacenter: &str) -> Vec<&'a ServiceEntry> {
        let refused = match gateways::of(self.knowledge, datacenter) {
            Some(Ok(found)) => return found,
            Some(Err(reason)) => Some(reason),
            None => None,
        };
        let stated = stated(self.knowledge, datacenter);
        if let Some(reason) = refused.filter(|_| stated.is_empty()) {
            self.contents.reject(
                format!("datacenter {datacenter}"),
                format!("its mesh gateways cannot be listed: {reason}"),
            );
        }
        stated.iter().collect()
    }

    fn cluster(&self, label: &str, endpoints: Arc<[Endpoint]>) -> Cluster {
        let mut cluster = plain_cluster(label, UpstreamProtocol::Tcp, endpoints);
        if let Some(timeout) = self.settings.connect_timeout {
            cluster.connect_timeout = timeout;
        }
        cluster.limits = self.limits;
        cluster.outlier = Some(OutlierPolicy::default());
        cluster
    }

    fn pass(&mut self, names: Vec<SniName>, cluster: Cluster) {
        self.chains.push(SniChain {
            names,
            action: SniAction::Passthrough {
                cluster: cluster.name.clone(),
                idle_timeout: Some(TCP_IDLE),
            },
        });
        self.contents.cluster(cluster);
    }

    fn done(self) -> Contents {
        let mut contents = self.contents;
        contents.rejected.extend(self.settings.rejected);
        mesh::name_unserved_at_gateway(self.knowledge, &mut contents);
        if let Known::Failed(reason) = self.knowledge.federation_states() {
            let only = "only datacenters whose catalog answers are reachable";
            contents.reject(
                "federation states",
                format!("they cannot be read: {reason}; {only}"),
            );
        }
        if let Known::Failed(reason) = self.knowledge.datacenters() {
            let only = "only those with a federation state are reachable";
            contents.reject(
                "datacenters",
                format!("they cannot be listed: {reason}; {only}"),
            );
        }
        for listener in sni_gateway::listeners(&self.settings.binds, self.chains) {
            contents.listener(listener);
        }
        contents
    }
}

/// Services and their subsets. A service that only a resolver names has no instances here.
fn places(knowledge: &Knowledge) -> Vec<Place> {
    let Some(services) = knowledge.services() else {
        return Vec::new();
    };
    let services = services.keys().filter(|name| *name != servers::SERVICE);
    services
        .flat_map(|service| place::of_service(service, resolver(knowledge, service)))
        .collect()
}

fn resolver<'a>(knowledge: &'a Knowledge, service: &str) -> Option<&'a ServiceResolver> {
    let mut resolvers = knowledge.resolvers()?.iter();
    resolvers.find(|resolver| resolver.name == service)
}

/// Other datacenters: those that are joined, and those that are known to have gateways.
fn remotes<'a>(knowledge: &'a Knowledge, home: &str) -> BTreeSet<&'a str> {
    let mut found = BTreeSet::new();
    if let Known::Value(all) = knowledge.datacenters() {
        found.extend(all.iter().map(String::as_str));
    }
    if let Known::Value(states) = knowledge.federation_states() {
        found.extend(states.keys().map(String::as_str));
    }
    found.remove(home);
    found
}

/// Gateways of a datacenter by its federation state.
fn stated<'a>(knowledge: &'a Knowledge, datacenter: &str) -> &'a [ServiceEntry] {
    match knowledge.federation_states() {
        Known::Value(states) => states.get(datacenter).map_or(&[], Vec::as_slice),
        Known::Waiting | Known::Failed(_) => &[],
    }
}

/// Whether it has been answered, or refused, which other datacenters there are. Their own answers
/// are not waited for: one that is away must not keep a gateway from its work.
fn datacenters_are_known(knowledge: &Knowledge) -> bool {
    !matches!(knowledge.datacenters(), Known::Waiting)
        && !matches!(knowledge.federation_states(), Known::Waiting)
}

/// `UpstreamConfig.Defaults.Limits` of the gateway's own service-defaults.
fn limits(gateway: &str, knowledge: &Knowledge) -> CircuitLimits {
    let entry: Result<ServiceDefaults, NoEntry> = knowledge.entry(gateway);
    let written = entry
        .ok()
        .and_then(|entry| entry.upstream_config.defaults)
        .and_then(|defaults| defaults.limits);
    let limits = written.unwrap_or_default();
    CircuitLimits {
        connections: limits.max_connections,
        pending_requests: limits.max_pending_requests,
        requests: limits.max_concurrent_requests,
    }
}

/// Policies that hash a request have nothing to hash here; what is not understood was named by
/// whoever compiled the chain.
fn balancing(resolver: &ServiceResolver) -> LoadBalancing {
    let written = resolver.load_balancer.as_ref();
    match written.map(chain::balancing) {
        Some(Ok(
            LoadBalancing::RingHash { .. } | LoadBalancing::Maglev { .. } | LoadBalancing::PeakEwma,
        ))
        | Some(Err(_))
        | None => LoadBalancing::default(),
        Some(Ok(balancing)) => balancing,
    }
}

#[cfg(test)]
mod tests;
