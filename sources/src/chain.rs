//! Discovery chains, as routes and clusters.
//!
//! Consul has done the thinking: routers, splitters and resolvers come compiled into a graph that
//! ends in targets. Here it is walked once. What cannot be honoured as written becomes an error
//! response with its reason, never a guess: a route whose condition is not understood answers
//! for everything behind it, since any of those requests may have been meant.

mod balancing;
mod header_text;
mod headers;
mod resolver;
mod route;

pub(crate) use balancing::balancing;
pub(crate) use headers::modifier;
pub(crate) use resolver::{gateway_datacenters, needs};
pub(crate) use route::request_match;

use crate::knowledge::{InstancesQuery, Known};
use consul::chain::{CompiledChain, Node};
use consul::health::ServiceEntry;
use meridian_model::policy::{CircuitLimits, OutlierPolicy};
use meridian_model::route::{
    Destination, HeaderModifier, Precedence, VirtualHost, WeightedCluster,
};
use meridian_model::{
    Cluster, ClusterName, Endpoint, Identity, IdentityName, Rejection, Route, RouteAction,
    RouteMatch, RouteName, RouteTable, TlsTerms, TrustDomain, UpstreamProtocol,
};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What a chain is translated with.
pub(crate) struct Setting<'a> {
    /// Names clusters and routes: `LABEL`, `LABEL/<node>`.
    pub(crate) label: &'a str,
    /// Identity that is presented to targets.
    pub(crate) identity: &'a IdentityName,
    /// Trust domain of the targets.
    pub(crate) trust_domain: &'a TrustDomain,
    /// The proxy's datacenter.
    pub(crate) datacenter: &'a str,
    /// Caps of every cluster.
    pub(crate) limits: CircuitLimits,
    /// Passive health checking of every cluster.
    pub(crate) outlier: Option<OutlierPolicy>,
    /// TLS that is offered to targets.
    pub(crate) terms: TlsTerms,
}

impl<'a> Setting<'a> {
    /// As a gateway calls the mesh with an identity of its own.
    pub(crate) fn of_gateway(label: &'a str, identity: &'a Identity, terms: &TlsTerms) -> Self {
        Self {
            label,
            identity: &identity.name,
            trust_domain: identity.spiffe.trust_domain(),
            datacenter: identity
                .spiffe
                .service()
                .map_or("", |own| own.datacenter.as_str()),
            limits: CircuitLimits::default(),
            outlier: Some(OutlierPolicy::default()),
            terms: terms.clone(),
        }
    }
}

/// Where the instances of targets are looked up.
pub(crate) trait Instances {
    fn instances(&self, query: &InstancesQuery) -> Known<'_, Vec<ServiceEntry>>;

    /// Mesh gateways of a datacenter as they are called from `home`, and what of them was refused:
    /// `None` while they have not been asked for, an error where they cannot be had.
    fn gateways(&self, datacenter: &str, home: &str) -> Option<Result<Called, String>>;
}

/// Endpoints, and what was refused.
pub(crate) type Called = (Arc<[Endpoint]>, Vec<Rejection>);

/// A chain, translated.
#[derive(Debug, PartialEq)]
pub(crate) struct Translated {
    pub(crate) clusters: Vec<Cluster>,
    pub(crate) traffic: Traffic,
    pub(crate) rejected: Vec<Rejection>,
}

/// How traffic finds the clusters.
#[derive(Debug, PartialEq)]
pub(crate) enum Traffic {
    /// Request by request.
    Http(RouteTable),
    /// Connection by connection.
    Tcp(Vec<(ClusterName, u32)>),
}

/// What a chain's `Protocol` means for endpoints. Consul treats unknown names as TCP.
pub(crate) fn upstream_protocol(name: &str) -> UpstreamProtocol {
    match name.to_ascii_lowercase().as_str() {
        "http" => UpstreamProtocol::Http1,
        "http2" | "grpc" => UpstreamProtocol::Http2,
        _ => UpstreamProtocol::Tcp,
    }
}

/// Translates a chain; `None` while instances of a target, or the gateways before them, have not
/// been asked for yet.
pub(crate) fn translate(
    chain: &CompiledChain,
    setting: &Setting<'_>,
    instances: &dyn Instances,
) -> Option<Translated> {
    for query in needs(chain, setting.datacenter) {
        if matches!(instances.instances(&query), Known::Waiting) {
            return None;
        }
    }
    let mut gateways = gateway_datacenters(chain, setting.datacenter).into_iter();
    if gateways.any(|datacenter| instances.gateways(datacenter, setting.datacenter).is_none()) {
        return None;
    }
    let mut walk = Walk {
        chain,
        setting,
        instances,
        protocol: upstream_protocol(&chain.protocol),
        clusters: BTreeMap::new(),
        rejected: Vec::new(),
    };
    let traffic = match walk.protocol {
        UpstreamProtocol::Tcp => walk.tcp(),
        UpstreamProtocol::Http1 | UpstreamProtocol::Http2 => Traffic::Http(walk.http()),
    };
    Some(Translated {
        clusters: walk.clusters.into_values().collect(),
        traffic,
        rejected: walk.rejected,
    })
}

