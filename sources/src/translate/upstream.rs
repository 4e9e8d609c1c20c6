//! The outbound side of a sidecar: one listener for each upstream of its registration.

use super::foreign;
use super::inbound::{CLUSTER, TCP_IDLE, ip};
use super::opaque::{Opaque, whole};
use crate::chain::{self, Instances, Setting, Traffic};
use crate::knowledge::ChainQuery;
use crate::publish::Contents;
use consul::agent::{MeshGateway, Proxy, Upstream as Written, UpstreamKind};
use consul::chain::CompiledChain;
use meridian_model::listener::{
    ClientCertificateHeader, ClientTrust, HttpService, PathNormalization, TcpService,
};
use meridian_model::policy::{CircuitLimits, OutlierPolicy};
use meridian_model::{
    Bind, Direction, IdentityName, Listener, ListenerName, Rejection, Security, Service,
    TrustDomain,
};
use serde_json::{Map, Value};
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// An upstream to be opened.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Upstream {
    /// Unique among the proxy's upstreams; names its clusters.
    pub(crate) label: String,
    /// Where the application finds it.
    pub(crate) bind: Bind,
    /// Its chain.
    pub(crate) chain: ChainQuery,
    limits: CircuitLimits,
    outlier: OutlierPolicy,
}

/// Who calls.
pub(crate) struct Caller<'a> {
    pub(crate) identity: &'a IdentityName,
    pub(crate) trust_domain: &'a TrustDomain,
    pub(crate) datacenter: &'a str,
}

/// The upstreams that are to be opened, and those that cannot be.
///
/// `*` holds defaults, and centrally configured ones belong to transparent mode: neither is
/// bound. An upstream keeps its label while it keeps its destination; a second one of the same
/// destination is told apart by its address.
pub(crate) fn upstreams(proxy: &Proxy) -> (Vec<Upstream>, Vec<Rejection>) {
    let mut rejected = Vec::new();
    let mut found = Vec::new();
    // An upstream called like the application's cluster must not take its name.
    let mut labels = BTreeSet::from([CLUSTER.to_owned()]);
    for written in &proxy.upstreams {
        if written.destination_name == "*" || written.centrally_configured {
            continue;
        }
        let mut label = destination(written);
        match bind(written) {
            Ok(bind) => {
                if !labels.insert(label.clone()) {
                    label = format!("{label}@{}", bind_text(&bind));
                    labels.insert(label.clone());
                }
                let (upstream, complaints) = upstream(label, bind, written, &proxy.mesh_gateway);
                rejected.extend(complaints);
                found.push(upstream);
            }
            Err(reason) => rejected.push(Rejection {
                resource: format!("upstream {label}"),
                reason,
            }),
        }
    }
    (found, rejected)
}

/// Name of an upstream's listener.
pub(crate) fn listener_name(label: &str) -> ListenerName {
    ListenerName::from(format!("upstream/{label}"))
}

impl Upstream {
    /// Listener and clusters; `None` while not all targets have been asked for.
    pub(crate) fn contents(
        &self,
        chain: &CompiledChain,
        caller: &Caller<'_>,
        instances: &dyn Instances,
    ) -> Option<Contents> {
        let setting = Setting {
            label: &self.label,
            identity: caller.identity,
            trust_domain: caller.trust_domain,
            datacenter: caller.datacenter,
            limits: self.limits,
            outlier: Some(self.outlier),
        };
        let translated = chain::translate(chain, &setting, instances)?;
        let service = match translated.traffic {
            Traffic::Tcp(clusters) => Service::Tcp(Arc::new(TcpService {
                clusters,
                authorization: None,
                idle_timeout: Some(TCP_IDLE),
            })),
            Traffic::Http(routes) => Service::Http(Arc::new(HttpService {
                routes: Arc::new(routes),
                authorization: None,
                // Only the sidecar of the destination says who called.
                client_certificate: ClientCertificateHeader::Sanitize,
                trust: ClientTrust::Mesh,
                normalization: PathNormalization::NONE,
                filters: Default::default(),
            })),
        };
        let mut contents = Contents {
            rejected: translated.rejected,
            ..Contents::default()
        };
        for cluster in translated.clusters {
            contents.cluster(cluster);
        }
        contents.listener(Listener {
            name: listener_name(&self.label),
            bind: self.bind.clone(),
            direction: Direction::Outbound,
            security: Security::Plain,
            service,
            limits: Default::default(),
            deadlines: Default::default(),
        });
        Some(contents)
    }
}

