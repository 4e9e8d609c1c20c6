//! Where a linked service really is: the addresses of its instances, or what DNS says of the one
//! name that they have.

use super::tls::{self, NoTransport};
use crate::chain::balancing;
use crate::dns::Name;
use crate::knowledge::{Knowledge, Known, Topic};
use crate::publish::Contents;
use crate::translate::endpoint::{View, endpoints, health_and_weight};
use crate::translate::sni_gateway::place::{self, Place};
use crate::translate::sni_gateway::plain_cluster;
use consul::catalog::GatewayService;
use consul::entry::{Destination, ServiceResolver};
use consul::health::ServiceEntry;
use meridian_model::cluster::Target;
use meridian_model::policy::OutlierPolicy;
use meridian_model::{
    Cluster, ClusterName, Endpoint, EndpointAddress, Health, Rejection, Snapshot, Transport,
    UpstreamProtocol,
};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// How often names are asked for again (`DnsRefreshRate` of Consul's Envoy).
const REFRESH: Duration = Duration::from_secs(10);

/// How Consul has Envoy treat the outside: with so few healthy instances, in percent, all are
/// called. Its checks may be wrong about a place that only this gateway reaches.
const PANIC_PERCENT: u8 = 50;

/// What the cluster of one place is made with.
pub(super) struct Outside<'a> {
    pub(super) knowledge: &'a Knowledge,
    pub(super) previous: &'a Snapshot,
    pub(super) linked: &'a GatewayService,
    pub(super) resolver: Option<&'a ServiceResolver>,
    pub(super) protocol: UpstreamProtocol,
    /// Where the resolver has none of its own.
    pub(super) connect_timeout: Option<Duration>,
}

/// A place that can be called.
pub(super) struct Reached {
    pub(super) cluster: ClusterName,
    /// The name in DNS that it has, if any.
    pub(super) host: Option<String>,
}

/// It has not been asked for everything yet.
pub(super) struct Waiting;

/// Everything to be followed about a linked service's places, given what is known so far.
pub(super) fn wanted(
    linked: &GatewayService,
    resolver: Option<&ServiceResolver>,
    knowledge: &Knowledge,
) -> Vec<Topic> {
    let mut wanted: Vec<Topic> = tls::wanted(linked).collect();
    for place in place::of_service(&linked.service.name, resolver) {
        let query = place.query(false);
        if let Known::Value(found) = knowledge.instances(&query)
            && let Some(named) = named(found, place.only_passing)
        {
            wanted.push(Topic::Addresses(Name::new(named.address(), REFRESH)));
        }
        wanted.push(Topic::Instances(query));
    }
    wanted
}

/// As [`wanted`], of a service that only its defaults know.
pub(super) fn wanted_of(linked: &GatewayService, destination: &Destination) -> Vec<Topic> {
    let named = destination.addresses.iter();
    let named = named.filter(|address| address.parse::<IpAddr>().is_err());
    let names = named.map(|host| Topic::Addresses(Name::new(host, REFRESH)));
    tls::wanted(linked).chain(names).collect()
}

