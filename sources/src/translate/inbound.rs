//! The inbound side of a sidecar: its public listener, and the application behind it.

mod application;
mod protocol;
mod rules;

pub(crate) use rules::{closed, under};

use super::access_log;
use super::everything::everything_to;
use super::expose::{Surroundings, exposed};
use super::extension::Extensions;
use super::foreign;
use super::mesh::MeshRules;
use super::opaque::Opaque;
use crate::publish::Contents;
use application::{application, application_ip};
use consul::agent::{AgentCheck, AgentService, Proxy};
use meridian_model::external::CheckProtocol;
use meridian_model::listener::{
    ClientCertificateHeader, ClientTrust, ConnectionLimits, HttpFilters, HttpService, TcpService,
};
use meridian_model::policy::RouteTimeouts;
use meridian_model::{
    Authorization, Bind, Cluster, ClusterName, Direction, ExternalAuthorization, IdentityName,
    Listener, ListenerName, Rejection, Security, Service,
};
use protocol::Protocol;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// Name of the public listener, as in Consul's Envoy.
pub(crate) const LISTENER: &str = "public_listener";
/// Name of the application's cluster, as in Consul's Envoy.
pub(crate) const CLUSTER: &str = "local_app";

/// Envoy's `idle_timeout` of TCP connections.
pub(crate) const TCP_IDLE: Duration = Duration::from_secs(3600);

/// What is known beside the registration.
pub(crate) struct Around<'a> {
    /// What holds for the whole mesh.
    pub(crate) mesh: &'a MeshRules,
    /// What Envoy extensions ask for.
    pub(crate) extensions: Extensions,
    /// The address that the agent advertises, where it is known.
    pub(crate) agent: Option<IpAddr>,
    /// Checks of the application, by ID.
    pub(crate) checks: &'a BTreeMap<String, AgentCheck>,
}

/// Public listener and local application of a registration.
pub(crate) fn inbound(
    registration: &AgentService,
    proxy: &Proxy,
    identity: &IdentityName,
    authorization: &Arc<Authorization>,
    around: Around<'_>,
) -> Result<Contents, String> {
    let (mesh, extensions) = (around.mesh, around.extensions);
    let resource = format!("proxy {}", registration.id);
    let unserved = foreign::unserved(&resource, proxy);
    let mut config = Opaque::new(&resource, &proxy.config);
    let protocol = Protocol::parse(config.text("protocol").as_deref());
    let address = bind(registration, &mut config)?;
    let application = application(proxy)?;

    let mut cluster = Cluster::new(CLUSTER.into(), protocol.upstream(), vec![application]);
    if let Some(timeout) = config.duration("local_connect_timeout_ms") {
        cluster.connect_timeout = timeout;
    }
    let limits = limits(&mut config);
    let timeouts = timeouts(&mut config);
    let scrape = scrape(&mut config);
    let misplaced = misplaced(&resource, protocol, &extensions.inbound);
    let service = service(protocol, timeouts, authorization, extensions.inbound, mesh);
    let surroundings = Surroundings {
        host: address.ip(),
        application: application_ip(proxy)?,
        timeouts,
        checks: around.checks,
        agent: around.agent,
    };
    let mut contents = exposed(proxy, &surroundings);
    contents.scrape = scrape;
    match access_log::plan(&proxy.access_logs) {
        Ok(plan) => contents.access_log = plan.map(Arc::new),
        Err(reason) => contents.reject("AccessLogs", reason),
    }
    for rejected in [config.rejected, unserved, extensions.rejected, misplaced] {
        contents.rejected.extend(rejected);
    }
    contents.listener(Listener {
        name: ListenerName::from(LISTENER),
        bind: Bind::Tcp(address),
        direction: Direction::Inbound,
        security: Security::Mesh {
            identity: identity.clone(),
            alpn: protocol.alpn(),
            terms: mesh.incoming.clone(),
        },
        service,
        limits,
        deadlines: Default::default(),
        callers: Default::default(),
    });
    contents.cluster(cluster);
    for cluster in extensions.clusters {
        contents.cluster(cluster);
    }
    Ok(contents)
}

