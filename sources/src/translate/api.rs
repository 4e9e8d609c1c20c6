//! An API gateway, as its `api-gateway` entry, the routes bound to it and their certificates
//! want it.
//!
//! Which routes and certificates are bound to a listener is Consul's own verdict, read from
//! `bound-api-gateway`. What Enterprise alone enforces (JWT) is refused, never left out.

mod route;

use super::{certificate, edge, identity, mesh};
use crate::chain::{self, Setting, Traffic};
use crate::knowledge::{Knowledge, Known, NoEntry, Topic};
use crate::publish::Contents;
use crate::role::Role;
use consul::entry::{
    ApiGatewayEntry, ApiGatewayListener, BoundApiGatewayEntry, BoundListener, DirectionalTls,
    Entry, FileSystemCertificateEntry, HttpRouteEntry, InlineCertificateEntry, Reference,
    TcpRouteEntry,
};
use meridian_model::listener::ServerCertificate;
use meridian_model::route::{HostPorts, Precedence, VirtualHost};
use meridian_model::{Identity, RouteTable, Security, Service, Snapshot, TlsTerms};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

/// An API gateway.
#[derive(Debug, Clone)]
pub(crate) struct ApiGateway {
    /// The service that it is registered as, and the name of its entries.
    pub(crate) name: String,
    /// Where its listeners bind.
    pub(crate) host: IpAddr,
}

/// What one generation is made of.
struct Sight<'a> {
    gateway: &'a str,
    knowledge: &'a Knowledge,
    identity: &'a Identity,
    /// TLS that is offered to the mesh.
    outgoing: TlsTerms,
}

impl Role for ApiGateway {
    fn wanted(&self, knowledge: &Knowledge) -> BTreeSet<Topic> {
        let mut wanted = BTreeSet::from([
            Topic::Roots,
            Topic::Leaf(self.name.clone()),
            Topic::Mesh,
            Topic::Entry(ApiGatewayEntry::KIND, self.name.clone()),
            Topic::Entry(BoundApiGatewayEntry::KIND, self.name.clone()),
        ]);
        let bound = knowledge.entry::<BoundApiGatewayEntry>(&self.name);
        for listener in bound.unwrap_or_default().listeners {
            for reference in &listener.routes {
                wanted.extend(route_topics(reference, knowledge, &self.name));
            }
            for reference in &listener.certificates {
                wanted.extend(certificate_topics(reference, knowledge));
            }
        }
        wanted
    }

    fn contents(&self, knowledge: &Knowledge, previous: &Snapshot) -> Option<Contents> {
        let started = previous.generation > 0;
        let entry = match knowledge.entry::<ApiGatewayEntry>(&self.name) {
            Ok(entry) => entry,
            // Ready is a gateway whose listeners are open, so the first generation waits.
            Err(NoEntry::Absent) if started => ApiGatewayEntry::default(),
            Err(NoEntry::Failed(reason)) if started => {
                let mut contents = edge::unchanged(previous);
                contents.reject(format!("api-gateway {}", self.name), reason);
                return Some(contents);
            }
            Err(_) => return None,
        };
        let bound = match knowledge.entry::<BoundApiGatewayEntry>(&self.name) {
            Ok(bound) => bound,
            Err(NoEntry::Absent) if started => BoundApiGatewayEntry::default(),
            Err(_) => return None,
        };
        let mut contents = Contents::default();
        let identity = identity::known(knowledge, &self.name, previous, &mut contents)?;
        let sight = Sight {
            gateway: &self.name,
            knowledge,
            identity: &identity,
            outgoing: mesh::outgoing(knowledge, previous, &mut contents)?,
        };
        let nothing = BoundListener::default();
        for listener in &entry.listeners {
            let mut all = bound.listeners.iter();
            let bound = all.find(|bound| bound.name == listener.name);
            sight.listener(
                listener,
                bound.unwrap_or(&nothing),
                self.host,
                &mut contents,
            )?;
        }
        Some(contents)
    }
}

