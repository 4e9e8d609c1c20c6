//! The registry: services, intentions and leaves, answering as Consul would.

use super::ca::DevelopmentCa;
use crate::knowledge::{ChainQuery, Fact, InstancesQuery, Topic};
use consul::agent::{AgentSelf, AgentService, Leaf, Proxy, ServiceKind, Upstream};
use consul::chain::{CompiledChain, Node, ResolverNode, Target};
use consul::health::{Check, CheckStatus, InstanceNode, ServiceEntry, ServiceInstance};
use consul::intention::{Action, Intention};
use meridian_model::{Health, Verdict};
use serde_json::Value;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

/// A service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EmbeddedService {
    /// Its name.
    pub name: String,
    /// `tcp`, `http`, `http2` or `grpc`.
    pub protocol: String,
    /// Its instances.
    pub instances: Vec<EmbeddedInstance>,
}

/// An instance with its sidecar.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EmbeddedInstance {
    /// ID, unique in the registry.
    pub id: String,
    /// Where the application listens.
    pub application: SocketAddr,
    /// Where its sidecar's public listener is.
    pub sidecar: SocketAddr,
    /// Whether it may be used.
    pub health: Health,
    /// What it calls.
    pub upstreams: Vec<EmbeddedUpstream>,
}

/// A service that an instance calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EmbeddedUpstream {
    /// Its name.
    pub service: String,
    /// Where the sidecar makes it reachable.
    pub bind: SocketAddr,
}

/// ID of an instance's proxy, as Consul names it.
pub(super) fn proxy_id(instance: &str) -> String {
    format!("{instance}-sidecar-proxy")
}

/// What Consul calls everything when nobody names it.
const DEFAULT: &str = "default";

pub(super) struct Registry {
    pub(super) ca: DevelopmentCa,
    pub(super) default: Verdict,
    services: BTreeMap<String, EmbeddedService>,
    /// By destination, then source.
    intentions: BTreeMap<(String, String), Verdict>,
    leaves: BTreeMap<String, Arc<Leaf>>,
}

impl Registry {
    pub(super) fn new(ca: DevelopmentCa) -> Self {
        Self {
            ca,
            default: Verdict::Deny,
            services: BTreeMap::new(),
            intentions: BTreeMap::new(),
            leaves: BTreeMap::new(),
        }
    }

    pub(super) fn set_service(&mut self, service: EmbeddedService) {
        self.services.insert(service.name.clone(), service);
    }

    pub(super) fn remove_service(&mut self, name: &str) {
        self.services.remove(name);
    }

    pub(super) fn set_intention(&mut self, source: &str, destination: &str, verdict: Verdict) {
        let key = (destination.to_owned(), source.to_owned());
        self.intentions.insert(key, verdict);
    }

    pub(super) fn remove_intention(&mut self, source: &str, destination: &str) {
        let key = (destination.to_owned(), source.to_owned());
        self.intentions.remove(&key);
    }

    /// New ones are made when they are next asked for.
    pub(super) fn rotate_leaves(&mut self) {
        self.leaves.clear();
    }

    /// Answers as Consul would; an error is its 404 or 500.
    pub(super) fn answer(&mut self, topic: &Topic) -> Result<Fact, String> {
        match topic {
            Topic::Registration(id) => self.registration(id).map(Fact::Registration),
            Topic::Roots => Ok(Fact::Roots(Arc::new(self.ca.roots()))),
            Topic::Leaf(service) => self.leaf(service).map(Fact::Leaf),
            Topic::Intentions(service) => Ok(Fact::Intentions(Arc::new(self.intentions(service)))),
            Topic::Agent => Ok(Fact::Agent(Arc::new(self.agent()))),
            Topic::Mesh => Ok(Fact::Mesh(Arc::default())),
            Topic::Chain(query) => Ok(Fact::Chain(Arc::new(self.chain(query)))),
            Topic::Instances(query) => Ok(Fact::Instances(Arc::new(self.instances(query)))),
            // Nobody stores queries or runs checks here.
            Topic::Prepared(_) => Err("the embedded registry has no prepared queries".to_owned()),
            Topic::Checks(_) => Ok(Fact::Checks(Arc::default())),
            // No gateway here has its configuration from entries.
            Topic::Entry(..) => Ok(Fact::Entry(Arc::default())),
            Topic::GatewayServices(_) => Ok(Fact::GatewayServices(Arc::default())),
            // One datacenter, and no gateways of a mesh.
            Topic::GatewayCertificate(_) => Ok(Fact::GatewayCertificate(Arc::default())),
            Topic::Services => Ok(Fact::Services(Arc::default())),
            Topic::GatewayNames(_) => Ok(Fact::Services(Arc::default())),
            Topic::FederationStates => Ok(Fact::FederationStates(Arc::default())),
            Topic::Datacenters => Ok(Fact::Datacenters(Arc::default())),
            Topic::Resolvers => Ok(Fact::Resolvers(Arc::default())),
            Topic::File(path) => Err(format!("{} is not read here", path.display())),
            Topic::Addresses(name) => Err(format!("{} is not resolved here", name.host)),
            // No intention here asks for a token.
            Topic::JwtProvider(_) => Ok(Fact::JwtProvider(Arc::default())),
            Topic::Token => Err("the embedded registry takes no token".to_owned()),
            Topic::Keys(_) => Err("the embedded registry has no keys".to_owned()),
        }
    }

