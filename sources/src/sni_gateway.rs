//! Mesh gateways and terminating gateways as sources: what such a gateway carries follows from
//! Consul alone; where it listens is said at its start.

use crate::publish::{Publisher, Source, SourceMetrics, Task};
use crate::role;
use crate::translate::mesh_gateway::{META, MeshGateway};
use crate::translate::sni_gateway;
use crate::translate::terminating_gateway::TerminatingGateway;
use crate::watching::{ConsulOptions, Watching, chain_of};
use consul::Client;
use consul::agent::{CheckRegistration, ServiceKind, ServiceRegistration, TaggedAddress};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

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
        register(&client, &registration(&gateway)).await;
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

/// Between two tries at an agent that does not take the registration.
const RETRY: Duration = Duration::from_secs(1);

/// Registers once, as soon as the agent is there.
async fn register(client: &Client, registration: &ServiceRegistration) {
    let mut said = String::new();
    loop {
        match client.register_service(registration).await {
            Ok(()) => {
                tracing::info!(id = %registration.id, "gateway registered");
                return;
            }
            Err(error) => {
                let reason = chain_of(&error);
                if reason != said {
                    tracing::warn!(%reason, "cannot register the gateway yet");
                    said = reason;
                }
            }
        }
        tokio::time::sleep(RETRY).await;
    }
}

/// As often as `consul connect envoy -register` has it checked, and taken out like it.
const CHECK_INTERVAL: Duration = Duration::from_secs(10);

fn registration(gateway: &SniGateway) -> ServiceRegistration {
    let tagged = |address: SocketAddr| TaggedAddress {
        address: address.ip().to_string(),
        port: address.port(),
    };
    let mut tagged_addresses = BTreeMap::from([("lan".to_owned(), tagged(gateway.address))]);
    if let Some(wan) = gateway.wan_address {
        tagged_addresses.insert("wan".to_owned(), tagged(wan));
    }
    ServiceRegistration {
        kind: match gateway.kind {
            SniGatewayKind::Mesh => ServiceKind::MeshGateway,
            SniGatewayKind::Terminating => ServiceKind::TerminatingGateway,
        },
        id: gateway.name.clone(),
        name: gateway.name.clone(),
        address: gateway.address.ip().to_string(),
        port: Some(gateway.address.port()),
        tagged_addresses,
        meta: gateway
            .expose_servers
            .then(|| (META.0.to_owned(), META.1.to_owned()))
            .into_iter()
            .collect(),
        checks: vec![CheckRegistration {
            name: "Gateway Listener".to_owned(),
            tcp: gateway.address.to_string(),
            interval: Some(CHECK_INTERVAL),
            ..CheckRegistration::default()
        }],
        ..ServiceRegistration::default()
    }
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
