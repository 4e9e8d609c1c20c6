//! An ingress gateway, as its `ingress-gateway` entry wants it.
//!
//! Listeners bind to the host of the gateway's address. A host name goes with its own port only,
//! except the default names `<service>.ingress.*`, as in Consul's Envoy.

use super::edge::{self, Versions};
use super::{certificate, identity};
use crate::chain::{self, Traffic, Translated};
use crate::knowledge::{Knowledge, Known, NoEntry, Topic};
use crate::publish::Contents;
use crate::role::Role;
use consul::catalog::GatewayService;
use consul::entry::{
    Entry, IngressGatewayEntry, IngressLimits, IngressListener, IngressService, IngressTls,
};
use meridian_model::listener::ServerCertificate;
use meridian_model::policy::CircuitLimits;
use meridian_model::route::{HeaderModifier, HostPorts, Precedence, VirtualHost};
use meridian_model::{Identity, Route, RouteAction, RouteTable, Security, Service, Snapshot};
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
    /// What listeners with TLS present.
    certificate: Arc<ServerCertificate>,
}

impl Role for IngressGateway {
    fn wanted(&self, knowledge: &Knowledge) -> BTreeSet<Topic> {
        let mut wanted = BTreeSet::from([
            Topic::Roots,
            Topic::Leaf(self.name.clone()),
            Topic::Entry(IngressGatewayEntry::KIND, self.name.clone()),
            Topic::GatewayServices(self.name.clone()),
        ]);
        let entry = knowledge.entry::<IngressGatewayEntry>(&self.name);
        if entry.is_ok_and(|entry| entry.tls.enabled) {
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
            certificate: Arc::new(certificate::leaf(&identity)),
        };
        if entry.tls.enabled {
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
    /// not known. Consul makes one where TLS is on for the whole gateway, and gives its plain
    /// leaf to single listeners with TLS.
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
        let security = match self.security(written) {
            Ok((security, ignored)) => {
                for what in ignored {
                    contents.reject(resource.clone(), format!("{what} is not honoured"));
                }
                security
            }
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
            http(written.port, hosts)
        };
        let address = SocketAddr::new(address.ip(), written.port);
        contents.listener(edge::listener(&name, address, security, service));
        Some(())
    }

    fn security(&self, written: &IngressListener) -> Result<(Security, Vec<String>), String> {
        let tls: &IngressTls = match &written.tls {
            // A listener's own versions don't turn the gateway's TLS off.
            Some(own) if own.enabled || !self.entry.tls.enabled => own,
            _ => &self.entry.tls,
        };
        if !tls.sds.is_null() {
            return Err("certificates from an SDS server are not served".to_owned());
        }
        if !tls.enabled {
            return Ok((Security::Plain, Vec::new()));
        }
        let versions = Versions {
            min: &tls.min_version,
            max: &tls.max_version,
            cipher_suites: &tls.cipher_suites,
        };
        Ok(edge::tls(
            vec![Arc::clone(&self.certificate)],
            &versions,
            edge::alpn(&written.protocol),
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
        let limits = limits(written(row, listener), &self.entry.defaults);
        let setting = edge::setting(&label, self.identity, limits);
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

fn query(row: &GatewayService) -> crate::knowledge::ChainQuery {
    let tcp = row.protocol == "tcp";
    edge::chain_query(&row.service.name, &row.service.namespace, "", tcp)
}

/// Names the clusters of a service.
fn label(row: &GatewayService) -> String {
    match (row.protocol.as_str(), row.service.namespace.as_str()) {
        ("tcp", _) => format!("{}@{}", row.service.name, row.port),
        (_, "" | "default") => row.service.name.clone(),
        (_, namespace) => format!("{}.{namespace}", row.service.name),
    }
}

/// What the entry says about a service of a listener.
fn written<'a>(row: &GatewayService, listener: &'a IngressListener) -> Option<&'a IngressService> {
    let named = |name: &str| listener.services.iter().find(|one| one.name == name);
    named(&row.service.name).or_else(|| named("*"))
}

fn limits(own: Option<&IngressService>, defaults: &IngressLimits) -> CircuitLimits {
    let own = own.map(|own| own.limits).unwrap_or_default();
    let first = |own: u32, default: u32| [own, default].into_iter().find(|most| *most > 0);
    CircuitLimits {
        connections: first(own.max_connections, defaults.max_connections),
        pending_requests: first(own.max_pending_requests, defaults.max_pending_requests),
        requests: first(
            own.max_concurrent_requests,
            defaults.max_concurrent_requests,
        ),
    }
}

fn http(port: u16, hosts: Vec<VirtualHost>) -> Service {
    edge::http(RouteTable {
        precedence: Precedence::FirstMatch,
        ports: HostPorts::Only(port),
        hosts,
    })
}

/// The routes of a service under its hosts, with the listener's own changes to headers.
fn virtual_host(
    row: &GatewayService,
    listener: &IngressListener,
    table: RouteTable,
    contents: &mut Contents,
) -> Option<VirtualHost> {
    let mut routes: Vec<Route> = table
        .hosts
        .into_iter()
        .flat_map(|host| host.routes)
        .collect();
    if let Some(written) = written(row, listener) {
        let changes = chain::modifier(&written.request_headers)
            .and_then(|request| Ok((request, chain::modifier(&written.response_headers)?)));
        match changes {
            Ok((request, response)) => {
                for route in &mut routes {
                    let mut action = RouteAction::clone(&route.action);
                    append(&mut action.request_headers, &request);
                    append(&mut action.response_headers, &response);
                    route.action = Arc::new(action);
                }
            }
            Err(reason) => {
                contents.reject(format!("service {}", row.service.name), reason);
                return None;
            }
        }
    }
    let hosts = match (&row.hosts[..], row.service.namespace.as_str()) {
        ([], "" | "default") => vec![format!("{}.ingress.*", row.service.name)],
        ([], namespace) => vec![format!("{}.ingress.{namespace}.*", row.service.name)],
        (hosts, _) => hosts.iter().map(|host| bare(host, listener.port)).collect(),
    };
    Some(VirtualHost { hosts, routes })
}

/// A host without the listener's own port, with which requests may name it anyway.
fn bare(host: &str, port: u16) -> String {
    let host = host.to_ascii_lowercase();
    match host.rsplit_once(':') {
        Some((name, written)) if written.parse() == Ok(port) => name.to_owned(),
        _ => host,
    }
}

/// Further changes after those that are there.
fn append(changes: &mut HeaderModifier, further: &HeaderModifier) {
    // Set last wins, so what a later step removes or sets again must not come back.
    let gone = |name: &http::HeaderName| {
        further.remove.contains(name) || further.set.iter().any(|(set, _)| set == name)
    };
    changes.set.retain(|(name, _)| !gone(name));
    changes.add.retain(|(name, _)| !gone(name));
    changes.remove.extend(further.remove.iter().cloned());
    changes.set.extend(further.set.iter().cloned());
    changes.add.extend(further.add.iter().cloned());
}
