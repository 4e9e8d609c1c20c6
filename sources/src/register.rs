//! The gateway as a service of the mesh: registered as Connect-native, so that it holds a leaf
//! and can be the source of intentions.

pub(crate) mod once;

use crate::causes::chain_of;
use crate::publish::Task;
use consul::agent::{ConnectRegistration, ServiceRegistration};
use consul::blocking::{Pacing, WatchEvent};
use consul::{Client, Error};
use std::collections::BTreeMap;

/// What a gateway says about itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GatewayService {
    /// Name of the service, in its leaf and in intentions.
    pub name: String,
    /// ID, unique to the agent; empty is the name.
    pub id: String,
    /// Address; empty is the node's.
    pub address: String,
    /// Port of its main listener. Consul refuses a native service without one.
    pub port: u16,
    /// Metadata.
    pub meta: BTreeMap<String, String>,
}

/// A registration that is kept up: an agent that has forgotten it is told again.
#[derive(Debug)]
pub struct Registered {
    client: Client,
    id: String,
    task: Task,
}

/// Registers the gateway on the current runtime, now or as soon as the agent is there.
pub fn register(client: Client, gateway: GatewayService) -> Registered {
    let registration = registration(gateway);
    let id = registration.id.clone();
    let task = Task::spawn(keep(client.clone(), registration));
    Registered { client, id, task }
}

impl Registered {
    /// Takes the registration back, when the gateway shuts down.
    ///
    /// # Errors
    /// When the agent does not do it. One that doesn't know the service is no error.
    pub async fn deregister(self) -> Result<(), Error> {
        // First, or it would be told again.
        drop(self.task);
        match self.client.deregister_service(&self.id).await {
            Err(error) if !error.is_not_found() => Err(error),
            _ => Ok(()),
        }
    }
}

fn registration(gateway: GatewayService) -> ServiceRegistration {
    ServiceRegistration {
        id: if gateway.id.is_empty() {
            gateway.name.clone()
        } else {
            gateway.id
        },
        name: gateway.name,
        address: gateway.address,
        port: Some(gateway.port),
        meta: gateway.meta,
        connect: Some(ConnectRegistration {
            native: true,
            sidecar_service: None,
        }),
        ..ServiceRegistration::default()
    }
}

/// Follows the own registration: where it is missing, it is made.
async fn keep(client: Client, registration: ServiceRegistration) {
    let mut watch = client
        .agent_service(&registration.id)
        .watch(Pacing::default());
    loop {
        let error = match watch.next().await {
            WatchEvent::Changed { .. } | WatchEvent::Recovered { .. } => continue,
            WatchEvent::Failed { error, .. } => error,
        };
        if !error.is_not_found() {
            tracing::debug!(error = %chain_of(&error), "cannot see the gateway's registration");
            continue;
        }
        match client.register_service(&registration).await {
            Ok(()) => tracing::info!(id = %registration.id, "gateway registered"),
            Err(error) => {
                tracing::warn!(error = %chain_of(&error), "cannot register the gateway yet");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_a_native_service_without_checks() {
        let made = registration(GatewayService {
            name: "edge".to_owned(),
            port: 8080,
            ..GatewayService::default()
        });
        assert_eq!(made.id, "edge");
        assert_eq!(made.port, Some(8080));
        assert!(made.connect.unwrap().native);
        assert_eq!(made.checks, []);
    }
}
