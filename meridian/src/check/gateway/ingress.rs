//! Of an ingress gateway: its entry, and what is bound to its listeners.

use crate::check::registration::Gateway;
use crate::check::report::Report;
use consul::Client;
use consul::entry::IngressGatewayEntry;
use std::collections::BTreeSet;

/// The services that are bound to a listener.
pub(super) async fn services(
    client: &Client,
    gateway: &Gateway,
    report: &mut Report,
) -> BTreeSet<String> {
    report.group("entry");
    let name = &gateway.service;
    let entry = match client.entry::<IngressGatewayEntry>(name).once().await {
        Ok(answer) => answer.value,
        Err(error) => {
            report.failed(&error, &format!("service:read on \"{name}\""));
            return BTreeSet::new();
        }
    };
    let Some(entry) = entry.filter(|entry| !entry.listeners.is_empty()) else {
        report.bad(
            format!("there is no ingress-gateway entry {name} with a listener"),
            "write one, named like the gateway's service: consul config write FILE",
        );
        return BTreeSet::new();
    };
    let rows = match client.gateway_services(name).once().await {
        Ok(answer) => answer.value,
        Err(error) => {
            report.failed(&error, "service:read on what is bound to it");
            return BTreeSet::new();
        }
    };
    for listener in &entry.listeners {
        let place = format!("listener {}:{}", listener.protocol, listener.port);
        let bound = rows.iter().filter(|row| row.port == listener.port);
        let bound: BTreeSet<_> = bound.map(|row| row.service.name.as_str()).collect();
        if bound.is_empty() {
            report.bad(
                format!("{place} leads to no service, so it is not open"),
                "name services under it that exist and speak its protocol, or grant service:read \
                 on them",
            );
        } else {
            let names: Vec<_> = bound.into_iter().collect();
            report.good(format!("{place} leads to {}", names.join(", ")));
        }
    }
    rows.into_iter().map(|row| row.service.name).collect()
}
