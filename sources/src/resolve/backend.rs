//! One backend of a blueprint: its endpoints, wherever they come from.

use super::dns::Names;
use crate::chain::{self, Setting, Traffic, Translated};
use crate::dns::Name;
use crate::gateways;
use crate::knowledge::{ChainQuery, InstancesQuery, Knowledge, Known, Topic};
use crate::translate::endpoint::{View, endpoints};
use consul::chain::CompiledChain;
use meridian_model::cluster::{DEFAULT_CONNECT_TIMEOUT, Target};
use meridian_model::policy::LoadBalancing;
use meridian_model::route::Destination;
use meridian_model::{
    Backend, Cluster, ConsulService, Discovery, Endpoint, EndpointAddress, Health, Identity,
    Rejection, TlsTerms, Transport, UpstreamProtocol,
};
use std::net::SocketAddr;
use std::sync::Arc;

/// What backends are found with.
pub(super) struct Sight<'a> {
    pub(super) knowledge: &'a Knowledge,
    pub(super) names: &'a Names,
    /// Whether there is a Consul at all.
    pub(super) consul: bool,
    pub(super) mesh: Mesh<'a>,
}

/// The gateway's place in the mesh.
pub(super) enum Mesh<'a> {
    /// It has none.
    None,
    /// Its leaf and roots have been asked for.
    Waiting,
    /// They cannot be had.
    Failed,
    /// Who it is.
    Identity(&'a Identity),
}

/// What became of the search.
pub(super) enum Found {
    /// The cluster, and what of it was refused.
    Ready(Cluster, Vec<Rejection>),
    /// Not everything has answered.
    Waiting,
    /// Why there are no endpoints.
    Failed(String),
}

/// What must be followed in Consul for this backend.
pub(super) fn wanted(discovery: &Discovery, knowledge: &Knowledge, datacenter: &str) -> Vec<Topic> {
    match discovery {
        Discovery::Static(_) | Discovery::Dns { .. } => Vec::new(),
        Discovery::Consul(service) => {
            let mut topics = vec![Topic::Instances(plain_query(service))];
            if service.datacenter.is_some() {
                topics.push(Topic::Agent);
            }
            topics
        }
        Discovery::ConsulConnect(service) => {
            let query = chain_query(service);
            let mut topics = Vec::new();
            if let Known::Value(chain) = knowledge.chain(&query) {
                let needs = chain::needs(&filtered(chain, service), datacenter);
                topics.extend(needs.into_iter().map(Topic::Instances));
                for gateways_of in chain::gateway_datacenters(chain, datacenter) {
                    topics.extend(gateways::wanted(knowledge, gateways_of, datacenter));
                }
            }
            topics.push(Topic::Chain(query));
            topics
        }
    }
}

/// Finds the endpoints.
pub(super) fn find(backend: &Backend, sight: &Sight<'_>) -> Found {
    match &backend.discovery {
        Discovery::Static(endpoints) => ready(backend, endpoints.clone().into(), Vec::new()),
        Discovery::Dns {
            host,
            port,
            refresh,
        } => {
            let name = Name::new(host, *refresh);
            match sight.names.addresses(&name) {
                Known::Waiting => Found::Waiting,
                Known::Failed(reason) => {
                    Found::Failed(format!("cannot resolve `{host}`: {reason}"))
                }
                Known::Value(addresses) => {
                    let endpoints = addresses.iter().map(|ip| {
                        let address = SocketAddr::new(*ip, *port);
                        Endpoint {
                            address: EndpointAddress::Tcp(address),
                            weight: 1,
                            health: Health::Healthy,
                            instance: address.to_string().into(),
                        }
                    });
                    ready(backend, endpoints.collect(), Vec::new())
                }
            }
        }
        Discovery::Consul(_) | Discovery::ConsulConnect(_) if !sight.consul => {
            Found::Failed("it is in Consul, and no Consul agent is configured".to_owned())
        }
        Discovery::Consul(service) => plain(backend, service, sight),
        Discovery::ConsulConnect(service) => meshed(backend, service, sight),
    }
}

fn ready(backend: &Backend, endpoints: Arc<[Endpoint]>, rejected: Vec<Rejection>) -> Found {
    let mut cluster = backend.cluster.clone();
    cluster.targets = vec![Arc::new(Target {
        name: cluster.name.shared(),
        transport: match &backend.tls {
            None => Transport::Plain,
            Some(tls) => Transport::Tls(tls.clone()),
        },
        endpoints,
    })];
    Found::Ready(cluster, rejected)
}

