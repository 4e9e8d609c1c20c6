//! Sources of Consul's own gateways for strangers: `ingress-gateway` and `api-gateway` entries,
//! and everything that follows from them.

use crate::publish::{Publisher, Source, SourceMetrics, Task};
use crate::role;
use crate::translate::api::ApiGateway;
use crate::translate::ingress::IngressGateway;
use crate::watching::{ConsulOptions, Watching, chain_of};
use consul::Client;
use consul::agent::{CheckRegistration, ServiceKind, ServiceRegistration, TaggedAddress};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// Which kind of gateway to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// As an `ingress-gateway` entry says.
    Ingress,
    /// As an `api-gateway` entry and the routes bound to it say.
    Api,
}

/// Which gateway to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gateway {
    /// Its kind.
    pub kind: Kind,
    /// Name of its service, which is also the name of its entry.
    pub service: String,
    /// Its registered address. Listeners bind to the same host.
    pub address: SocketAddr,
    /// Whether it registers itself when it starts.
    pub register: bool,
}

/// Time between two of the agent's checks, as `consul connect envoy` registers them.
const CHECK_INTERVAL: Duration = Duration::from_secs(10);
/// A gateway that is gone for so long is taken out, as by `consul connect envoy`.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(6 * 60 * 60);
/// Between two tries to register with an agent that is away: it starts within seconds.
const REGISTRATION_RETRY: Duration = Duration::from_secs(1);

/// Runs the source on the current runtime. It waits for Consul and for the gateway's entry as
/// long as it takes.
pub fn run(
    client: Client,
    gateway: Gateway,
    options: ConsulOptions,
    metrics: Arc<dyn SourceMetrics>,
) -> Source {
    let (publisher, snapshots) = Publisher::new();
    let task = Task::spawn(follow(client, gateway, options, metrics, publisher));
    Source { snapshots, task }
}

async fn follow(
    client: Client,
    gateway: Gateway,
    options: ConsulOptions,
    metrics: Arc<dyn SourceMetrics>,
    publisher: Publisher,
) {
    if gateway.register {
        register(&client, &registration(&gateway)).await;
    }
    let watching = Watching::new(client, options, Arc::clone(&metrics));
    let Gateway {
        service: name,
        address,
        ..
    } = gateway;
    match gateway.kind {
        Kind::Ingress => {
            let role = IngressGateway { name, address };
            role::serve(role, watching, &*metrics, publisher).await;
        }
        Kind::Api => {
            let host = address.ip();
            let role = ApiGateway { name, host };
            role::serve(role, watching, &*metrics, publisher).await;
        }
    }
}

/// Registers once: an operator may add to the registration, and keeps what was added.
async fn register(client: &Client, registration: &ServiceRegistration) {
    let mut tries = tokio::time::interval(REGISTRATION_RETRY);
    let mut said = String::new();
    loop {
        tries.tick().await;
        let error = match client.register_service(registration).await {
            Ok(()) => {
                tracing::info!(id = %registration.id, "gateway registered");
                return;
            }
            Err(error) => chain_of(&error),
        };
        if error != said {
            tracing::warn!(%error, "cannot register the gateway yet");
            said = error;
        }
    }
}

fn registration(gateway: &Gateway) -> ServiceRegistration {
    let (kind, checks) = match gateway.kind {
        Kind::Api => (ServiceKind::ApiGateway, Vec::new()),
        Kind::Ingress => {
            let check = CheckRegistration {
                name: "ingress-gateway listening".to_owned(),
                tcp: gateway.address.to_string(),
                interval: Some(CHECK_INTERVAL),
                deregister_critical_service_after: Some(FORGOTTEN_AFTER),
                ..CheckRegistration::default()
            };
            (ServiceKind::IngressGateway, vec![check])
        }
    };
    let lan = TaggedAddress {
        address: gateway.address.ip().to_string(),
        port: gateway.address.port(),
    };
    ServiceRegistration {
        kind,
        id: gateway.service.clone(),
        name: gateway.service.clone(),
        address: gateway.address.ip().to_string(),
        port: Some(gateway.address.port()),
        tagged_addresses: [("lan".to_owned(), lan)].into(),
        checks,
        ..ServiceRegistration::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gateway(kind: Kind) -> Gateway {
        Gateway {
            kind,
            service: "edge".to_owned(),
            address: SocketAddr::from(([10, 0, 0, 1], 8443)),
            register: true,
        }
    }

    #[test]
    fn only_an_ingress_gateway_is_checked() {
        let ingress = registration(&gateway(Kind::Ingress));
        assert_eq!(ingress.kind, ServiceKind::IngressGateway);
        assert_eq!(ingress.checks[0].tcp, "10.0.0.1:8443");
        let api = registration(&gateway(Kind::Api));
        assert_eq!(api.kind, ServiceKind::ApiGateway);
        assert_eq!(api.checks, []);
        assert_eq!((api.id.as_str(), api.port), ("edge", Some(8443)));
    }
}