/// `name[.namespace][?ap=..][?dc=..]`: short where nothing is special.
fn destination(written: &Written) -> String {
    let mut label = written.destination_name.clone();
    if !matches!(written.destination_namespace.as_str(), "" | "default") {
        label = format!("{label}.{}", written.destination_namespace);
    }
    for (key, value) in [
        ("ap", &written.destination_partition),
        ("peer", &written.destination_peer),
        ("dc", &written.datacenter),
    ] {
        if !value.is_empty() && (key, value.as_str()) != ("ap", "default") {
            label = format!("{label}?{key}={value}");
        }
    }
    label
}

fn bind(written: &Written) -> Result<Bind, String> {
    match &written.destination_type {
        UpstreamKind::Service => {}
        UpstreamKind::PreparedQuery => return Err("prepared queries are not served".to_owned()),
        UpstreamKind::Other(kind) => return Err(format!("destination type `{kind}` is not known")),
    }
    if !written.destination_peer.is_empty() {
        return Err("cluster peers are not served".to_owned());
    }
    if !written.local_bind_socket_path.is_empty() {
        let mode = match written.local_bind_socket_mode.as_str() {
            "" => None,
            text => Some(socket_mode(text)?),
        };
        return Ok(Bind::Unix {
            path: written.local_bind_socket_path.as_str().into(),
            mode,
        });
    }
    let address = match written.local_bind_address.as_str() {
        "" => IpAddr::V4(Ipv4Addr::LOCALHOST),
        host => ip(host)?,
    };
    match written.local_bind_port {
        0 => Err("it has neither LocalBindPort nor LocalBindSocketPath".to_owned()),
        port => Ok(Bind::Tcp(SocketAddr::new(address, port))),
    }
}

/// Octal, as in `chmod`.
fn socket_mode(text: &str) -> Result<u32, String> {
    u32::from_str_radix(text, 8)
        .ok()
        .filter(|mode| *mode <= 0o777)
        .ok_or_else(|| format!("LocalBindSocketMode `{text}` is no octal mode"))
}

fn bind_text(bind: &Bind) -> String {
    match bind {
        Bind::Tcp(address) => address.to_string(),
        Bind::Unix { path, .. } => path.display().to_string(),
    }
}

fn upstream(
    label: String,
    bind: Bind,
    written: &Written,
    inherited: &MeshGateway,
) -> (Upstream, Vec<Rejection>) {
    let some = |text: &String| (!text.is_empty()).then(|| text.clone());
    let named = |text: &String| some(text).filter(|text| text != "default");
    let resource = format!("upstream {label}");
    let mut config = Opaque::new(&resource, &written.config);
    // Consul itself merges the mode of `Config.mesh_gateway` into the field.
    let mode = some(&written.mesh_gateway.mode).or_else(|| some(&inherited.mode));
    let chain = ChainQuery {
        service: written.destination_name.clone(),
        datacenter: some(&written.datacenter),
        namespace: named(&written.destination_namespace),
        partition: named(&written.destination_partition),
        connect_timeout: config
            .duration("connect_timeout_ms")
            .filter(|timeout| !timeout.is_zero()),
        protocol: config.text("protocol"),
        mesh_gateway: mode,
    };
    let limits = config.table("limits").map(limits).unwrap_or_default();
    let outlier = config
        .table("passive_health_check")
        .map(outlier)
        .unwrap_or_default();
    let mut rejected = config.rejected;
    rejected.extend(foreign::escapes(&resource, &written.config));
    let upstream = Upstream {
        label,
        bind,
        chain,
        limits,
        outlier,
    };
    (upstream, rejected)
}

/// Consul writes these keys in Go's case when merged, and takes them in snake case.
fn field(table: &Map<String, Value>, name: &str, snake: &str) -> Option<u64> {
    table.get(name).or_else(|| table.get(snake)).and_then(whole)
}

fn limits(table: &Map<String, Value>) -> CircuitLimits {
    let read = |name, snake| field(table, name, snake).and_then(|n| u32::try_from(n).ok());
    CircuitLimits {
        connections: read("MaxConnections", "max_connections"),
        pending_requests: read("MaxPendingRequests", "max_pending_requests"),
        requests: read("MaxConcurrentRequests", "max_concurrent_requests"),
    }
}

