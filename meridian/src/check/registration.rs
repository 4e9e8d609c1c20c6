//! The registration: is the sidecar known to the agent, do its checks pass, is anybody there.

use super::Whose;
use super::report::Report;
use super::trouble::explain;
use consul::Client;
use consul::agent::{AgentService, ServiceKind, Upstream};
use consul::health::CheckStatus;
use std::time::Duration;
use tokio::net::TcpStream;

/// A sidecar that the agent knows.
#[derive(Debug)]
pub(super) struct Registered {
    /// Its ID.
    pub(super) proxy: String,
    /// The service that it stands for.
    pub(super) service: String,
    /// Where it calls.
    pub(super) upstreams: Vec<Upstream>,
}

/// Loopback, or the machine next to it.
const CONNECT: Duration = Duration::from_secs(2);

/// `None` where there is nothing to go on with.
pub(super) async fn check(
    client: &Client,
    whose: Whose<'_>,
    report: &mut Report,
) -> Option<Registered> {
    let proxy = match whose {
        Whose::Proxy(id) => id.to_owned(),
        Whose::Beside(service) => beside(client, service, report).await?,
    };
    let found = match client.agent_service(&proxy).once().await {
        Ok(answer) => answer.value,
        Err(error) => {
            let (finding, mut remedy) = explain(&error, "service:read on the sidecar's name");
            if error.is_not_found() {
                remedy = REGISTER.to_owned();
            }
            report.bad(finding, remedy);
            return None;
        }
    };
    let Some(settings) = found
        .proxy
        .as_ref()
        .filter(|_| found.kind == ServiceKind::ConnectProxy)
    else {
        report.bad(
            format!("{proxy} is registered, but is no sidecar"),
            "name the service with --sidecar-for, or its proxy with --proxy-id",
        );
        return None;
    };
    let service = settings.destination_service_name.clone();
    report.good(format!("{proxy} is registered as sidecar of {service}"));
    let listens = listens(&found, report).await;
    health(client, &service, &proxy, listens, report).await;
    let served = |one: &&Upstream| !one.centrally_configured && one.destination_name != "*";
    let upstreams = settings.upstreams.iter().filter(served).cloned();
    Some(Registered {
        upstreams: upstreams.collect(),
        proxy,
        service,
    })
}

const REGISTER: &str = "register the service with `connect { sidecar_service {} }`, with this \
                        agent: consul services register FILE";

async fn beside(client: &Client, service: &str, report: &mut Report) -> Option<String> {
    let answer = match client.agent_services().once().await {
        Ok(answer) => answer,
        Err(error) => {
            let (finding, remedy) = explain(&error, "service:read");
            report.bad(finding, remedy);
            return None;
        }
    };
    let stands_beside = |candidate: &AgentService| {
        let proxy = candidate.proxy.as_ref();
        candidate.kind == ServiceKind::ConnectProxy
            && proxy.is_some_and(|proxy| proxy.destination_service_id == service)
    };
    let mut found = answer.value.iter().filter(|(_, one)| stands_beside(one));
    match (found.next(), found.next()) {
        (Some((id, _)), None) => Some(id.clone()),
        (Some((one, _)), Some((other, _))) => {
            report.bad(
                format!("several sidecars are registered for {service}: {one}, {other}, …"),
                "name one of them with --proxy-id",
            );
            None
        }
        (None, _) => {
            let hidden = answer.meta.filtered_by_acls
                || answer.meta.default_acl_policy.as_deref() == Some("deny");
            let more = if hidden {
                ", or the token lacks service:read on it"
            } else {
                ""
            };
            report.bad(
                format!("no sidecar of {service} is registered with this agent"),
                format!("{REGISTER}{more}"),
            );
            None
        }
    }
}

async fn listens(found: &AgentService, report: &mut Report) -> bool {
    let host = if found.address.is_empty() {
        "127.0.0.1"
    } else {
        &found.address
    };
    let address = format!("{host}:{}", found.port);
    let connected = tokio::time::timeout(CONNECT, TcpStream::connect(&address)).await;
    let reason = match connected {
        Ok(Ok(_)) => {
            report.good(format!("somebody listens at {address}"));
            return true;
        }
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("no answer within {CONNECT:?}"),
    };
    report.bad(
        format!("nobody listens at {address}, where others call it: {reason}"),
        format!("start it: meshd run --proxy-id {}", found.id),
    );
    false
}

/// As others see it.
async fn health(client: &Client, service: &str, proxy: &str, listens: bool, report: &mut Report) {
    let entries = match client.health_connect(service).once().await {
        Ok(answer) => answer.value,
        Err(error) => {
            let (finding, remedy) = explain(&error, "service:read and node:read");
            report.bad(finding, remedy);
            return;
        }
    };
    let Some(entry) = entries.iter().find(|entry| entry.service.id == proxy) else {
        report.bad(
            "the catalog does not know it yet",
            "the agent tells its servers within a minute; if not, its own token lacks service:write",
        );
        return;
    };
    let failing = entry
        .checks
        .iter()
        .filter(|check| check.status == CheckStatus::Critical);
    let failing: Vec<_> = failing.map(|check| check.name.as_str()).collect();
    if failing.is_empty() {
        report.good("its checks let others call it");
    } else {
        let remedy = if listens {
            "look at their output: consul catalog services, or the agent's log"
        } else {
            "they will pass once it listens"
        };
        report.bad(format!("checks fail: {}", failing.join(", ")), remedy);
    }
}
