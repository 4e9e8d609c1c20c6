//! Of an API gateway: its entry, the routes that are bound to it, and those that Consul did not
//! accept. Which are bound is Consul's own verdict, as it is for the gateway.

use crate::check::registration::Gateway;
use crate::check::report::Report;
use consul::Client;
use consul::entry::{ApiGatewayEntry, BoundApiGatewayEntry, Entry, HttpRouteEntry, TcpRouteEntry};
use serde_json::Value;
use std::collections::BTreeSet;

/// The services that bound routes lead to.
pub(super) async fn services(
    client: &Client,
    gateway: &Gateway,
    report: &mut Report,
) -> BTreeSet<String> {
    report.group("entry");
    if !entry(client, &gateway.service, report).await {
        return BTreeSet::new();
    }
    report.group("routes");
    let mut all = BTreeSet::new();
    for kind in [HttpRouteEntry::KIND, TcpRouteEntry::KIND] {
        match client.config_entries(kind).once().await {
            Ok(answer) => {
                for route in answer
                    .value
                    .iter()
                    .filter(|one| wants(one, &gateway.service))
                {
                    all.extend(self::route(kind, route, report));
                }
            }
            Err(error) => {
                report.failed(&error, "mesh:read");
            }
        }
    }
    all
}

/// Looks at the gateway's entry and at what is bound to its listeners. Returns whether there is
/// one.
async fn entry(client: &Client, name: &str, report: &mut Report) -> bool {
    let written = client
        .config_entry(ApiGatewayEntry::KIND, name)
        .once()
        .await;
    let bound = client.entry::<BoundApiGatewayEntry>(name).once().await;
    let (written, bound) = match (written, bound) {
        (Ok(written), Ok(bound)) => (written.value, bound.value.unwrap_or_default()),
        (Err(error), _) | (_, Err(error)) => {
            report.failed(&error, "mesh:read");
            return false;
        }
    };
    let Some(written) = written else {
        report.bad(
            format!("there is no api-gateway entry {name}"),
            "write one, named like the gateway's service: consul config write FILE",
        );
        return false;
    };
    complain(&format!("api-gateway {name}"), &written, report);
    let listeners = written["Listeners"].as_array().into_iter().flatten();
    for listener in listeners {
        let name = listener["Name"].as_str().unwrap_or_default();
        let place = format!(
            "listener {name}, {}:{}",
            text(&listener["Protocol"]),
            listener["Port"]
        );
        let mut all = bound.listeners.iter();
        let routes = all.find(|one| one.name == name).map(|one| &one.routes);
        match routes {
            Some(routes) if !routes.is_empty() => {
                let names: Vec<_> = routes.iter().map(|route| route.name.as_str()).collect();
                report.good(format!("{place} has the routes {}", names.join(", ")));
            }
            _ => report.bad(
                format!("no route is bound to {place}, so it is not open"),
                "name it under Parents of an http-route or tcp-route of its protocol",
            ),
        }
    }
    true
}

/// Whether a route wants to be attached to this gateway.
fn wants(route: &Value, gateway: &str) -> bool {
    let mut parents = route["Parents"].as_array().into_iter().flatten();
    parents.any(|parent| {
        let kind = text(&parent["Kind"]);
        parent["Name"] == gateway && ["", ApiGatewayEntry::KIND].contains(&kind)
    })
}

/// Names what is not accepted of a route. Returns where it leads.
fn route(kind: &str, route: &Value, report: &mut Report) -> BTreeSet<String> {
    let name = format!("{kind} {}", text(&route["Name"]));
    if complain(&name, route, report) {
        return BTreeSet::new();
    }
    report.good(format!("{name} is accepted and bound"));
    let services = |value: &Value| value["Services"].as_array().cloned().unwrap_or_default();
    let rules = route["Rules"].as_array().into_iter().flatten();
    let all = rules.flat_map(services).chain(services(route));
    all.map(|service| text(&service["Name"]).to_owned())
        .collect()
}

/// Says what conditions are not as they should be; returns whether there are any.
fn complain(resource: &str, entry: &Value, report: &mut Report) -> bool {
    let conditions = entry["Status"]["Conditions"]
        .as_array()
        .into_iter()
        .flatten();
    let mut complained = false;
    for condition in conditions.filter(|condition| is_bad(condition)) {
        complained = true;
        let section = match text(&condition["Resource"]["SectionName"]) {
            "" => String::new(),
            section => format!(" at {section}"),
        };
        let (reason, message) = (text(&condition["Reason"]), text(&condition["Message"]));
        report.bad(
            format!("{resource}{section}: {reason}: {message}"),
            remedy(reason),
        );
    }
    complained
}

/// Consul says `Conflicted` where something is wrong, and all else where it is right.
fn is_bad(condition: &Value) -> bool {
    let wrong = match text(&condition["Type"]) {
        "Conflicted" => "True",
        _ => "False",
    };
    condition["Status"] == wrong
}

fn remedy(reason: &str) -> &'static str {
    match reason {
        "GatewayNotFound" => "mend the name under Parents of the route",
        "RouteConflict" => "take all tcp-routes but one from that listener",
        "InvalidCertificate" | "InvalidCertificates" | "InvalidCertificateRef" => {
            "mend the certificate's entry, or its name under TLS of the listener"
        }
        "FailedToBind" => {
            "mend Parents: the listener exists, speaks the route's protocol and takes its host names"
        }
        _ => "mend the entry: consul config read says what it holds",
    }
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn condition(kind: &str, status: &str, reason: &str) -> Value {
        json!({"Type": kind, "Status": status, "Reason": reason, "Message": "so it is",
            "Resource": {"SectionName": "http"}})
    }

    #[test]
    fn conditions_that_are_not_as_they_should_be_are_named_with_their_remedy() {
        let entry = json!({"Status": {"Conditions": [
            condition("Accepted", "True", "Accepted"),
            condition("Conflicted", "False", "NoConflict"),
            condition("Conflicted", "True", "RouteConflict"),
            condition("Bound", "False", "FailedToBind"),
        ]}});
        let mut report = Report::default();
        assert!(complain("x", &entry, &mut report));
        let text = report.to_string();
        assert!(
            text.contains("× x at http: RouteConflict: so it is\n    take all"),
            "{text}"
        );
        assert!(
            text.contains("× x at http: FailedToBind: so it is\n    mend Parents"),
            "{text}"
        );
        assert!(text.contains("× 2 failed"), "{text}");
        assert!(!complain("x", &json!({}), &mut Report::default()));
    }

    #[test]
    fn routes_of_other_gateways_are_passed_over() {
        let route = |kind: &str| json!({"Parents": [{"Kind": kind, "Name": "edge"}]});
        assert!(wants(&route("api-gateway"), "edge"));
        assert!(wants(&route(""), "edge"));
        assert!(!wants(&route("api-gateway"), "other"));
        assert!(!wants(&route("service"), "edge"));
        assert!(!wants(&json!({"Parents": null}), "edge"));
    }
}
