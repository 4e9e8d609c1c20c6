//! The registration of a gateway that Consul's entries describe: made once, at its start, as
//! `consul connect envoy -register` makes it. What an operator adds to it later, such as metadata
//! that subsets ask for, must stay.

use crate::causes::chain_of;
use consul::Client;
use consul::agent::{CheckRegistration, ServiceKind, ServiceRegistration, TaggedAddress};
use std::net::SocketAddr;
use std::time::Duration;

/// Time between two of the agent's checks.
const CHECK_INTERVAL: Duration = Duration::from_secs(10);
/// A gateway that is gone for so long is taken out.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(6 * 60 * 60);
/// Between two tries to register with an agent that is away: it starts within seconds.
const RETRY: Duration = Duration::from_secs(1);

/// A registration under a name that is its ID as well.
pub(crate) fn registration(
    kind: ServiceKind,
    name: &str,
    address: SocketAddr,
) -> ServiceRegistration {
    ServiceRegistration {
        kind,
        id: name.to_owned(),
        name: name.to_owned(),
        address: address.ip().to_string(),
        port: Some(address.port()),
        tagged_addresses: [("lan".to_owned(), tagged(address))].into(),
        ..ServiceRegistration::default()
    }
}

/// An address under a tag.
pub(crate) fn tagged(address: SocketAddr) -> TaggedAddress {
    TaggedAddress {
        address: address.ip().to_string(),
        port: address.port(),
    }
}

/// The check that a gateway listens; `kind` as Consul writes it.
pub(crate) fn check(kind: &str, address: SocketAddr) -> CheckRegistration {
    CheckRegistration {
        name: format!("{kind} listening"),
        tcp: address.to_string(),
        interval: Some(CHECK_INTERVAL),
        deregister_critical_service_after: Some(FORGOTTEN_AFTER),
        ..CheckRegistration::default()
    }
}

/// Registers, as soon as the agent takes it.
pub(crate) async fn once(client: &Client, registration: &ServiceRegistration) {
    let mut tries = tokio::time::interval(RETRY);
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
