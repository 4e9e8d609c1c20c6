//! Of a terminating gateway: the services that are linked to it, each with its leaf and its
//! intentions, and the servers outside.

use crate::check::registration::Gateway;
use crate::check::report::Report;
use crate::check::{certificates, intentions, outside, upstream};
use consul::Client;
use consul::chain::ChainOverrides;
use meridian_model::Snapshot;
use std::collections::BTreeSet;

/// The linked services that the gateway can stand in for.
pub(super) async fn services(
    client: &Client,
    gateway: &Gateway,
    report: &mut Report,
) -> BTreeSet<String> {
    report.group("entry");
    let name = &gateway.service;
    let linked = match client.gateway_services(name).once().await {
        Ok(answer) => answer.value,
        Err(error) => {
            report.failed(&error, "service:read on what is linked to it");
            return BTreeSet::new();
        }
    };
    let linked: BTreeSet<_> = linked.into_iter().map(|one| one.service.name).collect();
    if linked.is_empty() {
        report.bad(
            format!("no service that the token may see is linked to {name}"),
            format!(
                "name them under Services of the terminating-gateway entry {name}: \
                 consul config write FILE"
            ),
        );
        return linked;
    }
    report.good(format!("{} service(s) are linked to it", linked.len()));
    for service in &linked {
        report.group(format!("service {service}"));
        certificates::presented(client, service, report).await;
        let chain = upstream::chain(client, service, &ChainOverrides::default(), report).await;
        if let Some(chain) = chain {
            intentions::from_anybody(client, service, &chain.protocol, report).await;
        }
    }
    linked
}

/// Calls the servers of each linked service, and of its subsets.
pub(super) async fn outside(snapshot: &Snapshot, linked: &BTreeSet<String>, report: &mut Report) {
    report.group("handshakes");
    for service in linked {
        let of_service = snapshot.clusters.iter().filter(|(name, _)| {
            let rest = name.as_str().strip_prefix(service.as_str());
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        });
        let mut looked = false;
        for (_, cluster) in of_service {
            looked = true;
            outside::check(cluster, report).await;
        }
        if !looked {
            report.bad(
                format!("{service}: the gateway does not serve it"),
                "see its own group, and that of the configuration",
            );
        }
    }
}