    fn registration(&self, id: &str) -> Result<Arc<AgentService>, String> {
        let all = self
            .services
            .values()
            .flat_map(|service| service.instances.iter().map(move |one| (service, one)));
        let (service, instance) = all
            .into_iter()
            .find(|(_, instance)| proxy_id(&instance.id) == id)
            .ok_or_else(|| format!("no sidecar `{id}` is registered"))?;
        let upstreams = instance.upstreams.iter().map(|upstream| Upstream {
            destination_name: upstream.service.clone(),
            local_bind_address: upstream.bind.ip().to_string(),
            local_bind_port: upstream.bind.port(),
            ..Upstream::default()
        });
        let protocol = Value::from(service.protocol.as_str());
        let proxy = Proxy {
            destination_service_name: service.name.clone(),
            destination_service_id: instance.id.clone(),
            local_service_address: instance.application.ip().to_string(),
            local_service_port: instance.application.port(),
            config: [("protocol".to_owned(), protocol)].into_iter().collect(),
            upstreams: upstreams.collect(),
            ..Proxy::default()
        };
        Ok(Arc::new(AgentService {
            kind: ServiceKind::ConnectProxy,
            id: id.to_owned(),
            service: proxy_id(&service.name),
            address: instance.sidecar.ip().to_string(),
            port: instance.sidecar.port(),
            datacenter: self.ca.datacenter().to_owned(),
            proxy: Some(proxy),
            ..AgentService::default()
        }))
    }

    fn leaf(&mut self, service: &str) -> Result<Arc<Leaf>, String> {
        if let Some(leaf) = self.leaves.get(service) {
            return Ok(Arc::clone(leaf));
        }
        let leaf = self.ca.leaf(service).map_err(|error| error.to_string())?;
        let leaf = Arc::new(leaf);
        self.leaves.insert(service.to_owned(), Arc::clone(&leaf));
        Ok(leaf)
    }

    /// Exact destinations before `*`, and within them exact sources before `*`: Consul's
    /// precedences 9, 8, 6 and 5.
    fn intentions(&self, service: &str) -> Vec<Intention> {
        let precedence = |source: &str, destination: &str| match (destination, source) {
            ("*", "*") => 5,
            ("*", _) => 6,
            (_, "*") => 8,
            _ => 9,
        };
        let mut found: Vec<Intention> = self
            .intentions
            .iter()
            .filter(|((destination, _), _)| destination == service || destination == "*")
            .map(|((destination, source), verdict)| Intention {
                source_name: source.clone(),
                source_namespace: DEFAULT.to_owned(),
                destination_name: destination.clone(),
                destination_namespace: DEFAULT.to_owned(),
                action: Some(match verdict {
                    Verdict::Allow => Action::Allow,
                    Verdict::Deny => Action::Deny,
                }),
                precedence: precedence(source, destination),
                ..Intention::default()
            })
            .collect();
        found.sort_by_key(|intention| std::cmp::Reverse(intention.precedence));
        found
    }

    fn agent(&self) -> AgentSelf {
        let mut agent = AgentSelf::default();
        agent.config.datacenter = self.ca.datacenter().to_owned();
        agent.debug_config.default_intention_policy = self.default.to_string();
        agent
    }

    /// The default chain: one resolver to the service itself.
    fn chain(&self, query: &ChainQuery) -> CompiledChain {
        let (service, datacenter) = (&query.service, self.ca.datacenter());
        let id = format!("{service}.default.default.{datacenter}");
        let domain = self.ca.trust_domain();
        let protocol = self.services.get(service).map(|found| &found.protocol);
        let sni = format!("{service}.default.{datacenter}.internal.{domain}");
        let target = Target {
            id: id.clone(),
            service: service.clone(),
            namespace: DEFAULT.to_owned(),
            partition: DEFAULT.to_owned(),
            datacenter: datacenter.to_owned(),
            name: sni.clone(),
            sni,
            ..Target::default()
        };
        let resolver = ResolverNode {
            name: id.clone(),
            default: true,
            target: id.clone(),
            ..ResolverNode::default()
        };
        let start = format!("resolver:{id}");
        CompiledChain {
            service_name: service.clone(),
            datacenter: datacenter.to_owned(),
            default: true,
            protocol: protocol.map_or_else(|| "tcp".to_owned(), Clone::clone),
            start_node: start.clone(),
            nodes: [(start, Node::Resolver(resolver))].into(),
            targets: [(id, target)].into(),
            ..CompiledChain::default()
        }
    }

    fn instances(&self, query: &InstancesQuery) -> Vec<ServiceEntry> {
        let Some(service) = self.services.get(&query.service) else {
            return Vec::new();
        };
        let entry = |instance: &EmbeddedInstance| {
            let (id, address) = if query.mesh {
                (proxy_id(&instance.id), instance.sidecar)
            } else {
                (instance.id.clone(), instance.application)
            };
            ServiceEntry {
                node: InstanceNode {
                    address: address.ip().to_string(),
                    datacenter: self.ca.datacenter().to_owned(),
                    ..InstanceNode::default()
                },
                service: ServiceInstance {
                    id,
                    service: service.name.clone(),
                    port: address.port(),
                    ..ServiceInstance::default()
                },
                checks: vec![Check {
                    status: match instance.health {
                        Health::Healthy => CheckStatus::Passing,
                        Health::Unhealthy => CheckStatus::Critical,
                    },
                    // A check without output has not run yet, and is not believed.
                    has_output: true,
                    ..Check::default()
                }],
            }
        };
        service.instances.iter().map(entry).collect()
    }
}
