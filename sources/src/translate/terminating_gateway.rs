//! A terminating gateway: for each service outside of the mesh that it is linked to, it stands in
//! as that service would, with the service's own leaf and intentions, and calls the real one:
//! its instances in the catalog, or the addresses that its `service-defaults` name.

mod outside;
mod tls;

use self::outside::{Outside, Reached};
use super::central::{self, Obstacle};
use super::everything::everything;
use super::identity;
use super::inbound::TCP_IDLE;
use super::intention::authorization;
use super::jwt;
use super::mesh::{self, MeshRules};
use super::sidecar::default_verdict;
use super::sni_gateway::place;
use super::sni_gateway::{self, SniGateway};
use crate::chain::upstream_protocol;
use crate::knowledge::{ChainQuery, Knowledge, Known, Topic};
use crate::publish::Contents;
use crate::role::Role;
use consul::catalog::GatewayService;
use consul::entry::{Destination, ServiceDefaults, ServiceResolver};
use http::HeaderValue;
use http::header::HOST;
use meridian_model::listener::{
    Alpn, ClientCertificateHeader, ClientTrust, HttpService, PathNormalization, TcpService,
};
use meridian_model::sni::{SniAction, SniChain, TerminatedService};
use meridian_model::{
    Authorization, Decision, IdentityName, Intention, RouteAction, RouteTable, Snapshot,
    TrustDomain, UpstreamProtocol, Verdict,
};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

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
            Topic::Mesh,
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
            wanted.extend(central::wanted(service));
            if is_destination(linked) {
                let destination = destination(knowledge, service);
                wanted.extend(
                    destination
                        .iter()
                        .flat_map(|found| outside::wanted_of(linked, found)),
                );
            } else {
                let resolver = resolver(knowledge, service);
                wanted.extend(outside::wanted(linked, resolver, knowledge));
            }
        }
        wanted
    }

    fn contents(&self, knowledge: &Knowledge, previous: &Snapshot) -> Option<Contents> {
        let registration = knowledge.registration(&self.gateway.name)?;
        let mut contents = Contents::default();
        let settings = sni_gateway::bind::settings(&self.gateway, registration);
        contents.rejected.extend(settings.rejected);
        let sight = Sight {
            knowledge,
            previous,
            datacenter: &registration.datacenter,
            trust_domain: &knowledge.roots()?.trust_domain,
            default: self.default.or_else(|| default_verdict(knowledge))?,
            mesh: mesh::known(knowledge, previous, &mut contents)?,
            connect_timeout: settings.connect_timeout,
        };
        knowledge.resolvers()?;
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
        for listener in sni_gateway::listeners(&settings.binds, chains) {
            contents.listener(listener);
        }
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
    mesh: MeshRules,
    connect_timeout: Option<Duration>,
}

/// Why a linked service cannot be served yet.
enum Missing {
    Waiting,
    Failed(String),
}

impl From<outside::Waiting> for Missing {
    fn from(_: outside::Waiting) -> Self {
        Self::Waiting
    }
}

