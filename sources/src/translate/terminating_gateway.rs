//! A terminating gateway: for each service outside of the mesh that it is linked to, it stands in
//! as that service would, with the service's own leaf and intentions, and calls the real one.

use super::endpoint::{View, endpoints};
use super::identity;
use super::inbound::{TCP_IDLE, everything_to};
use super::intention::authorization;
use super::jwt;
use super::sidecar::default_verdict;
use super::sni_gateway::place::{self, Place};
use super::sni_gateway::{self, SniGateway, plain_cluster};
use crate::chain::upstream_protocol;
use crate::knowledge::{ChainQuery, Knowledge, Known, Topic};
use crate::publish::Contents;
use crate::role::Role;
use consul::catalog::GatewayService;
use consul::entry::ServiceResolver;
use meridian_model::listener::{
    Alpn, ClientCertificateHeader, ClientTrust, HttpService, PathNormalization, TcpService,
};
use meridian_model::policy::RouteTimeouts;
use meridian_model::sni::{SniAction, SniChain, TerminatedService};
use meridian_model::{
    Authorization, ClusterName, IdentityName, Snapshot, UpstreamProtocol, Verdict,
};
use std::collections::BTreeSet;
use std::sync::Arc;

/// A terminating gateway.
#[derive(Debug, Clone)]
pub(crate) struct TerminatingGateway {
    pub(crate) gateway: SniGateway,
    /// Verdict where no intention matches, if not what the agent says.
    pub(crate) default: Option<Verdict>,
}

impl Role for TerminatingGateway {
    fn wanted(&self, knowledge: &Knowledge) -> BTreeSet<Topic> {
        let name = &self.gateway.name;
        let mut wanted = BTreeSet::from([
            Topic::Registration(name.clone()),
            Topic::Roots,
            Topic::GatewayServices(name.clone()),
            Topic::Resolvers,
        ]);
        if self.default.is_none() {
            wanted.insert(Topic::Agent);
        }
        for linked in knowledge.gateway_services(name).unwrap_or_default() {
            let service = &linked.service.name;
            wanted.insert(Topic::Leaf(service.clone()));
            wanted.insert(Topic::Intentions(service.clone()));
            wanted.insert(Topic::Chain(chain(service)));
            if let Some(intentions) = knowledge.intentions(service) {
                wanted.extend(jwt::wanted(intentions, knowledge));
            }
            for place in place::of_service(service, resolver(knowledge, service)) {
                wanted.insert(Topic::Instances(place.query(false)));
            }
        }
        wanted
    }

    fn contents(&self, knowledge: &Knowledge, previous: &Snapshot) -> Option<Contents> {
        let sight = Sight {
            knowledge,
            previous,
            datacenter: &knowledge.registration(&self.gateway.name)?.datacenter,
            trust_domain: &knowledge.roots()?.trust_domain,
            default: self.default.or_else(|| default_verdict(knowledge))?,
        };
        knowledge.resolvers()?;
        let mut contents = Contents::default();
        let mut chains = Vec::new();
        for linked in knowledge.gateway_services(&self.gateway.name)? {
            match sight.linked(linked, &mut contents) {
                Ok(found) => chains.extend(found),
                Err(Missing::Waiting) if previous.generation == 0 => return None,
                // Without leaf or intentions nobody is served: its name is unknown meanwhile.
                Err(Missing::Waiting) => {}
                Err(Missing::Failed(reason)) => {
                    contents.reject(format!("service {}", linked.service.name), reason);
                }
            }
        }
        contents.listener(sni_gateway::listener(self.gateway.address, chains));
        Some(contents)
    }
}

/// What one generation is made of.
struct Sight<'a> {
    knowledge: &'a Knowledge,
    previous: &'a Snapshot,
    datacenter: &'a str,
    trust_domain: &'a str,
    default: Verdict,
}

/// Why a linked service cannot be served yet.
enum Missing {
    Waiting,
    Failed(String),
}

