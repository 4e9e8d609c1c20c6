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
mod tests {
    use super::*;
    use crate::knowledge::{Fact, News};
    use consul::agent::Roots;
    use meridian_model::Service;
    use serde_json::{Value, json};
    use std::time::{Duration, SystemTime};

    fn gateway() -> MeshGateway {
        MeshGateway(SniGateway {
            name: "mgw".to_owned(),
            address: "10.0.0.1:8443".parse().unwrap(),
        })
    }

    /// Answers to everything that is wanted, again and again; what `answer` says wins.
    fn known(answer: impl Fn(&Topic) -> Option<News>) -> Knowledge {
        let mut knowledge = Knowledge::default();
        for _ in 0..3 {
            for topic in gateway().wanted(&knowledge) {
                let news = answer(&topic).unwrap_or_else(|| News::Learned(usual(&topic)));
                knowledge.take(topic, news, SystemTime::UNIX_EPOCH);
            }
        }
        knowledge
    }

    fn usual(topic: &Topic) -> Fact {
        match topic {
            Topic::Registration(_) => registration(json!({})),
            Topic::Roots => Fact::Roots(Arc::new(Roots {
                trust_domain: "td".to_owned(),
                ..Roots::default()
            })),
            Topic::Mesh => Fact::Mesh(Arc::default()),
            Topic::Services => names(&["consul", "web"]),
            Topic::Datacenters => Fact::Datacenters(Arc::new(vec!["dc1".into(), "dc2".into()])),
            Topic::FederationStates => Fact::FederationStates(Arc::default()),
            Topic::GatewayNames(_) => names(&["far"]),
            Topic::Resolvers => resolvers(json!([{"Name": "web", "Subsets": {"v1": {}}}])),
            Topic::Entry(..) => Fact::Entry(Arc::default()),
            Topic::Agent => Fact::Agent(Arc::new(
                serde_json::from_value(json!({"DebugConfig": {"DNSDomain": "example."}})).unwrap(),
            )),
            Topic::Instances(query) => instances(match query.service.as_str() {
                "web" => instance("dc1", "10.0.0.5", "web-1", 21000),
                "consul" => instance("dc1", "10.0.0.9", "consul", 8300),
                _ => remote_gateway("1.2.3.4"),
            }),
            other => panic!("{other:?} is wanted"),
        }
    }

    fn registration(more: Value) -> Fact {
        let mut written = json!({"ID": "mgw", "Datacenter": "dc1"});
        written
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        Fact::Registration(Arc::new(serde_json::from_value(written).unwrap()))
    }

    fn resolvers(written: Value) -> Fact {
        Fact::Resolvers(Arc::new(serde_json::from_value(written).unwrap()))
    }

    fn names(names: &[&str]) -> Fact {
        let names = names.iter().map(|name| ((*name).to_owned(), Vec::new()));
        Fact::Services(Arc::new(names.collect()))
    }

    fn instances(written: Value) -> Fact {
        Fact::Instances(Arc::new(serde_json::from_value(json!([written])).unwrap()))
    }

    fn instance(datacenter: &str, address: &str, id: &str, port: u16) -> Value {
        json!({"Node": {"Node": "Node1", "Address": address, "Datacenter": datacenter},
            "Service": {"ID": id, "Port": port}})
    }

    fn remote_gateway(wan: &str) -> Value {
        let mut written = instance("dc2", "10.0.9.9", "far", 8443);
        written["Service"]["TaggedAddresses"] = json!({"wan": {"Address": wan, "Port": 443}});
        written
    }

    fn contents(knowledge: &Knowledge) -> Contents {
        gateway()
            .contents(knowledge, &Snapshot::default())
            .expect("everything has answered")
    }

    /// Each name, and the address that it leads to.
    fn led(contents: &Contents) -> Vec<(String, String)> {
        let listener = contents.listeners.values().next().unwrap();
        let Service::BySni(service) = &listener.service else {
            panic!("{listener:?}")
        };
        let mut led = Vec::new();
        for chain in &service.chains {
            let SniAction::Passthrough { cluster, .. } = &chain.action else {
                panic!("{chain:?}")
            };
            let endpoints = &contents.clusters[cluster].targets[0].endpoints;
            let address = endpoints.first().map(|one| one.address.to_string());
            for name in &chain.names {
                let name = match name {
                    SniName::Exact(name) => name.clone(),
                    SniName::Suffix(name) => format!("*{name}"),
                };
                led.push((name, address.clone().unwrap_or_default()));
            }
        }
        led
    }

    fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
        let owned = |(name, address): &(&str, &str)| ((*name).into(), (*address).into());
        expected.iter().map(owned).collect()
    }

    const NEAR: [(&str, &str); 2] = [
        ("web.default.dc1.internal.td", "10.0.0.5:21000"),
        ("v1.web.default.dc1.internal.td", "10.0.0.5:21000"),
    ];
    const FAR: &str = "*.dc2.internal.td";

    #[test]
    fn passes_services_subsets_and_other_datacenters_on_by_name() {
        let contents = contents(&known(|_| None));
        assert_eq!(contents.rejected, []);
        let expected = [NEAR[0], NEAR[1], (FAR, "1.2.3.4:443")];
        assert_eq!(led(&contents), pairs(&expected));
    }

    #[test]
    fn a_datacenter_that_does_not_answer_is_known_by_its_federation_state() {
        let silent = |states: Value| {
            contents(&known(move |topic| match topic {
                Topic::GatewayNames(_) => {
                    Some(News::Failed(crate::knowledge::Trouble::answer("no path")))
                }
                Topic::FederationStates => Some(News::Learned(Fact::FederationStates(Arc::new(
                    serde_json::from_value(states.clone()).unwrap(),
                )))),
                _ => None,
            }))
        };
        let stated = silent(json!({"dc1": [], "dc2": [remote_gateway("4.3.2.1")]}));
        assert_eq!(led(&stated)[2], (FAR.to_owned(), "4.3.2.1:443".to_owned()));
        assert_eq!(stated.rejected, []);
        let unknown = silent(json!({}));
        assert_eq!(led(&unknown)[2], (FAR.to_owned(), String::new()));
        let rejected = &unknown.rejected[0];
        assert_eq!(rejected.resource, "datacenter dc2");
        assert!(rejected.reason.contains("no path"), "{rejected:?}");
    }

    #[test]
    fn federation_states_that_are_refused_are_named_and_not_needed() {
        let contents = contents(&known(|topic| match topic {
            Topic::FederationStates => Some(News::Failed(crate::knowledge::Trouble::answer("403"))),
            _ => None,
        }));
        assert_eq!(led(&contents)[2].1, "1.2.3.4:443");
        assert_eq!(contents.rejected[0].resource, "federation states");
    }

    #[test]
    fn servers_are_passed_on_where_the_registration_says_so() {
        let meta = json!({"Meta": {"consul-wan-federation": "1"}});
        let contents = contents(&known(|topic| match topic {
            Topic::Registration(_) => Some(News::Learned(registration(meta.clone()))),
            _ => None,
        }));
        let expected = [
            ("server.dc1.example", "10.0.0.9:8300"),
            ("node1.server.dc1.example", "10.0.0.9:8300"),
            ("server.dc2.example", "1.2.3.4:443"),
            ("*.server.dc2.example", "1.2.3.4:443"),
        ];
        assert_eq!(led(&contents)[3..], pairs(&expected));
    }

    #[test]
    fn resolvers_and_defaults_shape_its_clusters() {
        let resolver = json!([{"Name": "web", "ConnectTimeout": "7s",
            "LoadBalancer": {"Policy": "least_request"}}]);
        let config = json!({"Proxy": {"Config": {"connect_timeout_ms": 300}}});
        let defaults = json!({"Name": "mgw", "UpstreamConfig": {"Defaults": {
            "Limits": {"MaxConnections": 3}}}});
        let contents = contents(&known(|topic| {
            Some(News::Learned(match topic {
                Topic::Resolvers => resolvers(resolver.clone()),
                Topic::Registration(_) => registration(config.clone()),
                Topic::Entry(..) => Fact::Entry(Arc::new(Some(defaults.clone()))),
                _ => return None,
            }))
        }));
        let near = &contents.clusters["web"];
        assert_eq!(near.connect_timeout, Duration::from_secs(7));
        assert_eq!(near.balancing, LoadBalancing::LeastRequest { choices: 2 });
        let far = &contents.clusters["dc/dc2"];
        assert_eq!(far.connect_timeout, Duration::from_millis(300));
        assert_eq!(far.limits.connections, Some(3));
        assert!(far.outlier.is_some());
    }

    #[test]
    fn peering_through_it_is_named_where_it_is_wanted() {
        let rejected = |wanted: bool| {
            let entry = json!({"Peering": {"PeerThroughMeshGateways": wanted}});
            let known = known(move |topic| match topic {
                Topic::Mesh => {
                    let entry = serde_json::from_value(entry.clone()).unwrap();
                    Some(News::Learned(Fact::Mesh(Arc::new(Some(entry)))))
                }
                _ => None,
            });
            contents(&known).rejected
        };
        assert_eq!(rejected(false), []);
        let all = rejected(true);
        let [one] = &all[..] else { panic!("{all:?}") };
        assert_eq!(one.resource, "mesh");
        assert!(one.reason.contains("PeerThroughMeshGateways"), "{one:?}");
    }

    #[test]
    fn nothing_is_said_before_all_has_answered() {
        let contents = gateway().contents(&Knowledge::default(), &Snapshot::default());
        assert_eq!(contents, None);
    }
}
