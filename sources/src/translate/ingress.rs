//! An ingress gateway, as its `ingress-gateway` entry wants it.
//!
//! Listeners bind to the host of the gateway's address. A host goes without a port or with the
//! listener's own, one that is written with a port with that one alone, and the default names
//! `<service>.ingress.*` go with any, as in Consul's Envoy.

mod service;

use super::{certificate, edge, identity, mesh};
use crate::chain::{self, Setting, Traffic, Translated};
use crate::knowledge::{Knowledge, Known, NoEntry, Topic};
use crate::publish::Contents;
use crate::role::Role;
use consul::catalog::GatewayService;
use consul::entry::{DirectionalTls, Entry, IngressGatewayEntry, IngressListener, IngressTls};
use meridian_model::listener::ServerCertificate;
use meridian_model::route::{HostPorts, Precedence, VirtualHost};
use meridian_model::{Identity, RouteTable, Security, Service, Snapshot, TlsTerms};
use service::{label, limits, outlier, query, virtual_host, written};
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;

/// Name of the listener that answers Consul's check of the gateway.
const CHECK: &str = "check";

/// An ingress gateway.
#[derive(Debug, Clone)]
pub(crate) struct IngressGateway {
    /// The service that it is registered as.
    pub(crate) name: String,
    /// Where its check looks, and the host of its listeners.
    pub(crate) address: SocketAddr,
}

/// What one generation is made of.
struct Sight<'a> {
    knowledge: &'a Knowledge,
    entry: &'a IngressGatewayEntry,
    services: &'a [GatewayService],
    identity: &'a Identity,
    /// TLS that is offered to the mesh.
    outgoing: TlsTerms,
    /// What listeners with TLS present.
    certificate: Arc<ServerCertificate>,
}

impl Role for IngressGateway {
    fn wanted(&self, knowledge: &Knowledge) -> BTreeSet<Topic> {
        let mut wanted = BTreeSet::from([
            Topic::Roots,
            Topic::Leaf(self.name.clone()),
            Topic::Mesh,
            Topic::Entry(IngressGatewayEntry::KIND, self.name.clone()),
            Topic::GatewayServices(self.name.clone()),
        ]);
        let entry = knowledge.entry::<IngressGatewayEntry>(&self.name);
        if entry.is_ok_and(|entry| speaks_tls(&entry)) {
            wanted.insert(Topic::GatewayCertificate(self.name.clone()));
        }
        for row in knowledge.gateway_services(&self.name).unwrap_or_default() {
            wanted.extend(edge::chain_topics(query(row), knowledge, &self.name));
        }
        wanted
    }

    fn contents(&self, knowledge: &Knowledge, previous: &Snapshot) -> Option<Contents> {
        let entry = match knowledge.entry::<IngressGatewayEntry>(&self.name) {
            Ok(entry) => entry,
            Err(NoEntry::Absent) => IngressGatewayEntry::default(),
            Err(NoEntry::Failed(reason)) if previous.generation > 0 => {
                let mut contents = edge::unchanged(previous);
                contents.reject(format!("ingress-gateway {}", self.name), reason);
                return Some(contents);
            }
            Err(_) => return None,
        };
        let services = knowledge.gateway_services(&self.name)?;
        let mut contents = Contents::default();
        let identity = identity::known(knowledge, &self.name, previous, &mut contents)?;
        let mut sight = Sight {
            knowledge,
            entry: &entry,
            services,
            identity: &identity,
            outgoing: mesh::outgoing(knowledge, previous, &mut contents)?,
            certificate: Arc::new(certificate::leaf(&identity)),
        };
        if speaks_tls(&entry) {
            match self.certificate(knowledge)? {
                Ok(named) => sight.certificate = Arc::new(named),
                Err(reason) => contents.reject(
                    format!("certificate of {}", self.name),
                    format!("it has no DNS names: {reason}"),
                ),
            }
        }
        for listener in &entry.listeners {
            sight.listener(listener, self.address, &mut contents)?;
        }
        if entry
            .listeners
            .iter()
            .all(|one| one.port != self.address.port())
        {
            let nothing = edge::tcp(Vec::new());
            contents.listener(edge::listener(
                CHECK,
                self.address,
                Security::Plain,
                nothing,
            ));
        }
        Some(contents)
    }
}

impl IngressGateway {
    /// The certificate with the gateway's DNS names, or why there is none; `None` while that is
    /// not known. Consul makes one for all listeners as soon as one of them has TLS.
    fn certificate(&self, knowledge: &Knowledge) -> Option<Result<ServerCertificate, String>> {
        Some(match knowledge.gateway_certificate(&self.name) {
            Known::Waiting => return None,
            Known::Failed(reason) => Err(reason.to_owned()),
            Known::Value(None) => Err("Consul has made none for its listeners".to_owned()),
            Known::Value(Some(found)) => {
                let key = found.private_key_pem.expose().as_bytes();
                certificate::readable(&self.name, found.certificate_pem.as_bytes(), key)
            }
        })
    }
}

