//! What mesh gateways and terminating gateways have in common: listeners whose connections are
//! told apart by SNI.

pub(crate) mod bind;
pub(crate) mod place;

use meridian_model::cluster::Target;
use meridian_model::sni::{SniChain, SniService};
use meridian_model::{
    Bind, Cluster, Direction, Endpoint, Listener, ListenerName, Security, Service, Transport,
    UpstreamProtocol,
};
use std::net::SocketAddr;
use std::sync::Arc;

/// One gateway.
#[derive(Debug, Clone)]
pub(crate) struct SniGateway {
    /// Name and ID of its registration.
    pub(crate) name: String,
    /// Where it listens.
    pub(crate) address: SocketAddr,
}

/// The gateway's listeners, which all do the same.
pub(crate) fn listeners(
    binds: &[(String, SocketAddr)],
    chains: Vec<SniChain>,
) -> impl Iterator<Item = Listener> {
    let service = Arc::new(SniService { chains });
    binds.iter().map(move |(name, address)| Listener {
        name: ListenerName::from(name.as_str()),
        bind: Bind::Tcp(*address),
        direction: Direction::Inbound,
        security: Security::Plain,
        service: Service::BySni(Arc::clone(&service)),
        limits: Default::default(),
        deadlines: Default::default(),
        callers: Default::default(),
    })
}

/// A cluster of endpoints that are called as they are.
pub(crate) fn plain_cluster(
    label: &str,
    protocol: UpstreamProtocol,
    endpoints: Arc<[Endpoint]>,
) -> Cluster {
    let target = Target {
        name: label.into(),
        transport: Transport::Plain,
        endpoints,
    };
    Cluster::new(label.into(), protocol, vec![Arc::new(target)])
}
