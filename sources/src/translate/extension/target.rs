//! The services that extensions call: on this machine by `URI`, or an upstream by `Service`.

use super::Arguments;
use crate::translate::upstream::{Destination, upstreams};
use consul::agent::Proxy;
use meridian_model::cluster::Target as ClusterTarget;
use meridian_model::{
    Cluster, ClusterName, Endpoint, EndpointAddress, Health, Transport, UpstreamProtocol,
};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// A service that is called.
#[derive(Debug, PartialEq)]
pub(super) struct Target {
    /// Its cluster.
    pub(super) cluster: ClusterName,
    /// That cluster, where no upstream brings it along.
    pub(super) made: Option<Cluster>,
    /// How long a call may take, if that is said.
    pub(super) timeout: Option<Duration>,
}

/// Reads `Target`. `name` is for the cluster of a service on this machine, as in Consul's Envoy.
pub(super) fn target(
    mut written: Arguments<'_>,
    name: &str,
    protocol: UpstreamProtocol,
    proxy: &Proxy,
) -> Result<(Target, Vec<String>), String> {
    let timeout = written.text("Timeout")?.map(go_duration).transpose()?;
    let uri = written.text("URI")?;
    let service = match written.table("Service")? {
        Some(mut table) => {
            let service = upstream(&mut table, proxy)?;
            written.done(table);
            service
        }
        None => None,
    };
    let (cluster, made) = match (uri, service) {
        (Some(uri), None) => {
            let made = local(name, protocol, address(uri)?, timeout);
            (made.name.clone(), Some(made))
        }
        (None, Some(cluster)) => (cluster, None),
        _ => return Err("exactly one of Target.URI and Target.Service must be set".to_owned()),
    };
    let target = Target {
        cluster,
        made,
        timeout,
    };
    Ok((target, written.unknown()))
}

/// The cluster of the upstream that leads to a service.
fn upstream(written: &mut Arguments<'_>, proxy: &Proxy) -> Result<Option<ClusterName>, String> {
    let Some(name) = written.text("Name")? else {
        return Ok(None);
    };
    let place = |text: Option<&str>| text.unwrap_or("default").to_owned();
    let namespace = place(written.text("Namespace")?);
    let partition = place(written.text("Partition")?);
    let or_default = |text: &str| if text.is_empty() { "default" } else { text }.to_owned();
    let (upstreams, _) = upstreams(proxy);
    let found = upstreams
        .iter()
        .find(|upstream| match &upstream.destination {
            Destination::Chain(chain) => {
                chain.service == name
                    && or_default(chain.namespace.as_deref().unwrap_or_default()) == namespace
                    && or_default(chain.partition.as_deref().unwrap_or_default()) == partition
            }
            Destination::Prepared(_) => false,
        });
    match found {
        Some(upstream) => Ok(Some(ClusterName::from(upstream.label.as_str()))),
        None => Err(format!(
            "the proxy has no upstream `{name}` that could be asked"
        )),
    }
}

/// Consul allows nothing but this machine; `localhost` is one name of it (RFC 6761, 6.3).
fn address(uri: &str) -> Result<SocketAddr, String> {
    let rest = uri.split_once("://").map_or(uri, |(_, rest)| rest);
    let wrong = || format!("Target.URI `{uri}` is not HOST:PORT on this machine");
    let (host, port) = rest.rsplit_once(':').ok_or_else(wrong)?;
    let ip = match host {
        "" | "localhost" | "127.0.0.1" => IpAddr::V4(Ipv4Addr::LOCALHOST),
        "::1" | "[::1]" => IpAddr::V6(Ipv6Addr::LOCALHOST),
        _ => return Err(wrong()),
    };
    match port.parse() {
        Ok(port) if port > 0 => Ok(SocketAddr::new(ip, port)),
        _ => Err(wrong()),
    }
}

fn local(
    name: &str,
    protocol: UpstreamProtocol,
    address: SocketAddr,
    timeout: Option<Duration>,
) -> Cluster {
    let name = format!("{name}@{address}");
    let target = ClusterTarget {
        name: name.as_str().into(),
        transport: Transport::Plain,
        endpoints: Arc::new([Endpoint {
            address: EndpointAddress::Tcp(address),
            weight: 1,
            health: Health::Healthy,
            instance: name.as_str().into(),
        }]),
    };
    let mut cluster = Cluster::new(name.as_str().into(), protocol, vec![Arc::new(target)]);
    if let Some(timeout) = timeout {
        cluster.connect_timeout = timeout;
    }
    cluster
}

/// Go's notation: `1m30s`, `1.5s`, `200ms`.
fn go_duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("Target.Timeout `{text}` is no duration");
    let mut total = 0.0;
    let mut rest = text;
    while !rest.is_empty() {
        let unit = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .ok_or_else(wrong)?;
        let number: f64 = rest[..unit].parse().map_err(|_| wrong())?;
        rest = &rest[unit..];
        let next = rest
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(rest.len());
        let seconds = match &rest[..next] {
            "ns" => 1e-9,
            "us" | "µs" | "μs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return Err(wrong()),
        };
        total += number * seconds;
        rest = &rest[next..];
    }
    match Duration::try_from_secs_f64(total) {
        Ok(duration) if !duration.is_zero() => Ok(duration),
        _ => Err(wrong()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn read(written: Value) -> Result<Target, String> {
        let proxy = json!({"Upstreams": [{"DestinationName": "authz", "LocalBindPort": 1}]});
        let proxy: Proxy = serde_json::from_value(proxy).unwrap();
        let arguments = Arguments::read(&written)?;
        Ok(target(arguments, "local", UpstreamProtocol::Http2, &proxy)?.0)
    }

    #[test]
    fn durations_are_gos() {
        for (text, millis) in [("200ms", 200), ("1.5s", 1_500), ("1m30s", 90_000)] {
            assert_eq!(go_duration(text), Ok(Duration::from_millis(millis)));
        }
        for bad in ["", "5", "s", "1x", "0s", "-1s", "1s5"] {
            assert!(go_duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_uri_is_a_cluster_on_this_machine() {
        for (uri, address) in [
            ("127.0.0.1:9000", "127.0.0.1:9000"),
            ("http://localhost:9000", "127.0.0.1:9000"),
            (":9000", "127.0.0.1:9000"),
            ("::1:9000", "[::1]:9000"),
        ] {
            let made = read(json!({"URI": uri, "Timeout": "2s"})).unwrap();
            let cluster = made.made.unwrap();
            assert_eq!(cluster.name, made.cluster);
            assert_eq!(cluster.protocol, UpstreamProtocol::Http2);
            assert_eq!(cluster.connect_timeout, Duration::from_secs(2));
            let endpoint = &cluster.targets[0].endpoints[0].address;
            assert_eq!(endpoint.to_string(), address, "{uri}");
        }
        for bad in ["10.0.0.1:80", "example.com:80", "127.0.0.1", "127.0.0.1:0"] {
            assert!(read(json!({"URI": bad})).unwrap_err().contains(bad));
        }
    }

    #[test]
    fn a_service_is_an_upstream_of_the_proxy() {
        let found = read(json!({"Service": {"Name": "authz"}})).unwrap();
        assert_eq!((found.cluster.as_str(), found.made), ("authz", None));
        assert!(read(json!({"Service": {"Name": "other"}})).is_err());
        assert!(read(json!({"Service": {"Name": "authz", "Namespace": "x"}})).is_err());
        assert!(read(json!({"Service": {"Name": "authz"}, "URI": ":1"})).is_err());
        assert!(read(json!({})).is_err());
    }
}
