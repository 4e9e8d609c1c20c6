//! Sources of Consul's own gateways for strangers: `ingress-gateway` and `api-gateway` entries,
//! and everything that follows from them.

use crate::publish::{Publisher, Source, SourceMetrics, Task};
use crate::register::once;
use crate::role;
use crate::translate::api::ApiGateway;
use crate::translate::ingress::IngressGateway;
use crate::watching::{ConsulOptions, Watching};
use consul::Client;
use consul::agent::{ServiceKind, ServiceRegistration};
use std::net::SocketAddr;
use std::sync::Arc;

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
        once::once(&client, &registration(&gateway)).await;
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

fn registration(gateway: &Gateway) -> ServiceRegistration {
    let (name, address) = (&gateway.service, gateway.address);
    match gateway.kind {
        Kind::Api => once::registration(ServiceKind::ApiGateway, name, address),
        Kind::Ingress => ServiceRegistration {
            checks: vec![once::check("ingress-gateway", address)],
            ..once::registration(ServiceKind::IngressGateway, name, address)
        },
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
        assert_eq!(ingress.tagged_addresses["lan"].port, 8443);
        let api = registration(&gateway(Kind::Api));
        assert_eq!(api.kind, ServiceKind::ApiGateway);
        assert_eq!(api.checks, []);
        assert_eq!((api.id.as_str(), api.port), ("edge", Some(8443)));
    }
}