impl Sight<'_> {
    /// Adds a listener; `None` while something of it is not known.
    fn listener(
        &self,
        written: &IngressListener,
        address: SocketAddr,
        contents: &mut Contents,
    ) -> Option<()> {
        let all = self.services.iter();
        let rows: Vec<_> = all.filter(|row| row.port == written.port).collect();
        // Envoy has no listener that leads nowhere either.
        if rows.is_empty() {
            return Some(());
        }
        let name = format!("{}:{}", written.protocol, written.port);
        let resource = format!("listener {name}");
        let mut refuse = |what| contents.reject(resource.clone(), what);
        let security = match self.security(written, &mut refuse) {
            Ok(security) => security,
            Err(reason) => {
                contents.reject(resource, reason);
                return Some(());
            }
        };
        let service = if written.protocol == "tcp" {
            let mut clusters = Vec::new();
            for row in rows {
                if let Some(Traffic::Tcp(found)) = self.translated(row, written, contents)? {
                    clusters.extend(found);
                }
            }
            edge::tcp(clusters)
        } else {
            let mut hosts = Vec::new();
            for row in rows {
                if let Some(Traffic::Http(table)) = self.translated(row, written, contents)? {
                    hosts.extend(virtual_host(row, written, table, contents));
                }
            }
            http(hosts)
        };
        let address = SocketAddr::new(address.ip(), written.port);
        contents.listener(edge::listener(&name, address, security, service));
        Some(())
    }

    fn security(
        &self,
        written: &IngressListener,
        refuse: &mut impl FnMut(String),
    ) -> Result<Security, String> {
        let nothing = IngressTls::default();
        let (all, own) = (&self.entry.tls, written.tls.as_ref().unwrap_or(&nothing));
        if !all.sds.is_null() || !own.sds.is_null() {
            return Err("certificates from an SDS server are not served".to_owned());
        }
        // A listener can't turn the gateway's TLS off, and refines it field by field.
        if !all.enabled && !own.enabled {
            return Ok(Security::Plain);
        }
        let text = |own: &String, all: &String| if own.is_empty() { all } else { own }.clone();
        let suites = match &own.cipher_suites[..] {
            [] => &all.cipher_suites,
            _ => &own.cipher_suites,
        };
        let tls = DirectionalTls {
            min_version: text(&own.min_version, &all.min_version),
            max_version: text(&own.max_version, &all.max_version),
            cipher_suites: suites.clone(),
        };
        let certificates = vec![Arc::clone(&self.certificate)];
        Ok(edge::tls(
            certificates,
            &tls,
            edge::alpn(&written.protocol),
            refuse,
        ))
    }

    /// A service's traffic; nothing where its chain was refused.
    fn translated(
        &self,
        row: &GatewayService,
        listener: &IngressListener,
        contents: &mut Contents,
    ) -> Option<Option<Traffic>> {
        let resource = format!("service {}", row.service.name);
        let chain = match edge::known_chain(&query(row), self.knowledge)? {
            Ok(chain) => chain,
            Err(reason) => {
                contents.reject(resource, reason);
                return Some(None);
            }
        };
        let label = label(row);
        let own = written(row, listener);
        if own.is_some_and(|own| !own.tls.is_null()) {
            contents.reject(resource, "certificates from an SDS server are not served");
            return Some(None);
        }
        let setting = Setting {
            limits: limits(own, &self.entry.defaults),
            outlier: Some(outlier(own, &self.entry.defaults)),
            ..Setting::of_gateway(&label, self.identity, &self.outgoing)
        };
        let Translated {
            clusters,
            traffic,
            rejected,
        } = chain::translate(chain, &setting, self.knowledge)?;
        let fits = matches!(
            (&traffic, listener.protocol.as_str()),
            (Traffic::Tcp(_), "tcp") | (Traffic::Http(_), "http" | "http2" | "grpc")
        );
        if !fits {
            // `*` takes only what speaks the listener's protocol; anything else is a mistake.
            if !row.from_wildcard {
                let reason = format!("it doesn't speak `{}`", listener.protocol);
                contents.reject(resource, reason);
            }
            return Some(None);
        }
        for cluster in clusters {
            contents.cluster(cluster);
        }
        contents.rejected.extend(rejected);
        Some(Some(traffic))
    }
}

/// Whether any listener does, with Consul's certificate.
fn speaks_tls(entry: &IngressGatewayEntry) -> bool {
    let own = |listener: &IngressListener| listener.tls.as_ref().is_some_and(|tls| tls.enabled);
    entry.tls.enabled || entry.listeners.iter().any(own)
}

fn http(hosts: Vec<VirtualHost>) -> Service {
    edge::http(RouteTable {
        precedence: Precedence::FirstMatch,
        ports: HostPorts::Written,
        hosts,
    })
}
