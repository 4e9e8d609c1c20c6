//! The inbound side of a sidecar: its public listener, and the application behind it.

mod rules;

pub(crate) use rules::{closed, under};

use super::access_log;
use super::expose::{Surroundings, exposed};
use super::extension::Extensions;
use super::foreign;
use super::mesh::MeshRules;
use super::opaque::Opaque;
use crate::publish::Contents;
use consul::agent::{AgentCheck, AgentService, Proxy};
use meridian_model::cluster::Target;
use meridian_model::external::CheckProtocol;
use meridian_model::listener::{
    Alpn, ClientCertificateHeader, ClientTrust, ConnectionLimits, HttpFilters, HttpService,
    TcpService,
};
use meridian_model::policy::RouteTimeouts;
use meridian_model::route::{Precedence, VirtualHost};
use meridian_model::{
    Authorization, Bind, Cluster, ClusterName, Direction, Endpoint, EndpointAddress,
    ExternalAuthorization, Health, IdentityName, Listener, ListenerName, Rejection, Route,
    RouteAction, RouteMatch, RouteName, RouteTable, Security, Service, Transport, UpstreamProtocol,
};
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

/// The service's protocol (`Protocol` of service-defaults, merged into `Config.protocol`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Protocol {
    Tcp,
    Http,
    Http2,
    Grpc,
}

impl Protocol {
    /// Consul compares without case, and treats what it doesn't know as TCP.
    fn parse(text: Option<&str>) -> Self {
        match text.unwrap_or_default().to_ascii_lowercase().as_str() {
            "http" => Self::Http,
            "http2" => Self::Http2,
            "grpc" => Self::Grpc,
            _ => Self::Tcp,
        }
    }

    fn alpn(self) -> Vec<Alpn> {
        match self {
            Self::Tcp => Vec::new(),
            Self::Http => vec![Alpn::Http1],
            Self::Http2 | Self::Grpc => vec![Alpn::H2, Alpn::Http1],
        }
    }

    fn upstream(self) -> UpstreamProtocol {
        match self {
            Self::Tcp => UpstreamProtocol::Tcp,
            Self::Http => UpstreamProtocol::Http1,
            Self::Http2 | Self::Grpc => UpstreamProtocol::Http2,
        }
    }

    /// Consul's Envoy forwards the caller's certificate for HTTP, and strips it for gRPC.
    fn client_certificate(self) -> ClientCertificateHeader {
        match self {
            Self::Http | Self::Http2 => ClientCertificateHeader::AppendForward,
            Self::Grpc | Self::Tcp => ClientCertificateHeader::Sanitize,
        }
    }
}

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
    let timeouts = timeouts(&mut config);
    let scrape = scrape(&mut config);
    let authorization = Some(Arc::clone(authorization));
    let misplaced = match protocol {
        Protocol::Tcp => misplaced(&resource, &extensions.inbound),
        Protocol::Http | Protocol::Http2 | Protocol::Grpc => Vec::new(),
    };
    let service = match protocol {
        Protocol::Tcp => Service::Tcp(Arc::new(TcpService {
            clusters: vec![(cluster.name.clone(), 1)],
            authorization,
            idle_timeout: Some(TCP_IDLE),
            checks: extensions.inbound.checks,
        })),
        Protocol::Http | Protocol::Http2 | Protocol::Grpc => Service::Http(Arc::new(HttpService {
            routes: Arc::new(everything_to(&cluster.name, timeouts)),
            authorization,
            client_certificate: match mesh.sanitize_certificate {
                true => ClientCertificateHeader::Sanitize,
                false => protocol.client_certificate(),
            },
            trust: ClientTrust::Mesh,
            normalization: mesh.normalization,
            filters: extensions.inbound,
        })),
    };
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
    contents.rejected.extend(config.rejected);
    contents.rejected.extend(unserved);
    contents.rejected.extend(extensions.rejected);
    contents.rejected.extend(misplaced);
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