/// Unset and zero fields have Envoy's defaults, except the enforced share, where zero counts.
fn outlier(table: &Map<String, Value>) -> OutlierPolicy {
    let mut policy = OutlierPolicy::default();
    let read = |name, snake| field(table, name, snake);
    let positive = |name, snake| read(name, snake).filter(|n| *n > 0);
    if let Some(count) = positive("MaxFailures", "max_failures") {
        policy.consecutive_failures = u32::try_from(count).unwrap_or(u32::MAX);
    }
    if let Some(nanos) = positive("Interval", "interval") {
        policy.interval = Duration::from_nanos(nanos);
    }
    if let Some(nanos) = positive("BaseEjectionTime", "base_ejection_time") {
        policy.base_ejection = Duration::from_nanos(nanos);
        policy.max_ejection = policy.max_ejection.max(policy.base_ejection);
    }
    let percent = |n: u64| u8::try_from(n.min(100)).unwrap_or(100);
    if let Some(share) = positive("MaxEjectionPercent", "max_ejection_percent") {
        policy.max_ejected_percent = percent(share);
    }
    if let Some(share) = read("EnforcingConsecutive5xx", "enforcing_consecutive_5xx") {
        policy.enforcing_percent = percent(share);
    }
    policy
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(written: Value) -> (Vec<Upstream>, Vec<Rejection>) {
        upstreams(&serde_json::from_value(json!({ "Upstreams": written })).unwrap())
    }

    fn tcp(text: &str) -> Bind {
        Bind::Tcp(text.parse().unwrap())
    }

    #[test]
    fn binds_by_address_or_socket() {
        let (found, rejected) = read(json!([
            {"DestinationName": "a", "LocalBindPort": 5000},
            {"DestinationName": "b", "LocalBindAddress": "0.0.0.0", "LocalBindPort": 5001},
            {"DestinationName": "c", "LocalBindSocketPath": "/s", "LocalBindSocketMode": "0640"},
        ]));
        assert_eq!(rejected, []);
        let binds: Vec<_> = found.into_iter().map(|upstream| upstream.bind).collect();
        let socket = Bind::Unix {
            path: "/s".into(),
            mode: Some(0o640),
        };
        assert_eq!(binds, [tcp("127.0.0.1:5000"), tcp("0.0.0.0:5001"), socket]);
    }

    #[test]
    fn defaults_and_central_ones_are_not_bound() {
        let (found, rejected) = read(json!([
            {"DestinationName": "*"},
            {"DestinationName": "a", "CentrallyConfigured": true},
        ]));
        assert_eq!((found, rejected), (Vec::new(), Vec::new()));
    }

    #[test]
    fn a_bad_upstream_rejects_itself_only() {
        let (found, rejected) = read(json!([
            {"DestinationName": "a"},
            {"DestinationName": "b", "LocalBindPort": 1, "DestinationType": "prepared_query"},
            {"DestinationName": "c", "LocalBindPort": 1, "DestinationPeer": "east"},
            {"DestinationName": "d", "LocalBindSocketPath": "/s", "LocalBindSocketMode": "9"},
            {"DestinationName": "e", "LocalBindPort": 1},
        ]));
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].label, "e");
        let named: Vec<_> = rejected.iter().map(|r| r.resource.as_str()).collect();
        assert_eq!(
            named,
            [
                "upstream a",
                "upstream b",
                "upstream c?peer=east",
                "upstream d"
            ]
        );
    }

    #[test]
    fn labels_stay_short_and_unique() {
        let (found, _) = read(json!([
            {"DestinationName": "a", "LocalBindPort": 1, "DestinationNamespace": "default"},
            {"DestinationName": "a", "LocalBindPort": 2},
            {"DestinationName": "a", "LocalBindPort": 3, "Datacenter": "dc2"},
        ]));
        let labels: Vec<_> = found.iter().map(|u| u.label.as_str()).collect();
        assert_eq!(labels, ["a", "a@127.0.0.1:2", "a?dc=dc2"]);
        assert_eq!(found[2].chain.datacenter.as_deref(), Some("dc2"));
    }

    #[test]
    fn settings_reach_chain_limits_and_ejection() {
        let (found, rejected) = read(json!([{"DestinationName": "a", "LocalBindPort": 1,
            "MeshGateway": {"Mode": "local"},
            "Config": {"connect_timeout_ms": 700, "protocol": "http",
                "limits": {"MaxConnections": 5, "MaxPendingRequests": null, "max_concurrent_requests": 0},
                "passive_health_check": {"MaxFailures": 2, "Interval": 3000000000u64,
                    "EnforcingConsecutive5xx": 0, "BaseEjectionTime": 600000000000u64}}}]));
        assert_eq!(rejected, []);
        let upstream = &found[0];
        assert_eq!(
            upstream.chain.connect_timeout,
            Some(Duration::from_millis(700))
        );
        assert_eq!(upstream.chain.protocol.as_deref(), Some("http"));
        assert_eq!(upstream.chain.mesh_gateway.as_deref(), Some("local"));
        let limits = upstream.limits;
        assert_eq!(
            (limits.connections, limits.pending_requests, limits.requests),
            (Some(5), None, Some(0))
        );
        let outlier = upstream.outlier;
        assert_eq!(
            (outlier.consecutive_failures, outlier.enforcing_percent),
            (2, 0)
        );
        assert_eq!(outlier.interval, Duration::from_secs(3));
        assert_eq!(outlier.max_ejection, Duration::from_secs(600));
    }
}
