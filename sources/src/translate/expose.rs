//! `Expose`: paths of the application that are reachable without a certificate, for checks and
//! collectors outside of the mesh.

mod checks;

use super::everything::everything_to;
use super::inbound::CLUSTER;
use crate::publish::Contents;
use consul::agent::{AgentCheck, ExposePath, Proxy};
use meridian_model::cluster::Target;
use meridian_model::listener::{
    Callers, ClientCertificateHeader, ClientTrust, HttpService, PathNormalization,
};
use meridian_model::policy::RouteTimeouts;
use meridian_model::route::PathMatch;
use meridian_model::{
    Bind, Cluster, Direction, Endpoint, EndpointAddress, Health, Listener, ListenerName,
    RouteTable, Security, Service, Transport, UpstreamProtocol,
};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// What the names of its listeners and clusters begin with.
pub(crate) const PREFIX: &str = "exposed/";

/// What is known beside the registration.
pub(crate) struct Surroundings<'a> {
    /// Where the public listener is bound.
    pub(crate) host: IpAddr,
    /// The application's address.
    pub(crate) application: IpAddr,
    /// Deadlines of the application.
    pub(crate) timeouts: RouteTimeouts,
    /// The application's checks, by ID.
    pub(crate) checks: &'a BTreeMap<String, AgentCheck>,
    /// The address that the agent advertises, where it is known.
    pub(crate) agent: Option<IpAddr>,
}

/// A plain listener for each port, which lets exactly the paths through that it was opened for.
/// Ports of checks are for callers of this machine, as in Consul's Envoy.
pub(crate) fn exposed(proxy: &Proxy, around: &Surroundings<'_>) -> Contents {
    let mut contents = Contents::default();
    let mut paths = proxy.expose.paths.clone();
    if proxy.expose.checks {
        let (found, rejected) = checks::paths(proxy, around.checks);
        paths.extend(found);
        contents.rejected.extend(rejected);
    }
    let mut by_port: BTreeMap<u16, Vec<&ExposePath>> = BTreeMap::new();
    for path in &paths {
        match obstacle(path) {
            None => by_port.entry(path.listener_port).or_default().push(path),
            Some(reason) => contents.reject(format!("exposed path {}", path.path), reason),
        }
    }
    for (port, paths) in by_port {
        let mut routes = RouteTable::default();
        for path in &paths {
            let cluster = cluster(path, around.application);
            let mut table = everything_to(&cluster.name, around.timeouts);
            for host in &mut table.hosts {
                for route in &mut host.routes {
                    Arc::make_mut(&mut route.matches).path = PathMatch::Exact(path.path.clone());
                    route.name = cluster.name.as_str().into();
                }
            }
            match routes.hosts.first_mut() {
                None => routes = table,
                Some(first) => {
                    let added = table.hosts.into_iter().flat_map(|host| host.routes);
                    first.routes.extend(added);
                }
            }
            contents.cluster(cluster);
        }
        let callers = if paths.iter().all(|path| path.parsed_from_check) {
            // A machine that calls itself by its own address comes from there.
            Callers::Machine(std::iter::once(around.host).chain(around.agent).collect())
        } else {
            Callers::Anywhere
        };
        contents.listener(listener(
            SocketAddr::new(around.host, port),
            routes,
            callers,
        ));
    }
    contents
}

fn listener(address: SocketAddr, routes: RouteTable, callers: Callers) -> Listener {
    Listener {
        name: ListenerName::from(format!("{PREFIX}{}", address.port())),
        bind: Bind::Tcp(address),
        direction: Direction::Inbound,
        security: Security::Plain,
        service: Service::Http(Arc::new(HttpService {
            routes: Arc::new(routes),
            authorization: None,
            // Strangers have no certificate that could be forwarded.
            client_certificate: ClientCertificateHeader::Sanitize,
            trust: ClientTrust::Mesh,
            // Like Envoy's: a path that only looks like another is not the exposed one.
            normalization: PathNormalization::NONE,
            filters: Default::default(),
        })),
        limits: Default::default(),
        deadlines: Default::default(),
        callers,
    }
}

fn obstacle(path: &ExposePath) -> Option<String> {
    if path.listener_port == 0 || path.local_path_port == 0 {
        return Some("it has no ListenerPort or no LocalPathPort".to_owned());
    }
    if !path.path.starts_with('/') {
        return Some("the path does not start with a slash".to_owned());
    }
    match path.protocol.as_str() {
        "" | "http" | "http2" => None,
        other => Some(format!("the protocol `{other}` is not known")),
    }
}