/// Names what is about requests, where all is bytes.
fn misplaced(resource: &str, filters: &HttpFilters) -> Vec<Rejection> {
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

/// Where the application's exposed ports are.
fn application_ip(proxy: &Proxy) -> Result<IpAddr, String> {
    match proxy.local_service_address.as_str() {
        "" => Ok(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        host => ip(host),
    }
}

fn application(proxy: &Proxy) -> Result<Arc<Target>, String> {
    let address = if !proxy.local_service_socket_path.is_empty() {
        EndpointAddress::Unix(proxy.local_service_socket_path.as_str().into())
    } else {
        let ip = application_ip(proxy)?;
        match proxy.local_service_port {
            0 => return Err("the proxy has neither LocalServicePort nor a socket path".to_owned()),
            port => EndpointAddress::Tcp(SocketAddr::new(ip, port)),
        }
    };
    Ok(Arc::new(Target {
        name: CLUSTER.into(),
        transport: Transport::Plain,
        endpoints: Arc::new([Endpoint {
            address,
            weight: 1,
            // Its checks are for others; whatever reaches the sidecar is for this instance.
            health: Health::Healthy,
            instance: proxy.destination_service_id.as_str().into(),
        }]),
    }))
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

/// Sends every request to one cluster.
pub(crate) fn everything_to(cluster: &ClusterName, timeouts: RouteTimeouts) -> RouteTable {
    let mut action = RouteAction::forward(cluster.clone());
    action.timeouts = timeouts;
    everything(action)
}

/// Does this with every request.
pub(crate) fn everything(action: RouteAction) -> RouteTable {
    RouteTable {
        ports: Default::default(),
        precedence: Precedence::FirstMatch,
        hosts: vec![VirtualHost {
            hosts: vec!["*".to_owned()],
            routes: vec![Route {
                name: RouteName::from(CLUSTER),
                matches: RouteMatch::default(),
                action: Arc::new(action),
            }],
        }],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use meridian_model::Verdict;
    use meridian_model::listener::PathNormalization;
    use serde_json::{Value, json};

    fn translate(mut registration: Value) -> Result<Contents, String> {
        registration["ID"] = json!("web-sidecar-proxy");
        let registration: AgentService = serde_json::from_value(registration).unwrap();
        let proxy = registration.proxy.clone().unwrap();
        let rules = Authorization {
            intentions: Vec::new(),
            default: Verdict::Deny,
            providers: Vec::new(),
        };
        inbound(
            &registration,
            &proxy,
            &"web".into(),
            &Arc::new(rules),
            Around {
                mesh: &MeshRules::default(),
                extensions: Extensions::default(),
                agent: None,
                checks: &BTreeMap::new(),
            },
        )
    }

    fn with_config(config: Value) -> Contents {
        translate(json!({"Port": 21000, "Proxy": {"LocalServicePort": 80, "Config": config}}))
            .unwrap()
    }

    fn http(contents: &Contents) -> Arc<HttpService> {
        match &contents.listeners[LISTENER].service {
            Service::Http(service) => Arc::clone(service),
            Service::Tcp(_) | Service::BySni(_) => panic!("not an HTTP service"),
        }
    }

    #[test]
    fn protocol_decides_service_alpn_and_forwarded_certificate() {
        use ClientCertificateHeader::{AppendForward, Sanitize};
        let cases = [
            (
                "http",
                vec![Alpn::Http1],
                UpstreamProtocol::Http1,
                AppendForward,
            ),
            (
                "HTTP2",
                vec![Alpn::H2, Alpn::Http1],
                UpstreamProtocol::Http2,
                AppendForward,
            ),
            (
                "grpc",
                vec![Alpn::H2, Alpn::Http1],
                UpstreamProtocol::Http2,
                Sanitize,
            ),
        ];
        for (protocol, offered, upstream, header) in cases {
            let contents = with_config(json!({"protocol": protocol}));
            let service = http(&contents);
            assert_eq!(service.client_certificate, header, "{protocol}");
            assert_eq!(service.normalization, PathNormalization::MESH_INBOUND);
            assert!(service.authorization.is_some());
            assert_eq!(contents.clusters[CLUSTER].protocol, upstream, "{protocol}");
            let Security::Mesh { identity, alpn, .. } = &contents.listeners[LISTENER].security
            else {
                panic!("{contents:?}")
            };
            assert_eq!((identity.as_str(), alpn), ("web", &offered), "{protocol}");
        }
        for config in [
            json!({}),
            json!({"protocol": "tcp"}),
            json!({"protocol": "odd"}),
        ] {
            let contents = with_config(config);
            assert!(matches!(
                contents.listeners[LISTENER].service,
                Service::Tcp(_)
            ));
            assert_eq!(contents.clusters[CLUSTER].protocol, UpstreamProtocol::Tcp);
        }
    }

    #[test]
    fn addresses_are_honoured_in_their_order() {
        let bind = |registration: Value| {
            let contents = translate(registration).unwrap();
            contents.listeners[LISTENER].bind.clone()
        };
        let tcp = |text: &str| Bind::Tcp(text.parse().unwrap());
        let proxy = json!({"LocalServicePort": 80});
        let unnamed = json!({"Port": 21000, "Proxy": proxy});
        assert_eq!(bind(unnamed), tcp("0.0.0.0:21000"));
        let named = json!({"Address": "127.0.0.2", "Port": 21000, "Proxy": proxy});
        assert_eq!(bind(named), tcp("127.0.0.2:21000"));
        let config = json!({"bind_address": "10.0.0.1", "bind_port": "22000"});
        let opaque = json!({"Address": "127.0.0.2", "Port": 21000,
            "Proxy": {"LocalServicePort": 80, "Config": config}});
        assert_eq!(bind(opaque), tcp("10.0.0.1:22000"));
    }

    #[test]
    fn application_is_an_address_or_a_socket() {
        let application = |proxy: Value| {
            let contents = translate(json!({"Port": 1, "Proxy": proxy})).unwrap();
            let target = &contents.clusters[CLUSTER].targets[0];
            target.endpoints[0].address.to_string()
        };
        assert_eq!(application(json!({"LocalServicePort": 80})), "127.0.0.1:80");
        let named = json!({"LocalServiceAddress": "10.0.0.9", "LocalServicePort": 80});
        assert_eq!(application(named), "10.0.0.9:80");
        assert_eq!(
            application(json!({"LocalServiceSocketPath": "/s"})),
            "unix:/s"
        );
    }

    #[test]
    fn timeouts_and_limits_come_from_the_configuration() {
        let contents = with_config(json!({"protocol": "http", "local_request_timeout_ms": 1234,
            "local_connect_timeout_ms": 700, "max_inbound_connections": 7,
            "max_request_headers_kb": 96}));
        let action = &http(&contents).routes.hosts[0].routes[0].action.clone();
        assert_eq!(action.timeouts.request, Some(Duration::from_millis(1234)));
        assert_eq!(
            contents.clusters[CLUSTER].connect_timeout,
            Duration::from_millis(700)
        );
        assert_eq!(contents.listeners[LISTENER].limits.connections, 7);
        assert_eq!(contents.listeners[LISTENER].limits.head_bytes, 96 * 1024);

        let contents = with_config(json!({"protocol": "http", "local_request_timeout_ms": 0}));
        assert_eq!(
            http(&contents).routes.hosts[0].routes[0]
                .action
                .timeouts
                .request,
            None
        );
        let contents = with_config(json!({"protocol": "http"}));
        let action = &http(&contents).routes.hosts[0].routes[0].action.clone();
        assert_eq!(action.timeouts.request, Some(Duration::from_secs(15)));
    }

    #[test]
    fn scrapers_find_metrics_where_they_found_envoys() {
        for (written, address) in [
            ("0.0.0.0:9102", Some("0.0.0.0:9102")),
            ("localhost:9102", Some("127.0.0.1:9102")),
            ("[::]:9102", Some("[::]:9102")),
            ("9102", None),
            ("example.com:9102", None),
        ] {
            let contents = with_config(json!({"envoy_prometheus_bind_addr": written}));
            let expected = address.map(|address| address.parse().unwrap());
            assert_eq!(contents.scrape, expected, "{written}");
            assert_eq!(contents.rejected.len(), usize::from(address.is_none()));
        }
    }

    #[test]
    fn a_registration_without_ports_is_refused() {
        assert!(translate(json!({"Port": 0, "Proxy": {"LocalServicePort": 80}})).is_err());
        assert!(translate(json!({"Port": 1, "Proxy": {}})).is_err());
        let named = json!({"Port": 1, "Address": "example.com", "Proxy": {"LocalServicePort": 80}});
        assert!(translate(named).is_err());
    }
}