impl Sight<'_> {
    /// The chains of a service and its subsets; their clusters go into `contents`.
    fn linked(
        &self,
        linked: &GatewayService,
        contents: &mut Contents,
    ) -> Result<Vec<SniChain>, Missing> {
        let service = &linked.service.name;
        let leaf = Topic::Leaf(service.clone());
        let intentions = Topic::Intentions(service.clone());
        if self.knowledge.waits_for(&leaf) || self.knowledge.waits_for(&intentions) {
            return Err(Missing::Waiting);
        }
        let identity = identity::known(self.knowledge, service, self.previous, contents)
            .ok_or_else(|| self.no("leaf", &leaf))?;
        let rules = self
            .rules(service, identity.spiffe.trust_domain(), contents)?
            .ok_or_else(|| self.no("intentions", &intentions))?;
        let protocol = self.protocol(service)?;
        self.extensions(service, contents)?;
        let resolver = resolver(self.knowledge, service).filter(|_| !is_destination(linked));
        let outside = Outside {
            knowledge: self.knowledge,
            previous: self.previous,
            linked,
            resolver,
            protocol: protocol.0,
            connect_timeout: self.connect_timeout,
        };
        let inside = Inside {
            linked,
            resolver,
            rules: &rules,
            mesh: &self.mesh,
        };
        let chain = |names, reached: &Reached, contents: &mut Contents| SniChain {
            names,
            action: SniAction::Terminate {
                identity: IdentityName::from(service.as_str()),
                alpn: protocol.alpn(),
                terms: self.mesh.incoming.clone(),
                service: protocol.service(reached, &inside, contents),
            },
        };
        let mut chains = Vec::new();
        if is_destination(linked) {
            let Destination { addresses, port } =
                destination(self.knowledge, service).unwrap_or_default();
            for address in &addresses {
                let reached = outside.reach_address(address, port, contents)?;
                let name = place::of_address(service, address, self.datacenter, self.trust_domain);
                chains.push(chain(vec![name], &reached, contents));
            }
            return Ok(chains);
        }
        for place in place::of_service(service, resolver) {
            let reached = outside.reach(&place, contents)?;
            let names = place.names(self.datacenter, self.trust_domain);
            chains.push(chain(names, &reached, contents));
        }
        Ok(chains)
    }

    /// As Consul has compiled it into the service's chain.
    fn protocol(&self, service: &str) -> Result<Protocol, Missing> {
        match self.knowledge.chain(&chain(service)) {
            Known::Value(chain) => Ok(Protocol::of(&chain.protocol)),
            Known::Waiting => Err(Missing::Waiting),
            Known::Failed(reason) => {
                let reason = format!("its protocol cannot be had: {reason}");
                Err(Missing::Failed(reason))
            }
        }
    }

    /// Names the extensions that the service asks for. Without one that is required, it must not
    /// be served.
    fn extensions(&self, service: &str, contents: &mut Contents) -> Result<(), Missing> {
        let unserved = central::unserved(service, self.knowledge).map_err(|no| match no {
            Obstacle::Waiting => Missing::Waiting,
            Obstacle::Refused(reason) => Missing::Failed(reason),
        });
        contents.rejected.extend(unserved?);
        Ok(())
    }

    fn no(&self, what: &str, topic: &Topic) -> Missing {
        let reason = self.knowledge.failure(topic);
        let reason = reason.unwrap_or("the CA's roots are unknown");
        Missing::Failed(format!("its {what} cannot be had: {reason}"))
    }

    fn rules(
        &self,
        service: &str,
        trust_domain: &TrustDomain,
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
}

/// What of a linked service matters to whoever calls it.
struct Inside<'a> {
    linked: &'a GatewayService,
    resolver: Option<&'a ServiceResolver>,
    rules: &'a Arc<Authorization>,
    mesh: &'a MeshRules,
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
        reached: &Reached,
        inside: &Inside<'_>,
        contents: &mut Contents,
    ) -> TerminatedService {
        let authorization = Some(Arc::clone(inside.rules));
        if self.0 == UpstreamProtocol::Tcp {
            return TerminatedService::Tcp(Arc::new(TcpService {
                clusters: vec![(reached.cluster.clone(), 1)],
                authorization,
                idle_timeout: Some(TCP_IDLE),
                checks: Vec::new(),
            }));
        }
        TerminatedService::Http(Arc::new(HttpService {
            routes: Arc::new(routes(reached, inside, contents)),
            authorization,
            client_certificate: match inside.mesh.sanitize_certificate {
                true => ClientCertificateHeader::Sanitize,
                false => ClientCertificateHeader::AppendForward,
            },
            trust: ClientTrust::Mesh,
            normalization: normalization(inside),
            filters: Default::default(),
        }))
    }
}

/// Paths go out as they came, like from Consul's Envoy, since a stranger may mean something by
/// them. Where permissions look at them they are first brought into the one form that means the
/// same to everybody, so that nobody walks around a permission.
fn normalization(inside: &Inside<'_>) -> PathNormalization {
    let looks = |one: &Intention| matches!(one.decision, Decision::Permissions(_));
    match inside.rules.intentions.iter().any(looks) {
        true => inside.mesh.normalization,
        false => PathNormalization::NONE,
    }
}

/// Everything goes to the one cluster, under the name that it has in DNS unless the operator says
/// otherwise: strangers know nothing of the names that the mesh has for them.
fn routes(reached: &Reached, inside: &Inside<'_>, contents: &mut Contents) -> RouteTable {
    let mut action = RouteAction::forward(reached.cluster.clone());
    if let Some(limit) = inside.resolver.and_then(|one| one.request_timeout) {
        action.timeouts.request = Some(limit);
    }
    if let Some(host) = reached
        .host
        .as_ref()
        .filter(|_| inside.linked.auto_host_rewrite)
    {
        match HeaderValue::from_str(host) {
            Ok(host) => action.request_headers.set.push((HOST, host.into())),
            Err(_) => contents.reject(
                format!("service {}", inside.linked.service.name),
                format!("`{host}` cannot stand in a Host header"),
            ),
        }
    }
    everything(action)
}

/// Whether only its defaults know the service, which has no instances then.
fn is_destination(linked: &GatewayService) -> bool {
    linked.service_kind == "destination"
}

fn destination(knowledge: &Knowledge, service: &str) -> Option<Destination> {
    let defaults = knowledge.entry::<ServiceDefaults>(service).ok()?;
    defaults.destination
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

#[cfg(test)]
mod tests;
