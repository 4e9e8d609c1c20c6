//! The outbound side of a sidecar: one listener for each upstream of its registration.

mod bind;

use super::foreign;
use super::inbound::{CLUSTER, TCP_IDLE};
use super::opaque::Opaque;
use super::policy;
use super::prepared::Prepared;
use crate::chain::{self, Instances, Setting, Traffic};
use crate::knowledge::ChainQuery;
use crate::publish::Contents;
use bind::{bind, bind_text};
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
mod tests;
