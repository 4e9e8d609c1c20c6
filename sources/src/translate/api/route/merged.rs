//! The chains of all services behind one host of an API gateway, put under one router, as Consul
//! itself does: rewrites, retries and header changes are a router's. A service's own router does
//! not count behind an API gateway; its splitter and resolver do.

use super::words::{conditions, destination, merged, refine};
use super::{Alternative, Sight, query};
use crate::chain::{self, Setting, Translated, upstream_protocol};
use crate::publish::Contents;
use crate::translate::edge;
use consul::chain::{
    CompiledChain, Node, Route as Written, RouteDefinition, RouteMatch, RouterNode, Split,
    SplitDefinition, SplitterNode,
};
use consul::entry::HttpRouteService;
use meridian_model::{Route, UpstreamProtocol};
use std::collections::BTreeMap;

/// The chains of all services behind one host, under one router.
pub(super) struct Merged {
    chain: CompiledChain,
    routes: Vec<Written>,
    /// What the instances of each resolver speak.
    protocols: BTreeMap<String, UpstreamProtocol>,
    /// What is left out, as Consul does: resource and reason.
    ignored: Vec<(String, String)>,
}

const ROUTER: &str = "router";

impl Merged {
    pub(super) fn new() -> Self {
        Self {
            chain: CompiledChain {
                protocol: "http".to_owned(),
                start_node: ROUTER.to_owned(),
                ..CompiledChain::default()
            },
            routes: Vec::new(),
            protocols: BTreeMap::new(),
            ignored: Vec::new(),
        }
    }

    /// Adds a route, or says why it can't be served; `None` while a chain is not known.
    pub(super) fn written(
        &mut self,
        alternative: &Alternative<'_>,
        sight: &Sight<'_>,
    ) -> Option<Result<(), (RouteDefinition, String)>> {
        let mut definition = RouteDefinition {
            matches: Some(RouteMatch {
                http: None,
                ..RouteMatch::default()
            }),
            ..RouteDefinition::default()
        };
        match conditions(&alternative.matches) {
            Ok(http) => {
                definition.matches = Some(RouteMatch {
                    http: Some(http),
                    ..RouteMatch::default()
                });
            }
            // Whatever comes here may have been meant for this rule.
            Err(reason) => return Some(Err((RouteDefinition::default(), reason))),
        }
        let rule = alternative.rule;
        let mut destination = match destination(rule) {
            Ok(destination) => destination,
            Err(reason) => return Some(Err((definition, reason))),
        };
        let next = match &rule.services[..] {
            [] => Err("it has no services".to_owned()),
            [only] => {
                refine(&mut destination, only);
                self.service(only, sight)?
            }
            several => self.split(&alternative.name, several, sight)?,
        };
        match next {
            Ok(next_node) => {
                definition.destination = Some(destination);
                self.routes.push(Written {
                    definition,
                    next_node,
                });
                Some(Ok(()))
            }
            Err(reason) => Some(Err((definition, reason))),
        }
    }

    /// Takes a service's chain in; the key of the node beneath its router.
    fn service(
        &mut self,
        service: &HttpRouteService,
        sight: &Sight<'_>,
    ) -> Option<Result<String, String>> {
        let chain = match edge::known_chain(&query(service), sight.knowledge)? {
            Ok(chain) => chain,
            Err(reason) => return Some(Err(reason)),
        };
        let protocol = upstream_protocol(&chain.protocol);
        if protocol == UpstreamProtocol::Tcp {
            return Some(Err(format!("`{}` doesn't speak HTTP", service.name)));
        }
        for (key, node) in &chain.nodes {
            if let Node::Resolver(resolver) = node {
                self.protocols.insert(resolver.name.clone(), protocol);
            }
            self.chain.nodes.insert(key.clone(), node.clone());
        }
        let targets = chain.targets.clone();
        self.chain.targets.extend(targets);
        // A router's last route is for everything, and leads where a chain without it starts.
        let start = match chain.start() {
            Some(Node::Router(router)) => router.routes.last().map(|last| &last.next_node),
            _ => Some(&chain.start_node),
        };
        Some(
            start
                .cloned()
                .ok_or_else(|| format!("the chain of `{}` is empty", service.name)),
        )
    }

    /// Adds a splitter over several services. A service's own splitter is multiplied out.
    fn split(
        &mut self,
        name: &str,
        services: &[HttpRouteService],
        sight: &Sight<'_>,
    ) -> Option<Result<String, String>> {
        let total: f32 = services.iter().map(|service| service.weight as f32).sum();
        let mut splits = Vec::new();
        for service in services.iter().filter(|service| service.weight > 0) {
            if service.filters.url_rewrite.is_some() {
                let reason = format!(
                    "URLRewrite of `{}`, one of several services, has no effect, as in Consul; \
                     write it in the rule",
                    service.name
                );
                self.ignored.push((format!("http-route {name}"), reason));
            }
            let key = match self.service(service, sight)? {
                Ok(key) => key,
                Err(reason) => return Some(Err(reason)),
            };
            let share = service.weight as f32 / total;
            let inner = match self.chain.nodes.get(&key) {
                Some(Node::Splitter(splitter)) => splitter.splits.clone(),
                _ => vec![Split {
                    weight: 100.0,
                    next_node: key,
                    ..Split::default()
                }],
            };
            let own = SplitDefinition {
                request_headers: merged(&service.filters.headers),
                response_headers: merged(&service.response_filters.headers),
                ..SplitDefinition::default()
            };
            for mut split in inner {
                split.weight *= share;
                let beneath = &mut split.definition;
                beneath.request_headers = merged([&own.request_headers, &beneath.request_headers]);
                beneath.response_headers =
                    merged([&own.response_headers, &beneath.response_headers]);
                splits.push(split);
            }
        }
        let key = format!("splitter:{name}");
        let node = SplitterNode {
            name: name.to_owned(),
            splits,
            ..SplitterNode::default()
        };
        self.chain.nodes.insert(key.clone(), Node::Splitter(node));
        Some(Ok(key))
    }

    /// Walks the merged chain.
    pub(super) fn routes(
        mut self,
        sight: &Sight<'_>,
        contents: &mut Contents,
    ) -> Option<Vec<Route>> {
        for (resource, reason) in std::mem::take(&mut self.ignored) {
            contents.reject(resource, reason);
        }
        if self.routes.is_empty() {
            return Some(Vec::new());
        }
        let router = RouterNode {
            name: sight.gateway.to_owned(),
            routes: self.routes,
        };
        let node = Node::Router(router);
        self.chain.nodes.insert(ROUTER.to_owned(), node);
        let setting = Setting::of_gateway(sight.gateway, sight.identity, &sight.outgoing);
        let Translated {
            clusters,
            traffic,
            rejected,
        } = chain::translate(&self.chain, &setting, sight.knowledge)?;
        for mut cluster in clusters {
            let resolver = cluster.name.as_str().strip_prefix(sight.gateway);
            let resolver = resolver.and_then(|rest| rest.strip_prefix('/'));
            if let Some(protocol) = resolver.and_then(|name| self.protocols.get(name)) {
                cluster.protocol = *protocol;
            }
            contents.cluster(cluster);
        }
        contents.rejected.extend(rejected);
        Some(match traffic {
            chain::Traffic::Http(table) => table
                .hosts
                .into_iter()
                .flat_map(|host| host.routes)
                .collect(),
            chain::Traffic::Tcp(_) => Vec::new(),
        })
    }
}