fn route_topics(reference: &Reference, knowledge: &Knowledge, gateway: &str) -> Vec<Topic> {
    let name = &reference.name;
    let mut topics = Vec::new();
    let queries: Vec<_> = match reference.kind.as_str() {
        HttpRouteEntry::KIND => {
            topics.push(Topic::Entry(HttpRouteEntry::KIND, name.clone()));
            let route = knowledge.entry::<HttpRouteEntry>(name).unwrap_or_default();
            let rules = route.rules.iter();
            rules
                .flat_map(|rule| &rule.services)
                .map(route::query)
                .collect()
        }
        TcpRouteEntry::KIND => {
            topics.push(Topic::Entry(TcpRouteEntry::KIND, name.clone()));
            let route = knowledge.entry::<TcpRouteEntry>(name).unwrap_or_default();
            let services = route.services.iter();
            services
                .map(|one| edge::chain_query(&one.name, &one.namespace, &one.partition, true))
                .collect()
        }
        _ => Vec::new(),
    };
    for query in queries {
        topics.extend(edge::chain_topics(query, knowledge, gateway));
    }
    topics
}

fn certificate_topics(reference: &Reference, knowledge: &Knowledge) -> Vec<Topic> {
    let name = reference.name.clone();
    match reference.kind.as_str() {
        InlineCertificateEntry::KIND => vec![Topic::Entry(InlineCertificateEntry::KIND, name)],
        FileSystemCertificateEntry::KIND => {
            let entry = knowledge.entry::<FileSystemCertificateEntry>(&name);
            let mut topics = vec![Topic::Entry(FileSystemCertificateEntry::KIND, name)];
            if let Ok(entry) = entry {
                topics.push(Topic::File(entry.certificate.into()));
                topics.push(Topic::File(entry.private_key.into()));
            }
            topics
        }
        _ => Vec::new(),
    }
}

impl Sight<'_> {
    /// Adds a listener; `None` while something of it is not known.
    fn listener(
        &self,
        written: &ApiGatewayListener,
        bound: &BoundListener,
        host: IpAddr,
        contents: &mut Contents,
    ) -> Option<()> {
        // Envoy has no listener that leads nowhere either.
        if bound.routes.is_empty() {
            return Some(());
        }
        let resource = format!("listener {}", written.name);
        if written.protocol == "tcp" && bound.routes.len() > 1 {
            contents.reject(
                resource,
                "several routes are bound to it, and it can serve one",
            );
            return Some(());
        }
        if asks_for_tokens(&written.overriding) || asks_for_tokens(&written.defaults) {
            contents.reject(resource, "JWT rules of listeners are not served");
            return Some(());
        }
        let Some(security) = self.security(written, bound, contents)? else {
            return Some(());
        };
        let service = if written.protocol == "tcp" {
            self.tcp(bound, contents)?
        } else {
            self.http(written, bound, contents)?
        };
        let address = SocketAddr::new(host, written.port);
        contents.listener(edge::listener(&written.name, address, security, service));
        Some(())
    }

    /// What protects a listener; nothing where it must not be opened.
    fn security(
        &self,
        written: &ApiGatewayListener,
        bound: &BoundListener,
        contents: &mut Contents,
    ) -> Option<Option<Security>> {
        if written.tls.certificates.is_empty() {
            return Some(Some(Security::Plain));
        }
        let mut certificates = Vec::new();
        for reference in &bound.certificates {
            match self.certificate(reference)? {
                Ok(found) => certificates.push(found),
                Err(reason) => {
                    let resource = format!("{} {}", reference.kind, reference.name);
                    contents.reject(resource, reason);
                }
            }
        }
        let resource = format!("listener {}", written.name);
        if certificates.is_empty() {
            contents.reject(resource, "none of its certificates can be presented");
            return Some(None);
        }
        let tls = DirectionalTls {
            min_version: written.tls.min_version.clone(),
            max_version: written.tls.max_version.clone(),
            cipher_suites: written.tls.cipher_suites.clone(),
        };
        let chosen = by_name(certificates, self.identity);
        let mut refuse = |what| contents.reject(resource.clone(), what);
        let security = edge::tls(chosen, &tls, edge::alpn(&written.protocol), &mut refuse);
        Some(Some(security))
    }

    fn certificate(&self, reference: &Reference) -> Option<Result<ServerCertificate, String>> {
        let name = &reference.name;
        match reference.kind.as_str() {
            InlineCertificateEntry::KIND => {
                let entry = match entry::<InlineCertificateEntry>(self.knowledge, name)? {
                    Ok(entry) => entry,
                    Err(reason) => return Some(Err(reason)),
                };
                let key = entry.private_key.expose().as_bytes();
                let certificate = entry.certificate.as_bytes();
                Some(certificate::readable(name, certificate, key))
            }
            FileSystemCertificateEntry::KIND => {
                let entry = match entry::<FileSystemCertificateEntry>(self.knowledge, name)? {
                    Ok(entry) => entry,
                    Err(reason) => return Some(Err(reason)),
                };
                let certificate = self.file(&entry.certificate)?;
                let key = self.file(&entry.private_key)?;
                Some(
                    certificate
                        .and_then(|certificate| certificate::readable(name, certificate, key?)),
                )
            }
            kind => Some(Err(format!("certificates of kind `{kind}` are not known"))),
        }
    }

    fn file(&self, path: &str) -> Option<Result<&[u8], String>> {
        match self.knowledge.file(Path::new(path)) {
            Known::Waiting => None,
            Known::Failed(reason) => Some(Err(reason.to_owned())),
            Known::Value(bytes) => Some(Ok(bytes)),
        }
    }

    fn tcp(&self, bound: &BoundListener, contents: &mut Contents) -> Option<Service> {
        let mut clusters = Vec::new();
        for reference in &bound.routes {
            let resource = format!("{} {}", reference.kind, reference.name);
            let route = match entry::<TcpRouteEntry>(self.knowledge, &reference.name)? {
                Ok(route) => route,
                Err(reason) => {
                    contents.reject(resource, reason);
                    continue;
                }
            };
            for one in &route.services {
                let query = edge::chain_query(&one.name, &one.namespace, &one.partition, true);
                let chain = match edge::known_chain(&query, self.knowledge)? {
                    Ok(chain) => chain,
                    Err(reason) => {
                        contents.reject(resource.clone(), reason);
                        continue;
                    }
                };
                let label = format!("{}/{}", bound.name, one.name);
                let setting = Setting::of_gateway(&label, self.identity, &self.outgoing);
                let translated = chain::translate(chain, &setting, self.knowledge)?;
                contents.rejected.extend(translated.rejected);
                for cluster in translated.clusters {
                    contents.cluster(cluster);
                }
                match translated.traffic {
                    Traffic::Tcp(found) => clusters.extend(found),
                    Traffic::Http(_) => {
                        contents.reject(resource.clone(), "its chain is not one of connections");
                    }
                }
            }
        }
        Some(edge::tcp(clusters))
    }

    fn http(
        &self,
        written: &ApiGatewayListener,
        bound: &BoundListener,
        contents: &mut Contents,
    ) -> Option<Service> {
        let mut routes = Vec::new();
        for reference in &bound.routes {
            match entry::<HttpRouteEntry>(self.knowledge, &reference.name)? {
                Ok(route) => routes.push((reference.name.as_str(), route)),
                Err(reason) => {
                    contents.reject(format!("{} {}", reference.kind, reference.name), reason);
                }
            }
        }
        let mut hosts = Vec::new();
        for (host, rules) in route::by_host(&written.hostname, &routes) {
            hosts.push(VirtualHost {
                hosts: edge::with_port([host], written.port),
                routes: route::translate(&rules, self, contents)?,
            });
        }
        Some(edge::http(RouteTable {
            precedence: Precedence::FirstMatch,
            ports: HostPorts::Written,
            hosts,
        }))
    }
}

