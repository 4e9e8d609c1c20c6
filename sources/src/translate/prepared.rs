//! Prepared-query upstreams: one cluster of whatever instances the query finds.
//!
//! There is no discovery chain behind them. Consul's Envoy takes the protocol from the upstream's
//! own settings, and expects of the instances who they are said to be in the query's answer.

use super::endpoint::{View, endpoints};
use super::everything::everything_to;
use super::inbound::TCP_IDLE;
use super::upstream::Caller;
use crate::chain::upstream_protocol;
use crate::knowledge::PreparedQuery;
use consul::agent::Upstream as Written;
use consul::health::ServiceEntry;
use meridian_model::cluster::{DEFAULT_CONNECT_TIMEOUT, MeshTransport, Target, Transport};
use meridian_model::identity::ServiceId;
use meridian_model::listener::{
    ClientCertificateHeader, ClientTrust, HttpFilters, HttpService, PathNormalization, TcpService,
};
use meridian_model::policy::RouteTimeouts;
use meridian_model::{Cluster, ClusterName, Rejection, Service, SpiffeId, UpstreamProtocol};
use std::sync::Arc;
use std::time::Duration;

/// A prepared query as an upstream.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Prepared {
    /// What is executed.
    pub(crate) query: PreparedQuery,
    protocol: UpstreamProtocol,
    connect_timeout: Duration,
}

impl Prepared {
    /// `protocol` and `connect_timeout` are the upstream's own settings.
    pub(crate) fn new(
        written: &Written,
        protocol: Option<&str>,
        connect_timeout: Option<Duration>,
    ) -> Self {
        let datacenter = &written.datacenter;
        Self {
            query: PreparedQuery {
                name: written.destination_name.clone(),
                datacenter: (!datacenter.is_empty()).then(|| datacenter.clone()),
            },
            protocol: upstream_protocol(protocol.unwrap_or_default()),
            connect_timeout: connect_timeout.unwrap_or(DEFAULT_CONNECT_TIMEOUT),
        }
    }

    /// The cluster of what was found.
    pub(crate) fn cluster(
        &self,
        name: ClusterName,
        found: &[ServiceEntry],
        caller: &Caller<'_>,
    ) -> (Cluster, Vec<Rejection>) {
        let view = View {
            only_passing: false,
            local_datacenter: Some(caller.datacenter),
        };
        let (endpoints, rejected) = endpoints(found, view);
        let home = self.query.datacenter.as_deref();
        let sni = format!(
            "{}.default.{}.query.{}",
            self.query.name,
            home.unwrap_or(caller.datacenter),
            caller.trust_domain
        );
        let mut expected: Vec<_> = found
            .iter()
            .map(|instance| SpiffeId::service_of(caller.trust_domain, &identity(instance)))
            .collect();
        // The answer's order is drawn anew each time.
        expected.sort_by(|one, other| one.as_str().cmp(other.as_str()));
        expected.dedup();
        let target = Target {
            name: self.query.name.as_str().into(),
            transport: Transport::Mesh(MeshTransport {
                identity: caller.identity.clone(),
                trust_domain: caller.trust_domain.clone(),
                sni: sni.into(),
                expected,
                terms: caller.terms.clone(),
            }),
            endpoints,
        };
        let mut cluster = Cluster::new(name, self.protocol, vec![Arc::new(target)]);
        cluster.connect_timeout = self.connect_timeout;
        (cluster, rejected)
    }

    /// What the listener does: everything goes to the one cluster.
    pub(crate) fn service(&self, cluster: &ClusterName, filters: &HttpFilters) -> Service {
        match self.protocol {
            UpstreamProtocol::Tcp => Service::Tcp(Arc::new(TcpService {
                clusters: vec![(cluster.clone(), 1)],
                authorization: None,
                idle_timeout: Some(TCP_IDLE),
                checks: filters.checks.clone(),
            })),
            UpstreamProtocol::Http1 | UpstreamProtocol::Http2 => {
                Service::Http(Arc::new(HttpService {
                    routes: Arc::new(everything_to(cluster, RouteTimeouts::default())),
                    authorization: None,
                    client_certificate: ClientCertificateHeader::Sanitize,
                    trust: ClientTrust::Mesh,
                    normalization: PathNormalization::NONE,
                    filters: filters.clone(),
                }))
            }
        }
    }
}

