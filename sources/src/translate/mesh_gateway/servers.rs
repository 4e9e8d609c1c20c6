//! Federation through gateways (`connect.enable_mesh_gateway_wan_federation`): where Consul's own
//! servers see nothing of each other but gateways, these carry their gossip and their calls too,
//! by the names in the servers' certificates.

use super::{Making, remotes};
use crate::knowledge::{InstancesQuery, Knowledge, Known, Topic};
use crate::translate::endpoint::{View, endpoints};
use consul::agent::AgentService;
use consul::health::ServiceEntry;
use meridian_model::sni::SniName;
use meridian_model::{Endpoint, Health};
use std::sync::Arc;

/// The servers' own service, which is no part of the mesh.
pub(super) const SERVICE: &str = "consul";

/// What `consul connect envoy -expose-servers` writes into a gateway's metadata.
pub(crate) const META: (&str, &str) = ("consul-wan-federation", "1");

/// Whether the gateway's registration says that it carries the servers' connections.
pub(super) fn are_exposed(registration: &AgentService) -> bool {
    registration.meta.get(META.0).is_some_and(|on| on == META.1)
}

/// What must be known for that.
pub(super) fn wanted() -> [Topic; 2] {
    [Topic::Agent, Topic::Instances(query())]
}

/// Adds the ways to servers, those of other datacenters by way of their gateways. `None` while a
/// first generation has to wait.
pub(super) fn expose(making: &mut Making<'_>, first: bool) -> Option<()> {
    let (knowledge, registration) = (making.knowledge, making.registration);
    let home = registration.datacenter.as_str();
    let found = match knowledge.instances(&query()) {
        Known::Value(found) => found.as_slice(),
        Known::Waiting if first => return None,
        Known::Waiting => &[],
        Known::Failed(reason) => {
            making
                .contents
                .reject("servers", format!("they cannot be listed: {reason}"));
            &[]
        }
    };
    let domain = domain(knowledge, first)?;
    let name = |datacenter: &str| format!("server.{datacenter}.{domain}").to_ascii_lowercase();
    let all = called(making, found);
    let cluster = making.cluster("servers", all);
    making.pass(vec![SniName::Exact(name(home))], cluster);
    for server in found {
        let node = &server.node.node;
        let one = called(making, std::iter::once(server));
        let cluster = making.cluster(&format!("servers/{node}"), one);
        let full = format!("{}.{}", node.to_ascii_lowercase(), name(home));
        making.pass(vec![SniName::Exact(full)], cluster);
    }
    for remote in remotes(knowledge, home) {
        let gateways = making.gateways(remote);
        let (endpoints, _) = crate::gateways::as_endpoints(knowledge, gateways, home);
        let cluster = making.cluster(&format!("servers/dc/{remote}"), endpoints);
        let any = name(remote);
        let each = SniName::Suffix(format!(".{any}"));
        making.pass(vec![SniName::Exact(any), each], cluster);
    }
    Some(())
}

/// The last part of servers' names. An agent that does not say has Consul's default.
fn domain(knowledge: &Knowledge, first: bool) -> Option<String> {
    let Some(agent) = knowledge.agent() else {
        return (!first).then(|| DEFAULT_DOMAIN.to_owned());
    };
    let domain = agent.debug_config.dns_domain.trim_end_matches('.');
    let said = if domain.is_empty() {
        DEFAULT_DOMAIN
    } else {
        domain
    };
    Some(said.to_owned())
}

const DEFAULT_DOMAIN: &str = "consul";

fn query() -> InstancesQuery {
    InstancesQuery {
        service: SERVICE.to_owned(),
        mesh: false,
        datacenter: None,
        namespace: None,
        partition: None,
        filter: None,
    }
}

/// Servers as endpoints. Their checks don't count: they are what makes servers find each other
/// again.
fn called<'a>(
    making: &mut Making<'_>,
    servers: impl IntoIterator<Item = &'a ServiceEntry>,
) -> Arc<[Endpoint]> {
    let view = View {
        only_passing: false,
        local_datacenter: None,
    };
    let (found, rejected) = endpoints(servers, view);
    making.contents.rejected.extend(rejected);
    let called = found.iter().map(|one| Endpoint {
        health: Health::Healthy,
        ..one.clone()
    });
    called.collect()
}