impl Sight<'_> {
    /// The chains of a service and its subsets; their clusters go into `contents`.
    fn linked(
        &self,
        linked: &GatewayService,
        contents: &mut Contents,
    ) -> Result<Vec<SniChain>, Missing> {
        let service = &linked.service.name;
        if !linked.ca_file.is_empty() {
            return Err(Missing::Failed(
                "TLS to the outside is not served".to_owned(),
            ));
        }
        for topic in [
            Topic::Leaf(service.clone()),
            Topic::Intentions(service.clone()),
        ] {
            if self.knowledge.waits_for(&topic) {
                return Err(Missing::Waiting);
            }
        }
        let no = |what: &str| Missing::Failed(format!("its {what} cannot be had"));
        let identity = identity::known(self.knowledge, service, self.previous, contents)
            .ok_or_else(|| no("leaf"))?;
        let rules = self
            .rules(service, identity.spiffe.trust_domain(), contents)?
            .ok_or_else(|| no("intentions"))?;
        let protocol = match self.knowledge.chain(&chain(service)) {
            Known::Value(chain) => Protocol::of(&chain.protocol),
            Known::Waiting => return Err(Missing::Waiting),
            Known::Failed(reason) => {
                return Err(Missing::Failed(format!(
                    "its protocol cannot be had: {reason}"
                )));
            }
        };
        let resolver = resolver(self.knowledge, service);
        let mut chains = Vec::new();
        for place in place::of_service(service, resolver) {
            let cluster = self.cluster(&place, protocol, resolver, contents)?;
            chains.push(SniChain {
                names: place.names(self.datacenter, self.trust_domain),
                action: SniAction::Terminate {
                    identity: IdentityName::from(service.as_str()),
                    alpn: protocol.alpn(),
                    service: protocol.service(&cluster, resolver, Arc::clone(&rules)),
                },
            });
        }
        Ok(chains)
    }

    fn rules(
        &self,
        service: &str,
        trust_domain: &meridian_model::TrustDomain,
        contents: &mut Contents,
    ) -> Result<Option<Arc<Authorization>>, Missing> {
        let Some(intentions) = self.knowledge.intentions(service) else {
            return Ok(None);
        };
        let (providers, waits) = jwt::providers(intentions, self.knowledge);
        if waits && self.previous.generation == 0 {
            return Err(Missing::Waiting);
        }
        let (rules, rejected) = authorization(intentions, trust_domain, self.default, &providers);
        contents.rejected.extend(rejected);
        Ok(Some(Arc::new(rules)))
    }

    fn cluster(
        &self,
        place: &Place,
        protocol: Protocol,
        resolver: Option<&ServiceResolver>,
        contents: &mut Contents,
    ) -> Result<ClusterName, Missing> {
        let found = match self.knowledge.instances(&place.query(false)) {
            Known::Value(found) => found.as_slice(),
            Known::Waiting => return Err(Missing::Waiting),
            // Nobody to call yet.
            Known::Failed(_) => &[],
        };
        let view = View {
            only_passing: place.only_passing,
            local_datacenter: None,
        };
        let (endpoints, rejected) = endpoints(found, view);
        contents.rejected.extend(rejected);
        let mut cluster = plain_cluster(&place.label(), protocol.0, endpoints);
        if let Some(timeout) = resolver.and_then(|resolver| resolver.connect_timeout) {
            cluster.connect_timeout = timeout;
        }
        let name = cluster.name.clone();
        contents.cluster(cluster);
        Ok(name)
    }
}

/// What the service speaks.
#[derive(Debug, Clone, Copy)]
struct Protocol(UpstreamProtocol);

impl Protocol {
    fn of(name: &str) -> Self {
        Self(upstream_protocol(name))
    }

    fn alpn(self) -> Vec<Alpn> {
        match self.0 {
            UpstreamProtocol::Tcp => Vec::new(),
            UpstreamProtocol::Http1 => vec![Alpn::Http1],
            UpstreamProtocol::Http2 => vec![Alpn::H2, Alpn::Http1],
        }
    }

    fn service(
        self,
        cluster: &ClusterName,
        resolver: Option<&ServiceResolver>,
        rules: Arc<Authorization>,
    ) -> TerminatedService {
        if self.0 == UpstreamProtocol::Tcp {
            return TerminatedService::Tcp(Arc::new(TcpService {
                clusters: vec![(cluster.clone(), 1)],
                authorization: Some(rules),
                idle_timeout: Some(TCP_IDLE),
            }));
        }
        let mut timeouts = RouteTimeouts::default();
        if let Some(limit) = resolver.and_then(|resolver| resolver.request_timeout) {
            timeouts.request = Some(limit);
        }
        TerminatedService::Http(Arc::new(HttpService {
            routes: Arc::new(everything_to(cluster, timeouts)),
            authorization: Some(rules),
            client_certificate: ClientCertificateHeader::AppendForward,
            trust: ClientTrust::Mesh,
            normalization: PathNormalization::MESH_INBOUND,
        }))
    }
}

/// The chain says the protocol that Consul makes of all defaults.
fn chain(service: &str) -> ChainQuery {
    ChainQuery {
        service: service.to_owned(),
        ..ChainQuery::default()
    }
}

fn resolver<'a>(knowledge: &'a Knowledge, service: &str) -> Option<&'a ServiceResolver> {
    let mut resolvers = knowledge.resolvers()?.iter();
    resolvers.find(|resolver| resolver.name == service)
}