fn plain(backend: &Backend, service: &ConsulService, sight: &Sight<'_>) -> Found {
    let local = match (&service.datacenter, sight.knowledge.agent()) {
        (None, _) => None,
        (Some(_), Some(agent)) => Some(agent.config.datacenter.as_str()),
        (Some(_), None) if sight.knowledge.waits_for(&Topic::Agent) => return Found::Waiting,
        // Unknown to be ours, so its WAN address is the safer one.
        (Some(_), None) => Some(""),
    };
    match sight.knowledge.instances(&plain_query(service)) {
        Known::Waiting => Found::Waiting,
        Known::Failed(reason) => Found::Failed(format!("no instances: {reason}")),
        Known::Value(instances) => {
            let view = View {
                only_passing: false,
                local_datacenter: local,
            };
            let (endpoints, rejected) = endpoints(instances, view);
            ready(backend, endpoints, rejected)
        }
    }
}

fn meshed(backend: &Backend, service: &ConsulService, sight: &Sight<'_>) -> Found {
    let identity = match sight.mesh {
        Mesh::Identity(identity) => identity,
        Mesh::Waiting => return Found::Waiting,
        Mesh::None => {
            return Found::Failed(
                "it is in the mesh, and the gateway has no service of its own there".to_owned(),
            );
        }
        Mesh::Failed => return Found::Failed("the gateway's own leaf cannot be had".to_owned()),
    };
    let chain = match sight.knowledge.chain(&chain_query(service)) {
        Known::Waiting => return Found::Waiting,
        Known::Failed(reason) => return Found::Failed(format!("no discovery chain: {reason}")),
        Known::Value(chain) => filtered(chain, service),
    };
    let setting = Setting {
        limits: backend.cluster.limits,
        outlier: backend.cluster.outlier,
        ..Setting::of_gateway(
            backend.cluster.name.as_str(),
            identity,
            &TlsTerms::default(),
        )
    };
    match chain::translate(&chain, &setting, sight.knowledge) {
        None => Found::Waiting,
        Some(translated) => only_cluster(backend, &chain, translated),
    }
}

/// A backend is one cluster; a chain that routes or splits is more than that.
fn only_cluster(backend: &Backend, chain: &CompiledChain, translated: Translated) -> Found {
    let Translated {
        mut clusters,
        traffic,
        rejected,
    } = translated;
    let direct = match &traffic {
        Traffic::Tcp(to) => to.len() == 1,
        Traffic::Http(table) => match table.hosts.as_slice() {
            [host] => match host.routes.as_slice() {
                [route] => matches!(&route.action.destination,
                    Destination::Clusters(to) if to.len() == 1),
                _ => false,
            },
            _ => false,
        },
    };
    match clusters.pop() {
        Some(found) if direct && clusters.is_empty() => {
            Found::Ready(merged(&backend.cluster, found, chain), rejected)
        }
        _ => Found::Failed(format!(
            "the discovery chain of `{}` routes or splits, which a gateway's backend cannot; \
             write the routes and weights in the gateway's own configuration",
            chain.service_name
        )),
    }
}

/// The written settings win; where they are the defaults, the chain's count. What the sidecars
/// speak is the mesh's to say.
fn merged(written: &Cluster, found: Cluster, chain: &CompiledChain) -> Cluster {
    let mut cluster = written.clone();
    cluster.targets = found.targets;
    if cluster.connect_timeout == DEFAULT_CONNECT_TIMEOUT {
        cluster.connect_timeout = found.connect_timeout;
    }
    if cluster.balancing == LoadBalancing::default() {
        cluster.balancing = found.balancing;
    }
    let told = chain::upstream_protocol(&chain.protocol);
    if cluster.protocol != UpstreamProtocol::Tcp && told != UpstreamProtocol::Tcp {
        cluster.protocol = told;
    }
    cluster
}

/// The backend's own filter narrows every target of the chain.
fn filtered(chain: &CompiledChain, service: &ConsulService) -> CompiledChain {
    let mut chain = chain.clone();
    if let Some(filter) = &service.filter {
        for target in chain.targets.values_mut() {
            let subset = &mut target.subset.filter;
            *subset = match subset.as_str() {
                "" => filter.clone(),
                other => format!("({other}) and ({filter})"),
            };
        }
    }
    chain
}

fn chain_query(service: &ConsulService) -> ChainQuery {
    ChainQuery {
        service: service.service.clone(),
        datacenter: service.datacenter.clone(),
        namespace: service.namespace.clone(),
        partition: service.partition.clone(),
        ..ChainQuery::default()
    }
}

fn plain_query(service: &ConsulService) -> InstancesQuery {
    InstancesQuery {
        service: service.service.clone(),
        mesh: false,
        datacenter: service.datacenter.clone(),
        namespace: service.namespace.clone(),
        partition: service.partition.clone(),
        filter: service.filter.clone(),
    }
}