/// The walk through one chain, and what it has found so far.
struct Walk<'a> {
    chain: &'a CompiledChain,
    setting: &'a Setting<'a>,
    instances: &'a dyn Instances,
    protocol: UpstreamProtocol,
    clusters: BTreeMap<ClusterName, Cluster>,
    rejected: Vec<Rejection>,
}

impl<'a> Walk<'a> {
    fn tcp(&mut self) -> Traffic {
        match self.chain.start() {
            Some(Node::Resolver(node)) => {
                let name = self.resolver(&self.chain.start_node, node);
                Traffic::Tcp(vec![(name, 1)])
            }
            // Bytes have nothing to be routed by. No cluster: connections are closed.
            other => {
                let kind = kind(other);
                self.reject(format!(
                    "a TCP chain starts with {kind}, expected a resolver"
                ));
                Traffic::Tcp(Vec::new())
            }
        }
    }

    fn http(&mut self) -> RouteTable {
        let chain = self.chain;
        let routes = match chain.start() {
            Some(Node::Router(router)) => self.router(router),
            _ => {
                let action = self.leaf_action(&chain.start_node);
                vec![self.route(None, RouteMatch::default(), action)]
            }
        };
        RouteTable {
            ports: Default::default(),
            precedence: Precedence::FirstMatch,
            hosts: vec![VirtualHost {
                hosts: vec!["*".to_owned()],
                routes,
            }],
        }
    }

    /// What a splitter or resolver does, as an action without a router's refinements.
    fn leaf_action(&mut self, key: &str) -> RouteAction {
        let chain = self.chain;
        match chain.nodes.get(key) {
            Some(Node::Resolver(node)) => {
                let mut action = RouteAction::forward(self.resolver(key, node));
                // As in Consul's Envoy, a router's routes don't inherit it.
                if key == chain.start_node {
                    let timeouts = &mut action.timeouts;
                    timeouts.request = node.request_timeout.over(timeouts.request);
                }
                action
            }
            Some(Node::Splitter(node)) => match self.splits(node) {
                Ok(clusters) => RouteAction {
                    destination: Destination::Clusters(clusters),
                    ..unroutable(String::new())
                },
                Err(reason) => self.fail(reason),
            },
            other => {
                let kind = kind(other);
                self.fail(format!("chain node `{key}` is {kind}, which is not served"))
            }
        }
    }

    fn splits(
        &mut self,
        node: &'a consul::chain::SplitterNode,
    ) -> Result<Vec<WeightedCluster>, String> {
        let chain = self.chain;
        let mut clusters = Vec::new();
        for split in &node.splits {
            let definition = &split.definition;
            if !definition.unknown.is_empty() {
                return Err(format!("a split of `{}` has unknown fields", node.name));
            }
            let Some(Node::Resolver(resolver)) = chain.nodes.get(&split.next_node) else {
                return Err(format!("a split of `{}` leads to no resolver", node.name));
            };
            let weight = hundredths(split.weight);
            if weight == 0 {
                continue;
            }
            clusters.push(WeightedCluster {
                cluster: self.resolver(&split.next_node, resolver),
                weight,
                request_headers: modifier(&definition.request_headers)?,
                response_headers: modifier(&definition.response_headers)?,
            });
        }
        if clusters.is_empty() {
            return Err(format!("splitter `{}` sends nothing anywhere", node.name));
        }
        Ok(clusters)
    }

    fn route(&self, index: Option<usize>, matches: RouteMatch, action: RouteAction) -> Route {
        let label = self.setting.label;
        let name = match index {
            None => label.to_owned(),
            Some(index) => format!("{label}/routes[{index}]"),
        };
        Route {
            name: RouteName::from(name),
            matches: Arc::new(matches),
            action: Arc::new(action),
        }
    }

    /// Notes why, and answers so.
    fn fail(&mut self, reason: String) -> RouteAction {
        self.reject(reason.clone());
        unroutable(reason)
    }

    fn reject(&mut self, reason: String) {
        self.rejected.push(Rejection {
            resource: format!("chain {}", self.setting.label),
            reason,
        });
    }
}

fn kind(node: Option<&Node>) -> String {
    match node {
        None => "missing".to_owned(),
        Some(Node::Router(_)) => "a router".to_owned(),
        Some(Node::Splitter(_)) => "a splitter".to_owned(),
        Some(Node::Resolver(_)) => "a resolver".to_owned(),
        Some(Node::Unknown { kind, .. }) => format!("of the unknown kind `{kind}`"),
    }
}

/// Answers 500, with the reason.
pub(crate) fn unroutable(reason: String) -> RouteAction {
    RouteAction {
        destination: Destination::Unroutable {
            status: 500,
            reason,
        },
        rewrite: None,
        request_headers: HeaderModifier::default(),
        response_headers: HeaderModifier::default(),
        timeouts: Default::default(),
        retry: None,
    }
}

/// Consul's granularity of a weight is a hundredth of a percent.
fn hundredths(percent: f32) -> u32 {
    // Clamped, so that the conversion is exact.
    (percent.clamp(0.0, 100.0) * 100.0).round() as u32
}

#[cfg(test)]
mod tests;
