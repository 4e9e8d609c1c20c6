//! A sidecar's source: its registration in Consul, and everything that follows from it.
//!
//! Nothing is published before registration, leaf, roots, intentions and every upstream's chain
//! are known. From then on Consul may be away: what is known goes on being served.

use crate::knowledge::{Knowledge, Topic, Trouble};
use crate::memory::Memory;
use crate::publish::{Contents, Publisher, Source, SourceMetrics, Task};
use crate::role::{self, Role};
use crate::translate::sidecar;
use crate::watching::{CONSUL, ConsulOptions, Watching, count};
use consul::agent::{AgentService, ServiceKind};
use consul::blocking::WatchEvent;
use consul::{Client, Meta, Token};
use meridian_model::{Snapshot, SourceState, SourceStatus, StaleCause};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::SystemTime;

/// Which sidecar to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sidecar {
    /// The one beside the service instance with this ID (`--sidecar-for`).
    SidecarFor(String),
    /// The one with this ID (`--proxy-id`).
    ProxyId(String),
}

/// Runs the source on the current runtime. It waits for Consul and for the registration as long
/// as it takes.
pub fn run(
    client: Client,
    sidecar: Sidecar,
    options: ConsulOptions,
    metrics: Arc<dyn SourceMetrics>,
) -> Source {
    let (publisher, snapshots) = Publisher::new();
    let task = Task::spawn(follow(client, sidecar, options, metrics, publisher));
    Source { snapshots, task }
}

async fn follow(
    client: Client,
    sidecar: Sidecar,
    options: ConsulOptions,
    metrics: Arc<dyn SourceMetrics>,
    mut publisher: Publisher,
) {
    let proxy = match sidecar {
        Sidecar::ProxyId(id) => id,
        Sidecar::SidecarFor(service) => {
            find(&client, &service, &options, &*metrics, &mut publisher).await
        }
    };
    tracing::info!(%proxy, "serving as sidecar");
    let sidecar = sidecar::Sidecar {
        proxy,
        default: options.default_intention,
    };
    let watching = Watching::new(client, options, Arc::clone(&metrics));
    role::serve(sidecar, watching, &*metrics, publisher).await;
}

impl Role for sidecar::Sidecar {
    fn wanted(&self, knowledge: &Knowledge) -> BTreeSet<Topic> {
        self.wanted(knowledge)
    }

    fn contents(&self, knowledge: &Knowledge, previous: &Snapshot) -> Option<Contents> {
        self.contents(knowledge, previous)
    }
}

/// Waits until exactly one sidecar of the instance is registered.
async fn find(
    client: &Client,
    service: &str,
    options: &ConsulOptions,
    metrics: &dyn SourceMetrics,
    publisher: &mut Publisher,
) -> String {
    let mut services = client.agent_services().watch(options.pacing);
    let mut said = None;
    let mut since = SystemTime::now();
    loop {
        let trouble = match services.next().await {
            WatchEvent::Changed { meta, .. } | WatchEvent::Recovered { meta } => {
                let known = services.last().cloned().unwrap_or_default();
                match sidecar_of(&known, service) {
                    Ok(proxy) => {
                        if let Some(memory) = &options.memory {
                            memory.note_proxy(&proxy);
                        }
                        return proxy;
                    }
                    Err(reason) => unregistered(client, &meta, reason),
                }
            }
            WatchEvent::Failed { error, .. } => {
                metrics.watch_failed("services");
                let memory = options.memory.as_ref().filter(|_| error.is_retryable());
                if let Some(proxy) = memory.and_then(Memory::proxy) {
                    tracing::warn!(%proxy, "Consul is away; being the proxy of the last run");
                    return proxy;
                }
                Trouble::of(&error)
            }
        };
        if said.as_ref() == Some(&trouble) {
            continue;
        }
        let Trouble { cause, reason } = trouble.clone();
        tracing::warn!(%service, %reason, "waiting for the sidecar's registration");
        if said.as_ref().map(|before: &Trouble| before.cause) != Some(cause) {
            since = SystemTime::now();
        }
        said = Some(trouble);
        let reason = format!("registration: {reason}");
        let state = SourceState::Stale {
            since,
            cause,
            reason,
        };
        count(metrics, &state);
        // Before the first generation this tells what is waited for, and nothing else.
        publisher.refresh(vec![SourceStatus {
            name: CONSUL.into(),
            state,
        }]);
    }
}

/// What is said of an agent that shows no such sidecar.
fn unregistered(client: &Client, meta: &Meta, reason: String) -> Trouble {
    if is_hidden(client, meta) {
        return Trouble {
            cause: StaleCause::Rights,
            reason: format!("{reason} that may be seen without service:read"),
        };
    }
    Trouble::answer(reason)
}

/// Whether there may be more than the agent shows. It doesn't say so to those without a token.
fn is_hidden(client: &Client, meta: &Meta) -> bool {
    let denied = meta.default_acl_policy.as_deref() == Some("deny");
    meta.filtered_by_acls || (denied && client.config().token == Token::Anonymous)
}

/// The sidecar registered for a service instance.
fn sidecar_of(services: &BTreeMap<String, AgentService>, service: &str) -> Result<String, String> {
    let mut sidecars = services.iter().filter(|(_, candidate)| {
        candidate.kind == ServiceKind::ConnectProxy
            && candidate
                .proxy
                .as_ref()
                .is_some_and(|proxy| proxy.destination_service_id == service)
    });
    match (sidecars.next(), sidecars.next()) {
        (Some((id, _)), None) => Ok(id.clone()),
        (Some((one, _)), Some((other, _))) => Err(format!(
            "several sidecars are registered for it ({one}, {other}, …); name one by its own ID"
        )),
        (None, _) => Err("no sidecar is registered for it".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn services(proxies: &[(&str, &str, &str)]) -> BTreeMap<String, AgentService> {
        let read = |(id, kind, service): &(&str, &str, &str)| {
            let json = json!({"ID": id, "Kind": kind, "Proxy": {"DestinationServiceID": service}});
            ((*id).to_owned(), serde_json::from_value(json).unwrap())
        };
        proxies.iter().map(read).collect()
    }

    #[test]
    fn finds_the_one_sidecar_of_an_instance() {
        let found = services(&[
            ("web-1-proxy", "connect-proxy", "web-1"),
            ("web-2-proxy", "connect-proxy", "web-2"),
            ("gateway", "mesh-gateway", "web-1"),
        ]);
        assert_eq!(sidecar_of(&found, "web-1"), Ok("web-1-proxy".to_owned()));
        assert!(
            sidecar_of(&found, "web-3")
                .unwrap_err()
                .contains("no sidecar")
        );
    }

    #[test]
    fn refuses_to_choose_between_two() {
        let found = services(&[("a", "connect-proxy", "web"), ("b", "connect-proxy", "web")]);
        assert!(sidecar_of(&found, "web").unwrap_err().contains("several"));
    }
}
