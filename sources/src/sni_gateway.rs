//! Mesh gateways and terminating gateways as sources: what such a gateway carries follows from
//! Consul alone; where it listens is said at its start.

use crate::publish::{Publisher, Source, SourceMetrics, Task};
use crate::register::once;
use crate::role;
use crate::translate::mesh_gateway::{META, MeshGateway};
use crate::translate::sni_gateway;
use crate::translate::terminating_gateway::TerminatingGateway;
use crate::watching::{ConsulOptions, Watching};
use consul::Client;
use consul::agent::{ServiceKind, ServiceRegistration};
use std::net::SocketAddr;
use std::sync::Arc;

/// Which gateway to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SniGateway {
    /// What it carries.
    pub kind: SniGatewayKind,
    /// Name and ID of its registration.
    pub name: String,
    /// Where it listens, and is called by its own datacenter.
    pub address: SocketAddr,
    /// Where other datacenters call it, if not there.
    pub wan_address: Option<SocketAddr>,
    /// Whether a mesh gateway carries the connections of Consul's own servers between datacenters
    /// that are federated through gateways. Written into its registration, and read from there.
    pub expose_servers: bool,
    /// Whether it registers itself at its start. Only then: what an operator adds to the
    /// registration later, such as metadata that subsets ask for, must stay.
    pub register: bool,
}

/// What a gateway carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SniGatewayKind {
    /// The mesh's own bytes, between datacenters.
    Mesh,
    /// The mesh's calls to services outside of it.
    Terminating,
}

/// Runs the source on the current runtime. It waits for Consul as long as it takes.
pub fn run(
    client: Client,
    gateway: SniGateway,
    options: ConsulOptions,
    metrics: Arc<dyn SourceMetrics>,
) -> Source {
    let (publisher, snapshots) = Publisher::new();
    let task = Task::spawn(follow(client, gateway, options, metrics, publisher));
    Source { snapshots, task }
}

async fn follow(
    client: Client,
    gateway: SniGateway,
    options: ConsulOptions,
    metrics: Arc<dyn SourceMetrics>,
    publisher: Publisher,
) {
    if gateway.register {
        once::once(&client, &registration(&gateway)).await;
    }
    let default = options.default_intention;
    let watching = Watching::new(client, options, Arc::clone(&metrics));
    let own = sni_gateway::SniGateway {
        name: gateway.name,
        address: gateway.address,
    };
    match gateway.kind {
        SniGatewayKind::Mesh => {
            role::serve(MeshGateway(own), watching, &*metrics, publisher).await;
        }
        SniGatewayKind::Terminating => {
            let gateway = TerminatingGateway {
                gateway: own,
                default,
            };
            role::serve(gateway, watching, &*metrics, publisher).await;
        }
    }
}

fn registration(gateway: &SniGateway) -> ServiceRegistration {
    let (kind, word) = match gateway.kind {
        SniGatewayKind::Mesh => (ServiceKind::MeshGateway, "mesh-gateway"),
        SniGatewayKind::Terminating => (ServiceKind::TerminatingGateway, "terminating-gateway"),
    };
    let mut made = ServiceRegistration {
        checks: vec![once::check(word, gateway.address)],
        ..once::registration(kind, &gateway.name, gateway.address)
    };
    if let Some(wan) = gateway.wan_address {
        made.tagged_addresses
            .insert("wan".to_owned(), once::tagged(wan));
    }
    if gateway.expose_servers {
        made.meta.insert(META.0.to_owned(), META.1.to_owned());
    }
    made
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_registered_with_its_addresses_and_a_check() {
        let made = registration(&SniGateway {
            kind: SniGatewayKind::Mesh,
            name: "mgw".to_owned(),
            address: "10.0.0.1:8443".parse().unwrap(),
            wan_address: Some("1.2.3.4:443".parse().unwrap()),
            expose_servers: true,
            register: true,
        });
        assert_eq!(made.meta["consul-wan-federation"], "1");
        assert_eq!(made.kind, ServiceKind::MeshGateway);
        assert_eq!((made.id.as_str(), made.port), ("mgw", Some(8443)));
        assert_eq!(made.tagged_addresses["wan"].port, 443);
        assert_eq!(made.tagged_addresses["lan"].address, "10.0.0.1");
        assert_eq!(made.checks[0].tcp, "10.0.0.1:8443");
    }
}
