//! One service that is called, as Consul describes it: its discovery chain, or what a prepared query
//! finds, and who may call that.

use super::intentions;
use super::registration::Sidecar;
use super::report::Report;
use super::trouble::explain;
use consul::Client;
use consul::agent::{Upstream, UpstreamKind};
use consul::chain::{ChainOverrides, CompiledChain};
use std::collections::BTreeSet;

/// An upstream of a sidecar.
pub(super) async fn check(
    client: &Client,
    sidecar: &Sidecar,
    upstream: &Upstream,
    report: &mut Report,
) {
    if upstream.destination_type == UpstreamKind::PreparedQuery {
        prepared(client, sidecar, upstream, report).await;
        return;
    }
    let overrides = ChainOverrides {
        datacenter: (!upstream.datacenter.is_empty()).then(|| upstream.datacenter.clone()),
        ..ChainOverrides::default()
    };
    let name = &upstream.destination_name;
    service(client, &sidecar.service, name, &overrides, report).await;
}

/// A service, called by `source`.
pub(super) async fn service(
    client: &Client,
    source: &str,
    name: &str,
    overrides: &ChainOverrides,
    report: &mut Report,
) {
    let Some(chain) = chain(client, name, overrides, report).await else {
        return;
    };
    for service in services(&chain) {
        intentions::towards(client, source, service, &chain.protocol, report).await;
    }
}

/// The discovery chain of a service, if it can be had.
pub(super) async fn chain(
    client: &Client,
    name: &str,
    overrides: &ChainOverrides,
    report: &mut Report,
) -> Option<CompiledChain> {
    let chain = match client.discovery_chain(name, overrides).once().await {
        Ok(answer) => answer.value,
        Err(error) => {
            report.failed(&error, &format!("service:read on \"{name}\""));
            return None;
        }
    };
    report.good(format!(
        "its discovery chain speaks {} and has {} target(s)",
        chain.protocol,
        chain.targets.len()
    ));
    Some(chain)
}

fn services(chain: &CompiledChain) -> BTreeSet<&str> {
    let local = chain
        .targets
        .values()
        .filter(|target| target.peer.is_empty());
    local.map(|target| target.service.as_str()).collect()
}

/// What a prepared query finds now, executed as the sidecar executes it.
async fn prepared(client: &Client, sidecar: &Sidecar, upstream: &Upstream, report: &mut Report) {
    let name = &upstream.destination_name;
    let mut query = client.prepared_query(name);
    if !upstream.datacenter.is_empty() {
        query = query.datacenter(&upstream.datacenter);
    }
    let answer = match query.once().await {
        Ok(answer) => answer,
        Err(error) => {
            let (finding, mut remedy) = explain(&error, "service:read on what the query is about");
            if error.is_not_found() {
                remedy = format!(
                    "store a query of that name with POST /v1/query, or mend the upstream {name}"
                );
            }
            report.bad(finding, remedy);
            return;
        }
    };
    let found = answer.value;
    if found.nodes.is_empty() {
        let hidden = match answer.meta.filtered_by_acls {
            true => ", or grant service:read and node:read: the token hides some",
            false => "",
        };
        report.bad(
            format!("the query finds no instance of {}", found.service),
            format!("start one and its sidecar, or look at their checks{hidden}"),
        );
        return;
    }
    report.good(format!(
        "the query finds {} instance(s) of {} in {}",
        found.nodes.len(),
        found.service,
        found.datacenter
    ));
    // There is no chain that would say it.
    let protocol = upstream.config.get("protocol");
    let protocol = protocol.and_then(|value| value.as_str()).unwrap_or("tcp");
    let instances = found.nodes.iter();
    let called: BTreeSet<_> = instances.map(|one| one.service.stands_for()).collect();
    for service in called {
        intentions::towards(client, &sidecar.service, service, protocol, report).await;
    }
}