/// An entry that Consul says is bound: `None` while it is not known.
fn entry<E: Entry>(knowledge: &Knowledge, name: &str) -> Option<Result<E, String>> {
    match knowledge.entry::<E>(name) {
        Ok(entry) => Some(Ok(entry)),
        Err(NoEntry::Waiting) => None,
        Err(NoEntry::Absent) => Some(Err("it does not exist".to_owned())),
        Err(NoEntry::Failed(reason)) => Some(Err(reason)),
    }
}

fn asks_for_tokens(policy: &Value) -> bool {
    policy.get("JWT").is_some_and(|rules| !rules.is_null())
}

/// Which certificate answers which name, as in Consul's Envoy: a single one answers all; of
/// several each answers its own names, and the gateway's leaf those that none has, and those that
/// are there twice. One certificate's common name among its own DNS names counts as twice.
fn by_name(
    mut certificates: Vec<ServerCertificate>,
    identity: &Identity,
) -> Vec<Arc<ServerCertificate>> {
    if certificates.len() > 1 {
        let mut seen: BTreeMap<String, usize> = BTreeMap::new();
        for certificate in &certificates {
            for host in &certificate.hosts {
                *seen.entry(host.clone()).or_default() += 1;
            }
        }
        for certificate in &mut certificates {
            certificate.hosts.retain(|host| seen.get(host) == Some(&1));
        }
        certificates.insert(0, certificate::leaf(identity));
    }
    certificates.into_iter().map(Arc::new).collect()
}
