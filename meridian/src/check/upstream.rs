//! One upstream, as Consul describes it: its discovery chain, and who may call its targets.

use super::registration::Registered;
use super::report::Report;
use super::trouble::explain;
use consul::Client;
use consul::agent::{Upstream, UpstreamKind};
use consul::chain::{ChainOverrides, CompiledChain};
use consul::intention::{Action, Intention};
use std::collections::BTreeSet;

pub(super) async fn check(
    client: &Client,
    registered: &Registered,
    upstream: &Upstream,
    report: &mut Report,
) {
    if upstream.destination_type != UpstreamKind::Service {
        report.warn(
            "it is a prepared query, whose instances are not looked at here",
            "consul's API executes it: /v1/query/NAME/execute",
        );
        return;
    }
    let name = &upstream.destination_name;
    let overrides = ChainOverrides {
        datacenter: (!upstream.datacenter.is_empty()).then(|| upstream.datacenter.clone()),
        ..ChainOverrides::default()
    };
    let chain = match client.discovery_chain(name, &overrides).once().await {
        Ok(answer) => answer.value,
        Err(error) => {
            let (finding, remedy) = explain(&error, &format!("service:read on \"{name}\""));
            report.bad(finding, remedy);
            return;
        }
    };
    report.good(format!(
        "its discovery chain speaks {} and has {} target(s)",
        chain.protocol,
        chain.targets.len()
    ));
    for service in services(&chain) {
        intentions(
            client,
            &registered.service,
            service,
            &chain.protocol,
            report,
        )
        .await;
    }
}

fn services(chain: &CompiledChain) -> BTreeSet<&str> {
    let local = chain
        .targets
        .values()
        .filter(|target| target.peer.is_empty());
    local.map(|target| target.service.as_str()).collect()
}

async fn intentions(
    client: &Client,
    source: &str,
    destination: &str,
    protocol: &str,
    report: &mut Report,
) {
    let found = match client.intentions_to(destination).once().await {
        Ok(answer) => answer,
        Err(error) => {
            let right = format!("intentions:read on \"{destination}\"");
            let (finding, remedy) = explain(&error, &right);
            report.warn(finding, remedy);
            return;
        }
    };
    let rules = found.value.to(destination).unwrap_or_default();
    let allow = format!("consul intention create -allow {source} {destination}");
    match verdict(source, rules, protocol) {
        Decision::Allowed => report.good(format!("an intention lets {source} call {destination}")),
        Decision::Denied => report.bad(
            format!("an intention denies {source} to call {destination}"),
            format!("if it should: consul intention delete, then {allow}"),
        ),
        Decision::PermissionsOnTcp => report.bad(
            format!("the intention from {source} to {destination} has permissions for requests, but {destination} speaks tcp: it denies"),
            format!("say which protocol it speaks in service-defaults, or {allow}"),
        ),
        Decision::ByRequest => report.good(format!(
            "permissions decide about each request of {source} to {destination}"
        )),
        Decision::Default => default(client, source, destination, &allow, report).await,
    }
}

/// What an agent without `agent:read` does not say is left open.
async fn default(
    client: &Client,
    source: &str,
    destination: &str,
    allow: &str,
    report: &mut Report,
) {
    let subject = format!("no intention is about {source} and {destination}");
    match client.agent_self().once().await {
        Ok(answer) if answer.value.default_intention() == Action::Allow => {
            report.good(format!("{subject}, and the default is to allow"));
        }
        Ok(_) => report.bad(format!("{subject}, and the default is to deny"), allow),
        Err(_) => report.warn(
            format!("{subject}, and the token may not read what the default is"),
            format!("grant agent:read to see it, or be explicit: {allow}"),
        ),
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Decision {
    Allowed,
    Denied,
    ByRequest,
    PermissionsOnTcp,
    Default,
}

/// The first rule about the source decides; they come in the order of precedence.
fn verdict(source: &str, rules: &[Intention], protocol: &str) -> Decision {
    let about = |rule: &&Intention| {
        rule.source_peer.is_empty() && [source, "*"].contains(&rule.source_name.as_str())
    };
    let Some(rule) = rules.iter().find(about) else {
        return Decision::Default;
    };
    if !rule.permissions.is_empty() || rule.jwt.is_some() {
        return match protocol {
            "tcp" => Decision::PermissionsOnTcp,
            _ => Decision::ByRequest,
        };
    }
    match rule.action {
        Some(Action::Allow) => Decision::Allowed,
        _ => Decision::Denied,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_first_rule_about_the_source_decides() {
        let rules: Vec<Intention> = serde_json::from_value(json!([
            {"SourceName": "other", "Action": "allow"},
            {"SourceName": "web", "Action": "deny"},
            {"SourceName": "*", "Action": "allow"},
        ]))
        .unwrap();
        assert_eq!(verdict("web", &rules, "tcp"), Decision::Denied);
        assert_eq!(verdict("api", &rules, "tcp"), Decision::Allowed);
        assert_eq!(verdict("api", &rules[..2], "tcp"), Decision::Default);
        let by_request: Vec<Intention> = serde_json::from_value(json!([
            {"SourceName": "web", "Permissions": [{"Action": "allow"}]}]))
        .unwrap();
        assert_eq!(verdict("web", &by_request, "http"), Decision::ByRequest);
        assert_eq!(
            verdict("web", &by_request, "tcp"),
            Decision::PermissionsOnTcp
        );
    }
}
