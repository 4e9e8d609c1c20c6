//! Snapshots in few words: listeners, routes, clusters.

use meridian_model::cluster::{MeshTransport, Target};
use meridian_model::listener::{
    Callers, ClientCertificateHeader, ClientTrust, ConnectionDeadlines, ConnectionLimits,
    HttpService, PathNormalization, TcpService,
};
use meridian_model::route::{RouteTable, VirtualHost};
use meridian_model::{
    Authorization, Bind, Cluster, Direction, Endpoint, EndpointAddress, Health, Identity, Listener,
    Route, RouteAction, RouteMatch, Security, Service, Snapshot, TlsTerms, Transport,
    UpstreamProtocol,
};
use std::net::SocketAddr;
use std::sync::Arc;

/// A snapshot of these parts.
pub(crate) fn snapshot(listeners: Vec<Listener>, clusters: Vec<Cluster>) -> Snapshot {
    let mut snapshot = Snapshot::default();
    for listener in listeners {
        put_listener(&mut snapshot, listener);
    }
    for cluster in clusters {
        put_cluster(&mut snapshot, cluster);
    }
    snapshot
}

pub(crate) fn put_listener(snapshot: &mut Snapshot, listener: Listener) {
    let name = listener.name.clone();
    snapshot.listeners.insert(name, Arc::new(listener));
}

pub(crate) fn put_cluster(snapshot: &mut Snapshot, cluster: Cluster) {
    let name = cluster.name.clone();
    snapshot.clusters.insert(name, Arc::new(cluster));
}

pub(crate) fn put_identity(snapshot: &mut Snapshot, identity: Identity) {
    let name = identity.name.clone();
    snapshot.identities.insert(name, Arc::new(identity));
}

/// One plain HTTP listener named `in` before one cluster named `origin`.
pub(crate) fn simple(protocol: UpstreamProtocol, origin: SocketAddr) -> Snapshot {
    snapshot(
        vec![http("in", routes(vec![to("origin")]))],
        vec![cluster("origin", protocol, &[origin])],
    )
}

/// As [`simple`], with changes to the route's action.
pub(crate) fn simple_with(
    protocol: UpstreamProtocol,
    origin: SocketAddr,
    change: impl FnOnce(&mut RouteAction),
) -> Snapshot {
    let mut action = RouteAction::forward("origin".into());
    change(&mut action);
    let route = route("all", RouteMatch::default(), action);
    snapshot(
        vec![http("in", routes(vec![route]))],
        vec![cluster("origin", protocol, &[origin])],
    )
}

pub(crate) fn cluster(name: &str, protocol: UpstreamProtocol, addresses: &[SocketAddr]) -> Cluster {
    cluster_through(name, protocol, Transport::Plain, addresses)
}

pub(crate) fn cluster_through(
    name: &str,
    protocol: UpstreamProtocol,
    transport: Transport,
    addresses: &[SocketAddr],
) -> Cluster {
    let target = Target {
        name: name.into(),
        transport,
        endpoints: addresses.iter().copied().map(endpoint).collect(),
    };
    Cluster::new(name.into(), protocol, vec![Arc::new(target)])
}

pub(crate) fn endpoint(address: SocketAddr) -> Endpoint {
    Endpoint {
        address: EndpointAddress::Tcp(address),
        weight: 1,
        health: Health::Healthy,
        instance: address.to_string().into(),
    }
}

/// A route of everything to one cluster.
pub(crate) fn to(cluster: &str) -> Route {
    let action = RouteAction::forward(cluster.into());
    route("all", RouteMatch::default(), action)
}

pub(crate) fn route(name: &str, matches: RouteMatch, action: RouteAction) -> Route {
    Route {
        name: name.into(),
        matches: Arc::new(matches),
        action: Arc::new(action),
    }
}

/// A table of one virtual host for all hosts.
pub(crate) fn routes(routes: Vec<Route>) -> RouteTable {
    let host = VirtualHost {
        hosts: vec!["*".into()],
        routes,
    };
    RouteTable {
        hosts: vec![host],
        ..RouteTable::default()
    }
}

/// A plain HTTP listener of the mesh kind, as for an application's upstream.
pub(crate) fn http(name: &str, routes: RouteTable) -> Listener {
    let service = HttpService {
        routes: Arc::new(routes),
        authorization: None,
        client_certificate: ClientCertificateHeader::Sanitize,
        trust: ClientTrust::Mesh,
        normalization: PathNormalization::NONE,
        filters: Default::default(),
    };
    listener(
        name,
        Direction::Outbound,
        Security::Plain,
        Service::Http(Arc::new(service)),
    )
}

/// A plain HTTP listener that trusts nobody.
pub(crate) fn edge(name: &str, routes: RouteTable) -> Listener {
    let service = HttpService {
        routes: Arc::new(routes),
        authorization: None,
        client_certificate: ClientCertificateHeader::Sanitize,
        trust: ClientTrust::Edge,
        normalization: PathNormalization::EDGE,
        filters: Default::default(),
    };
    listener(
        name,
        Direction::Edge,
        Security::Plain,
        Service::Http(Arc::new(service)),
    )
}

/// A mesh HTTP listener that presents `identity`.
pub(crate) fn inbound(name: &str, identity: &str, rules: Authorization) -> Listener {
    let service = HttpService {
        routes: Arc::new(routes(vec![to("local")])),
        authorization: Some(Arc::new(rules)),
        client_certificate: ClientCertificateHeader::AppendForward,
        trust: ClientTrust::Mesh,
        normalization: PathNormalization::MESH_INBOUND,
        filters: Default::default(),
    };
    let service = Service::Http(Arc::new(service));
    listener(name, Direction::Inbound, mesh_security(identity), service)
}

/// A mesh TCP listener that presents `identity`.
pub(crate) fn inbound_tcp(name: &str, identity: &str, rules: Authorization) -> Listener {
    let service = TcpService {
        clusters: vec![("local".into(), 1)],
        authorization: Some(Arc::new(rules)),
        idle_timeout: None,
        checks: Vec::new(),
    };
    let service = Service::Tcp(Arc::new(service));
    listener(name, Direction::Inbound, mesh_security(identity), service)
}

/// A plain TCP listener to one cluster.
pub(crate) fn tcp(name: &str, cluster: &str) -> Listener {
    let service = TcpService {
        clusters: vec![(cluster.into(), 1)],
        authorization: None,
        idle_timeout: None,
        checks: Vec::new(),
    };
    let service = Service::Tcp(Arc::new(service));
    listener(name, Direction::Outbound, Security::Plain, service)
}

fn mesh_security(identity: &str) -> Security {
    use meridian_model::listener::Alpn;
    Security::Mesh {
        identity: identity.into(),
        alpn: vec![Alpn::H2, Alpn::Http1],
        terms: TlsTerms::default(),
    }
}

fn listener(name: &str, direction: Direction, security: Security, service: Service) -> Listener {
    Listener {
        name: name.into(),
        bind: Bind::Tcp(([127, 0, 0, 1], 0).into()),
        direction,
        security,
        service,
        limits: ConnectionLimits::default(),
        deadlines: ConnectionDeadlines::default(),
        callers: Callers::Anywhere,
    }
}

/// Mutual TLS from `caller` to `service` of the same trust domain.
pub(crate) fn mesh(caller: &Identity, service: &Identity) -> Transport {
    Transport::Mesh(MeshTransport {
        identity: caller.name.clone(),
        trust_domain: caller.spiffe.trust_domain().clone(),
        sni: format!("{}.mesh.test", service.name).into(),
        expected: vec![service.spiffe.clone()],
        terms: TlsTerms::default(),
    })
}
