//! What the listeners of Consul's gateways have in common.

use super::inbound::TCP_IDLE;
use super::terms::terms;
use crate::chain;
use crate::gateways;
use crate::knowledge::{ChainQuery, Knowledge, Known, Topic};
use crate::publish::Contents;
use consul::chain::CompiledChain;
use consul::entry::DirectionalTls;
use meridian_model::listener::{
    Alpn, ClientCertificateHeader, ClientTrust, EdgeTls, HttpService, PathNormalization,
    ServerCertificate, TcpService,
};
use meridian_model::{
    Bind, ClusterName, Direction, Listener, ListenerName, RouteTable, Security, Service, Snapshot,
};
use std::net::SocketAddr;
use std::sync::Arc;

/// HTTP for strangers. Paths are forwarded as written, as Consul's Envoy does: the sidecars
/// behind it normalize them before they judge.
pub(crate) fn http(routes: RouteTable) -> Service {
    Service::Http(Arc::new(HttpService {
        routes: Arc::new(routes),
        authorization: None,
        client_certificate: ClientCertificateHeader::Sanitize,
        trust: ClientTrust::ConsulEdge,
        normalization: PathNormalization::NONE,
        filters: Default::default(),
    }))
}

/// Bytes for strangers.
pub(crate) fn tcp(clusters: Vec<(ClusterName, u32)>) -> Service {
    Service::Tcp(Arc::new(TcpService {
        clusters,
        authorization: None,
        idle_timeout: Some(TCP_IDLE),
        checks: Vec::new(),
    }))
}

/// A listener of a gateway.
pub(crate) fn listener(
    name: &str,
    address: SocketAddr,
    security: Security,
    service: Service,
) -> Listener {
    Listener {
        name: ListenerName::from(name),
        bind: Bind::Tcp(address),
        direction: Direction::Edge,
        security,
        service,
        limits: Default::default(),
        deadlines: Default::default(),
        callers: Default::default(),
    }
}

/// Server TLS, with what an entry leaves of it; the rest is named to `refuse`.
pub(crate) fn tls(
    certificates: Vec<Arc<ServerCertificate>>,
    written: &DirectionalTls,
    alpn: Vec<Alpn>,
    refuse: &mut impl FnMut(String),
) -> Security {
    Security::Edge(EdgeTls {
        certificates,
        terms: terms("TLS", written, refuse),
        alpn,
    })
}

/// Hosts with every way in which a request may name them: one that is written without a port also
/// with the listener's own, as Consul has it. With a star at its end any port is covered.
pub(crate) fn with_port(hosts: impl IntoIterator<Item = String>, port: u16) -> Vec<String> {
    let mut all = Vec::new();
    for host in hosts {
        // A colon inside brackets belongs to an IPv6 address.
        let ported = host
            .rsplit_once(':')
            .is_some_and(|(_, port)| !port.contains(']'));
        if !ported && !host.ends_with('*') {
            all.push(format!("{host}:{port}"));
        }
        all.push(host);
    }
    all
}

/// What a gateway offers by ALPN: Consul's Envoy offers HTTP/2 only where it is the protocol.
pub(crate) fn alpn(protocol: &str) -> Vec<Alpn> {
    match protocol {
        "http" => vec![Alpn::Http1],
        "http2" | "grpc" => vec![Alpn::H2, Alpn::Http1],
        _ => Vec::new(),
    }
}

/// The chain of a service behind a gateway. One for connections is compiled without routers and
/// splitters.
pub(crate) fn chain_query(
    service: &str,
    namespace: &str,
    partition: &str,
    tcp: bool,
) -> ChainQuery {
    // Consul without Enterprise refuses these parameters, even where they say the default.
    let named = |text: &str| (!matches!(text, "" | "default")).then(|| text.to_owned());
    ChainQuery {
        service: service.to_owned(),
        namespace: named(namespace),
        partition: named(partition),
        protocol: tcp.then(|| "tcp".to_owned()),
        ..ChainQuery::default()
    }
}

/// A chain, and all that must be known to follow it.
pub(crate) fn chain_topics(query: ChainQuery, knowledge: &Knowledge, gateway: &str) -> Vec<Topic> {
    let mut topics = Vec::new();
    if let (Known::Value(chain), Some(datacenter)) =
        (knowledge.chain(&query), datacenter(knowledge, gateway))
    {
        let needs = chain::needs(chain, datacenter);
        topics.extend(needs.into_iter().map(Topic::Instances));
        for gateways_of in chain::gateway_datacenters(chain, datacenter) {
            topics.extend(gateways::wanted(knowledge, gateways_of, datacenter));
        }
    }
    topics.push(Topic::Chain(query));
    topics
}

/// A chain that has been asked for: `None` while Consul has not answered.
pub(crate) fn known_chain<'a>(
    query: &ChainQuery,
    knowledge: &'a Knowledge,
) -> Option<Result<&'a CompiledChain, String>> {
    match knowledge.chain(query) {
        Known::Waiting => None,
        Known::Value(chain) => Some(Ok(chain)),
        Known::Failed(reason) => Some(Err(format!(
            "no discovery chain of `{}`: {reason}",
            query.service
        ))),
    }
}

/// Everything as it was, where an entry can't be read any more.
pub(crate) fn unchanged(previous: &Snapshot) -> Contents {
    Contents {
        listeners: previous.listeners.clone(),
        clusters: previous.clusters.clone(),
        identities: previous.identities.clone(),
        rejected: Vec::new(),
        scrape: previous.scrape,
        access_log: previous.access_log.clone(),
    }
}

/// The gateway's datacenter is in its own leaf.
fn datacenter<'a>(knowledge: &'a Knowledge, gateway: &str) -> Option<&'a str> {
    let (_, rest) = knowledge.leaf(gateway)?.service_uri.split_once("/dc/")?;
    rest.split('/').next()
}

#[cfg(test)]
mod tests;
