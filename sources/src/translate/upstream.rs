//! The outbound side of a sidecar: one listener for each upstream of its registration.

use super::foreign;
use super::inbound::{CLUSTER, TCP_IDLE, ip};
use super::opaque::Opaque;
use super::policy;
use super::prepared::Prepared;
use crate::chain::{self, Instances, Setting, Traffic};
use crate::knowledge::ChainQuery;
use crate::publish::Contents;
use consul::agent::{MeshGateway, Proxy, Upstream as Written, UpstreamKind};
use consul::chain::CompiledChain;
use consul::health::ServiceEntry;
use meridian_model::listener::{
    ClientCertificateHeader, ClientTrust, HttpFilters, HttpService, PathNormalization, TcpService,
};
use meridian_model::policy::{CircuitLimits, OutlierPolicy};
use meridian_model::{
    Bind, ClusterName, Direction, IdentityName, Listener, ListenerName, Rejection, Security,
    Service, TlsTerms, TrustDomain,
};
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

/// An upstream to be opened.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Upstream {
    /// Unique among the proxy's upstreams; names its clusters.
    pub(crate) label: String,
    /// Where the application finds it.
    pub(crate) bind: Bind,
    /// Where it leads.
    pub(crate) destination: Destination,
    limits: CircuitLimits,
    outlier: OutlierPolicy,
}

/// Where an upstream leads.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Destination {
    /// Along a service's discovery chain.
    Chain(ChainQuery),
    /// To what a prepared query finds.
    Prepared(Prepared),
}

/// Who calls.
pub(crate) struct Caller<'a> {
    pub(crate) identity: &'a IdentityName,
    pub(crate) trust_domain: &'a TrustDomain,
    pub(crate) datacenter: &'a str,
    /// TLS that is offered to targets.
    pub(crate) terms: &'a TlsTerms,
    /// What is asked of everything that it sends.
    pub(crate) filters: &'a HttpFilters,
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
    /// Listener and cluster of a prepared query.
    pub(crate) fn of_prepared(
        &self,
        prepared: &Prepared,
        found: &[ServiceEntry],
        caller: &Caller<'_>,
    ) -> Contents {
        let name = ClusterName::from(self.label.as_str());
        let (mut cluster, rejected) = prepared.cluster(name.clone(), found, caller);
        cluster.limits = self.limits;
        cluster.outlier = Some(self.outlier);
        let mut contents = Contents {
            rejected,
            ..Contents::default()
        };
        contents.cluster(cluster);
        contents.listener(self.listener(prepared.service(&name, caller.filters)));
        contents
    }

    /// Listener and clusters of a chain; `None` while not all targets have been asked for.
    pub(crate) fn of_chain(
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
            terms: caller.terms.clone(),
        };
        let translated = chain::translate(chain, &setting, instances)?;
        let service = match translated.traffic {
            Traffic::Tcp(clusters) => Service::Tcp(Arc::new(TcpService {
                clusters,
                authorization: None,
                idle_timeout: Some(TCP_IDLE),
                checks: caller.filters.checks.clone(),
            })),
            Traffic::Http(routes) => Service::Http(Arc::new(HttpService {
                routes: Arc::new(routes),
                authorization: None,
                // Only the sidecar of the destination says who called.
                client_certificate: ClientCertificateHeader::Sanitize,
                trust: ClientTrust::Mesh,
                normalization: PathNormalization::NONE,
                filters: caller.filters.clone(),
            })),
        };
        let mut contents = Contents {
            rejected: translated.rejected,
            ..Contents::default()
        };
        for cluster in translated.clusters {
            contents.cluster(cluster);
        }
        contents.listener(self.listener(service));
        Some(contents)
    }

    fn listener(&self, service: Service) -> Listener {
        Listener {
            name: listener_name(&self.label),
            bind: self.bind.clone(),
            direction: Direction::Outbound,
            security: Security::Plain,
            service,
            limits: Default::default(),
            deadlines: Default::default(),
            callers: Default::default(),
        }
    }
}

/// `[prepared_query:]name[.namespace][?ap=..][?dc=..]`: short where nothing is special.
fn destination(written: &Written) -> String {
    let mut label = match written.destination_type {
        UpstreamKind::PreparedQuery => format!("prepared_query:{}", written.destination_name),
        _ => written.destination_name.clone(),
    };
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
        UpstreamKind::Service | UpstreamKind::PreparedQuery => {}
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
    let connect_timeout = config
        .duration("connect_timeout_ms")
        .filter(|timeout| !timeout.is_zero());
    let protocol = config.text("protocol");
    let destination = match written.destination_type {
        UpstreamKind::PreparedQuery => {
            Destination::Prepared(Prepared::new(written, protocol.as_deref(), connect_timeout))
        }
        UpstreamKind::Service | UpstreamKind::Other(_) => Destination::Chain(ChainQuery {
            service: written.destination_name.clone(),
            datacenter: some(&written.datacenter),
            namespace: named(&written.destination_namespace),
            partition: named(&written.destination_partition),
            connect_timeout,
            protocol,
            // Consul itself merges the mode of `Config.mesh_gateway` into the field.
            mesh_gateway: some(&written.mesh_gateway.mode).or_else(|| some(&inherited.mode)),
        }),
    };
    let limits = config
        .table("limits")
        .map(policy::limits)
        .unwrap_or_default();
    let outlier = config
        .table("passive_health_check")
        .map(policy::outlier)
        .unwrap_or_default();
    let mut rejected = config.rejected;
    rejected.extend(foreign::escapes(&resource, &written.config));
    let upstream = Upstream {
        label,
        bind,
        destination,
        limits,
        outlier,
    };
    (upstream, rejected)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};
    use std::time::Duration;

    fn read(written: Value) -> (Vec<Upstream>, Vec<Rejection>) {
        upstreams(&serde_json::from_value(json!({ "Upstreams": written })).unwrap())
    }

    fn chain(upstream: &Upstream) -> &ChainQuery {
        match &upstream.destination {
            Destination::Chain(chain) => chain,
            Destination::Prepared(_) => panic!("{upstream:?}"),
        }
    }

    #[test]
    fn a_prepared_query_has_a_label_of_its_own() {
        let (found, rejected) = read(json!([
            {"DestinationName": "a", "LocalBindPort": 1},
            {"DestinationName": "a", "LocalBindPort": 2, "DestinationType": "prepared_query",
                "Datacenter": "dc2"},
        ]));
        assert_eq!(rejected, []);
        let labels: Vec<_> = found.iter().map(|u| u.label.as_str()).collect();
        assert_eq!(labels, ["a", "prepared_query:a?dc=dc2"]);
        let Destination::Prepared(prepared) = &found[1].destination else {
            panic!("{found:?}")
        };
        assert_eq!(prepared.query.datacenter.as_deref(), Some("dc2"));
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
            {"DestinationName": "b", "LocalBindPort": 1, "DestinationType": "teapot"},
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
        assert_eq!(chain(&found[2]).datacenter.as_deref(), Some("dc2"));
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
        let chain = chain(upstream);
        assert_eq!(chain.connect_timeout, Some(Duration::from_millis(700)));
        assert_eq!(chain.protocol.as_deref(), Some("http"));
        assert_eq!(chain.mesh_gateway.as_deref(), Some("local"));
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
