//! One service behind an ingress gateway: what its entry and its row of the catalog say about it.

use crate::chain;
use crate::publish::Contents;
use crate::translate::edge;
use crate::translate::policy::{ZeroShare, refine};
use consul::catalog::GatewayService;
use consul::entry::{IngressLimits, IngressListener, IngressService};
use meridian_model::policy::{CircuitLimits, OutlierPolicy};
use meridian_model::route::{HeaderModifier, VirtualHost};
use meridian_model::{Route, RouteAction, RouteTable};
use std::sync::Arc;

/// The chain to follow for it.
pub(super) fn query(row: &GatewayService) -> crate::knowledge::ChainQuery {
    let tcp = row.protocol == "tcp";
    edge::chain_query(&row.service.name, &row.service.namespace, "", tcp)
}

/// Names the clusters of a service.
pub(super) fn label(row: &GatewayService) -> String {
    match (row.protocol.as_str(), row.service.namespace.as_str()) {
        ("tcp", _) => format!("{}@{}", row.service.name, row.port),
        (_, "" | "default") => row.service.name.clone(),
        (_, namespace) => format!("{}.{namespace}", row.service.name),
    }
}

/// What the entry says about a service of a listener.
pub(super) fn written<'a>(
    row: &GatewayService,
    listener: &'a IngressListener,
) -> Option<&'a IngressService> {
    let named = |name: &str| listener.services.iter().find(|one| one.name == name);
    named(&row.service.name).or_else(|| named("*"))
}

pub(super) fn limits(own: Option<&IngressService>, defaults: &IngressLimits) -> CircuitLimits {
    let own = own.map(|own| own.limits).unwrap_or_default();
    let first = |own: u32, default: u32| [own, default].into_iter().find(|most| *most > 0);
    CircuitLimits {
        connections: first(own.max_connections, defaults.max_connections),
        pending_requests: first(own.max_pending_requests, defaults.max_pending_requests),
        requests: first(
            own.max_concurrent_requests,
            defaults.max_concurrent_requests,
        ),
    }
}

pub(super) fn outlier(own: Option<&IngressService>, defaults: &IngressLimits) -> OutlierPolicy {
    let mut policy = OutlierPolicy::default();
    let own = own.and_then(|own| own.limits.passive_health_check);
    for written in [defaults.passive_health_check, own].into_iter().flatten() {
        refine(&mut policy, &written, ZeroShare::IsUnset);
    }
    policy
}

/// The routes of a service under its hosts, with the listener's own changes to headers.
pub(super) fn virtual_host(
    row: &GatewayService,
    listener: &IngressListener,
    table: RouteTable,
    contents: &mut Contents,
) -> Option<VirtualHost> {
    let mut routes: Vec<Route> = table
        .hosts
        .into_iter()
        .flat_map(|host| host.routes)
        .collect();
    if let Some(written) = written(row, listener) {
        let changes = chain::modifier(&written.request_headers)
            .and_then(|request| Ok((request, chain::modifier(&written.response_headers)?)));
        match changes {
            Ok((request, response)) => {
                for route in &mut routes {
                    let mut action = RouteAction::clone(&route.action);
                    append(&mut action.request_headers, &request);
                    append(&mut action.response_headers, &response);
                    route.action = Arc::new(action);
                }
            }
            Err(reason) => {
                contents.reject(format!("service {}", row.service.name), reason);
                return None;
            }
        }
    }
    let hosts = match (&row.hosts[..], row.service.namespace.as_str()) {
        ([], "" | "default") => vec![format!("{}.ingress.*", row.service.name)],
        ([], namespace) => vec![format!("{}.ingress.{namespace}.*", row.service.name)],
        (hosts, _) => hosts.iter().map(|host| host.to_ascii_lowercase()).collect(),
    };
    Some(VirtualHost {
        hosts: edge::with_port(hosts, listener.port),
        routes,
    })
}

/// Further changes after those that are there.
fn append(changes: &mut HeaderModifier, further: &HeaderModifier) {
    // Set last wins, so what a later step removes or sets again must not come back.
    let gone = |name: &http::HeaderName| {
        further.remove.contains(name) || further.set.iter().any(|(set, _)| set == name)
    };
    changes.set.retain(|(name, _)| !gone(name));
    changes.add.retain(|(name, _)| !gone(name));
    changes.remove.extend(further.remove.iter().cloned());
    changes.set.extend(further.set.iter().cloned());
    changes.add.extend(further.add.iter().cloned());
}
