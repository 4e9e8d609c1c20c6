//! Intentions: who lets whom call.

use super::report::Report;
use super::trouble::explain;
use consul::Client;
use consul::intention::{Action, Intention};
use std::collections::BTreeSet;

/// Whether intentions let `source` call `destination`.
pub(super) async fn towards(
    client: &Client,
    source: &str,
    destination: &str,
    protocol: &str,
    report: &mut Report,
) {
    let rules = match rules(client, destination).await {
        Ok(rules) => rules,
        Err((finding, remedy)) => {
            report.warn(finding, remedy);
            return;
        }
    };
    let allow = format!("consul intention create -allow {source} {destination}");
    match verdict(source, &rules, protocol) {
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

/// Whether intentions let anybody call `destination`, which others call through a gateway.
pub(super) async fn from_anybody(
    client: &Client,
    destination: &str,
    protocol: &str,
    report: &mut Report,
) {
    let rules = match rules(client, destination).await {
        Ok(rules) => rules,
        Err((finding, remedy)) => {
            report.bad(finding, remedy);
            return;
        }
    };
    let callers = callers(&rules, protocol);
    let allow = format!("consul intention create -allow SOURCE {destination}");
    let default = match client.agent_self().once().await {
        Ok(answer) => Some(answer.value.default_intention()),
        Err(_) => None,
    };
    let about_all = rules.iter().any(|rule| rule.source_name == "*");
    match (callers.is_empty(), default) {
        (false, _) => report.good(format!(
            "intentions let {} call it",
            callers.into_iter().collect::<Vec<_>>().join(", ")
        )),
        (true, Some(Action::Allow)) if !about_all => {
            report.good("whoever no intention names may call it: the default is to allow");
        }
        (true, None) if !about_all => report.warn(
            "no intention lets anybody call it, and the token may not read what the default is",
            format!("grant agent:read to see it, or be explicit: {allow}"),
        ),
        (true, _) => report.warn("intentions let nobody call it", allow),
    }
}

/// The rules about a destination, or why they can't be seen and what helps.
async fn rules(client: &Client, destination: &str) -> Result<Vec<Intention>, (String, String)> {
    match client.intentions_to(destination).once().await {
        Ok(answer) => Ok(answer.value.to(destination).unwrap_or_default().to_vec()),
        Err(error) => {
            let right = format!("intentions:read on \"{destination}\"");
            Err(explain(&error, &right))
        }
    }
}

/// Sources that may call, if only with some requests.
fn callers<'a>(rules: &'a [Intention], protocol: &str) -> BTreeSet<&'a str> {
    let may = |rule: &&Intention| {
        let mut permissions = rule.permissions.iter();
        let allows = rule.action == Some(Action::Allow)
            || permissions.any(|permission| permission.action == Some(Action::Allow));
        let by_request = !rule.permissions.is_empty() || rule.jwt.is_some();
        allows && !(by_request && protocol == "tcp")
    };
    let allowing = rules.iter().filter(may);
    let names = allowing.map(|rule| match rule.source_name.as_str() {
        "*" => "everybody",
        name => name,
    });
    names.collect()
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
    fn those_who_may_call_are_named() {
        let rules: Vec<Intention> = serde_json::from_value(json!([
            {"SourceName": "other", "Action": "allow"},
            {"SourceName": "web", "Action": "deny"},
            {"SourceName": "api", "Permissions": [{"Action": "allow"}]},
            {"SourceName": "*", "Action": "allow"},
        ]))
        .unwrap();
        let all: Vec<_> = callers(&rules, "http").into_iter().collect();
        assert_eq!(all, ["api", "everybody", "other"]);
        let all: Vec<_> = callers(&rules[..3], "tcp").into_iter().collect();
        assert_eq!(all, ["other"], "permissions deny bytes");
    }

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