fn cluster(path: &ExposePath, application: IpAddr) -> Cluster {
    let protocol = match path.protocol.as_str() {
        "http2" => UpstreamProtocol::Http2,
        _ => UpstreamProtocol::Http1,
    };
    let name = format!("{PREFIX}{}{}", path.listener_port, path.path);
    let target = Target {
        name: CLUSTER.into(),
        transport: Transport::Plain,
        endpoints: Arc::new([Endpoint {
            address: EndpointAddress::Tcp(SocketAddr::new(application, path.local_path_port)),
            weight: 1,
            health: Health::Healthy,
            instance: CLUSTER.into(),
        }]),
    };
    Cluster::new(name.into(), protocol, vec![Arc::new(target)])
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn read(expose: Value) -> Contents {
        read_with(expose, &BTreeMap::new())
    }

    fn read_with(expose: Value, checks: &BTreeMap<String, AgentCheck>) -> Contents {
        let proxy = json!({"LocalServicePort": 80, "Expose": expose});
        let proxy: Proxy = serde_json::from_value(proxy).unwrap();
        let ip = |text: &str| text.parse().unwrap();
        let around = Surroundings {
            host: ip("10.0.0.1"),
            application: ip("127.0.0.1"),
            timeouts: RouteTimeouts::default(),
            checks,
            agent: Some(ip("10.0.0.7")),
        };
        exposed(&proxy, &around)
    }

    #[test]
    fn ports_of_checks_are_for_this_machine() {
        let check = json!({"Type": "http", "ExposedPort": 21500,
            "Output": "HTTP GET http://10.0.0.1:21500/health?x=1: 200 OK"});
        let checks = BTreeMap::from([("c".to_owned(), serde_json::from_value(check).unwrap())]);
        let paths = json!([{"Path": "/m", "ListenerPort": 9100, "LocalPathPort": 80}]);
        let contents = read_with(json!({"Checks": true, "Paths": paths}), &checks);
        assert_eq!(contents.rejected, []);
        let callers = |name: &str| contents.listeners[name].callers.clone();
        assert_eq!(callers("exposed/9100"), Callers::Anywhere);
        let own = ["10.0.0.1", "10.0.0.7"].map(|ip| ip.parse().unwrap());
        assert_eq!(callers("exposed/21500"), Callers::Machine(own.to_vec()));
        assert!(contents.clusters.contains_key("exposed/21500/health"));
        // Without the switch, nobody asked for it.
        assert!(read_with(json!({}), &checks).listeners.is_empty());
    }

    #[test]
    fn a_port_lets_its_own_paths_through() {
        let contents = read(json!({"Paths": [
            {"Path": "/health", "ListenerPort": 21500, "LocalPathPort": 80},
            {"Path": "/metrics", "ListenerPort": 21500, "LocalPathPort": 81, "Protocol": "http2"},
            {"Path": "/other", "ListenerPort": 21501, "LocalPathPort": 80},
        ]}));
        assert_eq!(contents.rejected, []);
        assert_eq!(contents.listeners.len(), 2);
        let listener = &contents.listeners["exposed/21500"];
        assert_eq!(listener.bind, Bind::Tcp("10.0.0.1:21500".parse().unwrap()));
        assert_eq!(listener.security, Security::Plain);
        let Service::Http(service) = &listener.service else {
            panic!("{listener:?}")
        };
        let paths: Vec<_> = service.routes.hosts[0]
            .routes
            .iter()
            .map(|route| route.matches.path.clone())
            .collect();
        let exact = |path: &str| PathMatch::Exact(path.to_owned());
        assert_eq!(paths, [exact("/health"), exact("/metrics")]);
        let metrics = &contents.clusters["exposed/21500/metrics"];
        assert_eq!(metrics.protocol, UpstreamProtocol::Http2);
        let address = metrics.targets[0].endpoints[0].address.to_string();
        assert_eq!(address, "127.0.0.1:81");
    }

    #[test]
    fn what_cannot_be_exposed_is_named() {
        let contents = read(json!({"Paths": [
            {"Path": "/a", "ListenerPort": 0, "LocalPathPort": 80},
            {"Path": "b", "ListenerPort": 1, "LocalPathPort": 80},
            {"Path": "/c", "ListenerPort": 1, "LocalPathPort": 80, "Protocol": "tcp"},
        ]}));
        assert!(contents.listeners.is_empty());
        assert_eq!(contents.rejected.len(), 3, "{:?}", contents.rejected);
    }
}