/// What is done with what peers send.
fn service(
    protocol: Protocol,
    timeouts: RouteTimeouts,
    authorization: &Arc<Authorization>,
    filters: HttpFilters,
    mesh: &MeshRules,
) -> Service {
    let cluster = ClusterName::from(CLUSTER);
    let authorization = Some(Arc::clone(authorization));
    match protocol {
        Protocol::Tcp => Service::Tcp(Arc::new(TcpService {
            clusters: vec![(cluster, 1)],
            authorization,
            idle_timeout: Some(TCP_IDLE),
            checks: filters.checks,
        })),
        Protocol::Http | Protocol::Http2 | Protocol::Grpc => Service::Http(Arc::new(HttpService {
            routes: Arc::new(everything_to(&cluster, timeouts)),
            authorization,
            client_certificate: match mesh.sanitize_certificate {
                true => ClientCertificateHeader::Sanitize,
                false => protocol.client_certificate(),
            },
            trust: ClientTrust::Mesh,
            normalization: mesh.normalization,
            filters,
        })),
    }
}

/// Names what is about requests, where all is bytes.
fn misplaced(resource: &str, protocol: Protocol, filters: &HttpFilters) -> Vec<Rejection> {
    if protocol != Protocol::Tcp {
        return Vec::new();
    }
    let by_http =
        |check: &Arc<ExternalAuthorization>| matches!(check.protocol, CheckProtocol::Http(_));
    let named = [
        (
            !filters.rates.is_empty(),
            "a rate limit is about requests, and the service speaks TCP",
        ),
        (
            !filters.logs.is_empty(),
            "a collector is told of requests, and the service speaks TCP",
        ),
        (
            filters.checks.iter().any(by_http),
            "a service cannot be asked by HTTP about a connection: no answer",
        ),
    ];
    let named = named.into_iter().filter(|(holds, _)| *holds);
    named
        .map(|(_, reason)| Rejection {
            resource: resource.to_owned(),
            reason: reason.to_owned(),
        })
        .collect()
}

/// `bind_address` and `bind_port` win over the registered address and port; no address is all.
fn bind(registration: &AgentService, config: &mut Opaque<'_>) -> Result<SocketAddr, String> {
    let host = config
        .text("bind_address")
        .unwrap_or_else(|| registration.address.clone());
    let ip = if host.is_empty() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED)
    } else {
        ip(&host)?
    };
    let port = config
        .fitting("bind_port")
        .filter(|port| *port > 0)
        .unwrap_or(registration.port);
    if port == 0 {
        return Err("the proxy is registered without a port".to_owned());
    }
    Ok(SocketAddr::new(ip, port))
}

/// What one listener and one head may cost.
fn limits(config: &mut Opaque<'_>) -> ConnectionLimits {
    let mut limits = ConnectionLimits::default();
    if let Some(kib) = config
        .fitting::<u16>("max_request_headers_kb")
        .filter(|n| *n > 0)
    {
        limits.head_bytes = u32::from(kib) * 1024;
    }
    // 0 is Consul's word for no limit; our own then holds.
    if let Some(most) = config.fitting("max_inbound_connections").filter(|n| *n > 0) {
        limits.connections = most;
    }
    limits
}

/// `envoy_prometheus_bind_addr`: `HOST:PORT`.
fn scrape(config: &mut Opaque<'_>) -> Option<SocketAddr> {
    let text = config.text(foreign::SCRAPE)?;
    let (host, port) = text.rsplit_once(':').unwrap_or((&text, ""));
    let host = host.trim_start_matches('[').trim_end_matches(']');
    match (ip(host), port.parse()) {
        (Ok(ip), Ok(port)) => Some(SocketAddr::new(ip, port)),
        _ => config.refuse(
            foreign::SCRAPE,
            &text.clone().into(),
            "an address with a port",
        ),
    }
}

/// Reads an IP address; `localhost` is the one name with a fixed meaning (RFC 6761, 6.3).
pub(crate) fn ip(host: &str) -> Result<IpAddr, String> {
    match host {
        "localhost" => Ok(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        _ => host
            .parse()
            .map_err(|_| format!("`{host}` is no IP address")),
    }
}

/// Unset leaves Envoy's route timeouts in force; 0 turns them off.
fn timeouts(config: &mut Opaque<'_>) -> RouteTimeouts {
    let mut timeouts = RouteTimeouts::default();
    let limit = |set: Duration| Some(set).filter(|set| !set.is_zero());
    if let Some(set) = config.duration("local_request_timeout_ms") {
        timeouts.request = limit(set);
    }
    if let Some(set) = config.duration("local_idle_timeout_ms") {
        timeouts.idle = limit(set);
    }
    timeouts
}

#[cfg(test)]
mod tests;