/// Whom an instance must prove to be: the service that a proxy stands for, or itself.
fn identity(instance: &ServiceEntry) -> ServiceId {
    let service = &instance.service;
    let or_default = |text: &String| match text.as_str() {
        "" => "default".to_owned(),
        named => named.to_owned(),
    };
    ServiceId {
        partition: or_default(&service.partition),
        namespace: or_default(&service.namespace),
        datacenter: instance.node.datacenter.clone(),
        service: service.stands_for().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use meridian_model::{TlsTerms, TrustDomain};
    use serde_json::{Value, json};

    fn prepared(written: Value, protocol: Option<&str>) -> Prepared {
        Prepared::new(&serde_json::from_value(written).unwrap(), protocol, None)
    }

    fn instance(id: &str, datacenter: &str, service: Value) -> ServiceEntry {
        let mut service = service;
        service["ID"] = json!(id);
        service["Port"] = json!(21000);
        serde_json::from_value(json!({
            "Node": {"Node": "n", "Address": "10.0.0.1", "Datacenter": datacenter},
            "Service": service}))
        .unwrap()
    }

    fn transport(prepared: &Prepared, found: &[ServiceEntry]) -> MeshTransport {
        let (domain, terms) = (TrustDomain::new("td"), TlsTerms::default());
        let caller = Caller {
            identity: &"web".into(),
            trust_domain: &domain,
            datacenter: "dc1",
            terms: &terms,
            filters: &HttpFilters::default(),
        };
        let (cluster, rejected) = prepared.cluster("q".into(), found, &caller);
        assert_eq!(rejected, []);
        assert_eq!(cluster.targets[0].endpoints.len(), found.len());
        match &cluster.targets[0].transport {
            Transport::Mesh(mesh) => mesh.clone(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn instances_must_be_who_the_answer_says() {
        let proxy = json!({"Kind": "connect-proxy", "Service": "db-sidecar-proxy",
            "Proxy": {"DestinationServiceName": "db"}});
        let native = json!({"Service": "db-native", "Connect": {"Native": true}});
        let found = [
            instance("1", "dc1", proxy.clone()),
            instance("2", "dc1", proxy.clone()),
            instance("3", "dc2", proxy),
            instance("4", "dc1", native),
        ];
        let here = prepared(json!({"DestinationName": "q"}), None);
        let mesh = transport(&here, &found);
        assert_eq!(&*mesh.sni, "q.default.dc1.query.td");
        let expected: Vec<_> = mesh.expected.iter().map(SpiffeId::as_str).collect();
        let of = |dc, name| format!("spiffe://td/ns/default/dc/{dc}/svc/{name}");
        for one in [of("dc1", "db"), of("dc2", "db"), of("dc1", "db-native")] {
            assert!(expected.contains(&one.as_str()), "{one}: {expected:?}");
        }
        assert_eq!(expected.len(), 3);
        let there = prepared(json!({"DestinationName": "q", "Datacenter": "dc2"}), None);
        assert_eq!(&*transport(&there, &[]).sni, "q.default.dc2.query.td");
    }

    #[test]
    fn the_upstreams_own_protocol_counts() {
        let name = ClusterName::from("q");
        let service =
            |protocol| prepared(json!({}), protocol).service(&name, &HttpFilters::default());
        assert!(matches!(service(None), Service::Tcp(_)));
        assert!(matches!(service(Some("http")), Service::Http(_)));
        assert!(matches!(service(Some("grpc")), Service::Http(_)));
    }
}
