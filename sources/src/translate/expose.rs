//! `Expose`: paths of the application that are reachable without a certificate, for checks and
//! collectors outside of the mesh.

use super::inbound::{CLUSTER, everything_to};
use crate::publish::Contents;
use consul::agent::{ExposePath, Proxy};
use meridian_model::cluster::Target;
use meridian_model::listener::{
    ClientCertificateHeader, ClientTrust, HttpService, PathNormalization,
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

/// A plain listener for each port, which lets exactly the paths through that it was opened for.
///
/// `host` is where the public listener is bound, `application` the application's address.
pub(crate) fn exposed(
    proxy: &Proxy,
    host: IpAddr,
    application: IpAddr,
    timeouts: RouteTimeouts,
) -> Contents {
    let mut contents = Contents::default();
    let mut by_port: BTreeMap<u16, Vec<&ExposePath>> = BTreeMap::new();
    for path in &proxy.expose.paths {
        match obstacle(path) {
            None => by_port.entry(path.listener_port).or_default().push(path),
            Some(reason) => contents.reject(format!("exposed path {}", path.path), reason),
        }
    }
    if proxy.expose.checks {
        contents.reject(
            "Expose.Checks",
            "paths of checks are not found out; name them under Expose.Paths",
        );
    }
    for (port, paths) in by_port {
        let mut routes = RouteTable::default();
        for path in paths {
            let cluster = cluster(path, application);
            let mut table = everything_to(&cluster.name, timeouts);
            for host in &mut table.hosts {
                for route in &mut host.routes {
                    route.matches.path = PathMatch::Exact(path.path.clone());
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
        contents.listener(Listener {
            name: ListenerName::from(format!("{PREFIX}{port}")),
            bind: Bind::Tcp(SocketAddr::new(host, port)),
            direction: Direction::Inbound,
            security: Security::Plain,
            service: Service::Http(Arc::new(HttpService {
                routes: Arc::new(routes),
                authorization: None,
                // Strangers have no certificate that could be forwarded.
                client_certificate: ClientCertificateHeader::Sanitize,
                trust: ClientTrust::Mesh,
                // A path that only looks like another is not the exposed one.
                normalization: PathNormalization::MESH_INBOUND,
                filters: Default::default(),
            })),
            limits: Default::default(),
            deadlines: Default::default(),
        });
    }
    contents
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
        let proxy: Proxy = serde_json::from_value(json!({"Expose": expose})).unwrap();
        let ip = |text: &str| text.parse().unwrap();
        exposed(
            &proxy,
            ip("0.0.0.0"),
            ip("127.0.0.1"),
            RouteTimeouts::default(),
        )
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
        assert_eq!(listener.bind, Bind::Tcp("0.0.0.0:21500".parse().unwrap()));
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
        let contents = read(json!({"Checks": true, "Paths": [
            {"Path": "/a", "ListenerPort": 0, "LocalPathPort": 80},
            {"Path": "b", "ListenerPort": 1, "LocalPathPort": 80},
            {"Path": "/c", "ListenerPort": 1, "LocalPathPort": 80, "Protocol": "tcp"},
        ]}));
        assert!(contents.listeners.is_empty());
        assert_eq!(contents.rejected.len(), 4, "{:?}", contents.rejected);
    }
}