impl Outside<'_> {
    /// Adds the place's cluster.
    pub(super) fn reach(&self, place: &Place, contents: &mut Contents) -> Result<Reached, Waiting> {
        let label = place.label();
        let (found, host) = match self.knowledge.instances(&place.query(false)) {
            Known::Value(found) => {
                let named = named(found, place.only_passing);
                let host = named.map(|one| one.address().to_owned());
                (self.found(&label, found, named, place, contents), host)
            }
            Known::Waiting => (None, None),
            Known::Failed(reason) => {
                contents.reject(resource(&label), format!("its instances: {reason}"));
                (Some(Arc::default()), None)
            }
        };
        self.add(&label, found, host, contents)
    }

    /// Adds the cluster of one address of a destination: callers choose among the addresses.
    pub(super) fn reach_address(
        &self,
        address: &str,
        port: u16,
        contents: &mut Contents,
    ) -> Result<Reached, Waiting> {
        let label = format!("{}/{address}", self.linked.service.name);
        let at = |ip: IpAddr| Endpoint {
            address: EndpointAddress::Tcp(SocketAddr::new(ip, port)),
            weight: 1,
            health: Health::Healthy,
            instance: address.into(),
        };
        let found = match address.parse::<IpAddr>() {
            Ok(ip) => Some(Arc::from([at(ip)])),
            Err(_) => self.resolved(&label, address, at, contents),
        };
        self.add(&label, found, None, contents)
    }

    /// Adds a cluster. One that waits for news keeps what it had.
    fn add(
        &self,
        label: &str,
        found: Option<Arc<[Endpoint]>>,
        host: Option<String>,
        contents: &mut Contents,
    ) -> Result<Reached, Waiting> {
        let before = self.previous.clusters.get(label);
        let transport = self.transport(label, before, contents);
        match (found, transport) {
            (Some(endpoints), Ok(transport)) => {
                let cluster = self.cluster(label, endpoints, transport, contents);
                let name = cluster.name.clone();
                contents.cluster(cluster);
                Ok(Reached {
                    cluster: name,
                    host,
                })
            }
            _ => {
                let before = before.ok_or(Waiting)?;
                let name = before.name.clone();
                contents.clusters.insert(name.clone(), Arc::clone(before));
                Ok(Reached {
                    cluster: name,
                    host,
                })
            }
        }
    }

    /// The endpoints; `None` while DNS has not answered.
    fn found(
        &self,
        label: &str,
        instances: &[ServiceEntry],
        named: Option<&ServiceEntry>,
        place: &Place,
        contents: &mut Contents,
    ) -> Option<Arc<[Endpoint]>> {
        let Some(named) = named else {
            let view = View {
                only_passing: place.only_passing,
                local_datacenter: None,
            };
            let (endpoints, rejected) = endpoints(instances, view);
            contents.rejected.extend(rejected);
            return Some(endpoints);
        };
        contents.rejected.extend(left_out(instances, named));
        if named.service.port == 0 {
            contents.reject(
                format!("instance {}", named.service.id),
                "it has no port".to_owned(),
            );
            return Some(Arc::default());
        }
        let at = |ip| endpoint(named, ip, place.only_passing);
        self.resolved(label, named.address(), at, contents)
    }

    /// An endpoint for each address of a name; `None` while DNS has not answered.
    fn resolved(
        &self,
        label: &str,
        host: &str,
        at: impl Fn(IpAddr) -> Endpoint,
        contents: &mut Contents,
    ) -> Option<Arc<[Endpoint]>> {
        let name = Name::new(host, REFRESH);
        let failure = self.knowledge.failure(&Topic::Addresses(name.clone()));
        let addresses = match self.knowledge.addresses(&name) {
            Known::Waiting => return None,
            Known::Failed(_) => [].as_slice(),
            Known::Value(addresses) => addresses,
        };
        if let Some(reason) = failure {
            let effect = match addresses {
                [] => "it has no address",
                _ => "its last addresses are used",
            };
            let reason = format!("cannot resolve `{host}`: {reason}; {effect}");
            contents.reject(resource(label), reason);
        }
        Some(addresses.iter().copied().map(at).collect())
    }

    /// TLS that cannot be made ready leaves what was there before, but never goes without it.
    fn transport(
        &self,
        label: &str,
        before: Option<&Arc<Cluster>>,
        contents: &mut Contents,
    ) -> Result<Option<Transport>, Waiting> {
        match tls::transport(self.linked, self.knowledge) {
            Ok(transport) => Ok(Some(transport)),
            Err(NoTransport::Waiting) => Err(Waiting),
            Err(NoTransport::Failed(reason)) => {
                contents.reject(resource(label), reason);
                let mut targets = before.into_iter().flat_map(|cluster| &cluster.targets);
                let kept = targets.find(|target| matches!(target.transport, Transport::Tls(_)));
                Ok(kept.map(|target| target.transport.clone()))
            }
        }
    }

    fn cluster(
        &self,
        label: &str,
        endpoints: Arc<[Endpoint]>,
        transport: Option<Transport>,
        contents: &mut Contents,
    ) -> Cluster {
        let mut cluster = plain_cluster(label, self.protocol, Arc::clone(&endpoints));
        cluster.targets = match transport {
            Some(transport) => vec![Arc::new(Target {
                name: label.into(),
                transport,
                endpoints,
            })],
            // Nothing is sent to a service whose TLS is not known: it answers 503.
            None => Vec::new(),
        };
        cluster.outlier = Some(OutlierPolicy::default());
        cluster.panic_percent = PANIC_PERCENT;
        let written = self.resolver.and_then(|resolver| resolver.connect_timeout);
        if let Some(timeout) = written.or(self.connect_timeout) {
            cluster.connect_timeout = timeout;
        }
        let balancer = self.resolver.and_then(|one| one.load_balancer.as_ref());
        match balancer.map(balancing).transpose() {
            Ok(balancing) => cluster.balancing = balancing.unwrap_or_default(),
            Err(reason) => {
                let resource = format!("service-resolver {}", self.linked.service.name);
                contents.reject(resource, format!("{reason}; requests go round robin"));
            }
        }
        cluster
    }
}

fn resource(label: &str) -> String {
    format!("service {label}")
}

/// The one instance whose name in DNS counts, where instances have names: Consul gives Envoy no
/// more than one, the first healthy one, or else the last.
fn named(instances: &[ServiceEntry], only_passing: bool) -> Option<&ServiceEntry> {
    let mut named: Vec<_> = instances.iter().filter(|one| is_named(one)).collect();
    named.sort_by(|a, b| in_order(a).cmp(&in_order(b)));
    let healthy = |one: &&&ServiceEntry| health_and_weight(one, only_passing).0 == Health::Healthy;
    named.iter().find(healthy).or_else(|| named.last()).copied()
}

/// Consul lists instances by node and ID, but shuffles them for callers of its API.
fn in_order(instance: &ServiceEntry) -> (&str, &str) {
    (&instance.node.node, &instance.service.id)
}

fn is_named(instance: &ServiceEntry) -> bool {
    instance.service.socket_path.is_empty() && instance.address().parse::<IpAddr>().is_err()
}

/// Instances that are not called, because another one's name is.
fn left_out(instances: &[ServiceEntry], named: &ServiceEntry) -> Vec<Rejection> {
    let others = instances.iter().filter(|one| {
        let same_place = one.address() == named.address() && one.service.port == named.service.port;
        !(is_named(one) && same_place)
    });
    others
        .map(|other| Rejection {
            resource: format!("instance {}", other.service.id),
            reason: format!(
                "a service is called by one host name only, which is `{}`",
                named.address()
            ),
        })
        .collect()
}

fn endpoint(instance: &ServiceEntry, ip: IpAddr, only_passing: bool) -> Endpoint {
    let (health, weight) = health_and_weight(instance, only_passing);
    Endpoint {
        address: EndpointAddress::Tcp(SocketAddr::new(ip, instance.service.port)),
        weight,
        health,
        instance: instance.service.id.as_str().into(),
    }
}
