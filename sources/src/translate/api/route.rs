//! HTTP routes: rules by host, in Consul's order, over the chains of their services.
//!
//! Consul makes a service-router of all rules for one host, and so does this: rewrites, retries
//! and header changes are a router's. A service's own router does not count behind an API
//! gateway; its splitter and resolver do.

use super::Sight;
use crate::chain::{self, Translated, request_match, unroutable, upstream_protocol};
use crate::knowledge::ChainQuery;
use crate::publish::Contents;
use crate::translate::edge;
use consul::chain::{
    CompiledChain, HeaderMatch, HeaderModifiers, HttpMatch, Node, QueryMatch, Route as Written,
    RouteDefinition, RouteDestination, RouteMatch, RouterNode, Split, SplitDefinition,
    SplitterNode, TimeLimit,
};
use consul::entry::{
    HttpRouteEntry, HttpRouteFilters, HttpRouteMatch, HttpRouteRule, HttpRouteService,
    HttpRouteTest,
};
use meridian_model::policy::CircuitLimits;
use meridian_model::{Route, RouteName, UpstreamProtocol};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// One alternative of a rule.
pub(super) struct Alternative<'a> {
    name: String,
    matches: HttpRouteMatch,
    rule: &'a HttpRouteRule,
}

/// The chain of a service of a rule.
pub(super) fn query(service: &HttpRouteService) -> ChainQuery {
    edge::chain_query(&service.name, &service.namespace, &service.partition, false)
}

/// The rules for each host of a listener. As in Consul, the longer path goes first, whatever
/// kind of condition it is; then more headers; then more query parameters; then what is written
/// first.
pub(super) fn by_host<'a>(
    listener: &str,
    routes: &'a [(&str, HttpRouteEntry)],
) -> BTreeMap<String, Vec<Alternative<'a>>> {
    let mut hosts: BTreeMap<String, Vec<Alternative<'a>>> = BTreeMap::new();
    for (name, route) in routes {
        for host in hostnames(listener, &route.hostnames) {
            let alternatives = hosts.entry(host).or_default();
            for (index, rule) in route.rules.iter().enumerate() {
                alternatives.extend(every_match(rule).into_iter().map(|matches| Alternative {
                    name: format!("{name}/rules[{index}]"),
                    matches,
                    rule,
                }));
            }
        }
    }
    for alternatives in hosts.values_mut() {
        alternatives.sort_by_key(|one| {
            let matches = &one.matches;
            let counts = (
                matches.path.value.len(),
                matches.headers.len(),
                matches.query.len(),
            );
            std::cmp::Reverse(counts)
        });
    }
    hosts
}

/// Hosts that a listener and a route have in common.
fn hostnames(listener: &str, route: &[String]) -> Vec<String> {
    let listener = listener.to_ascii_lowercase();
    let lower = route.iter().map(|host| host.to_ascii_lowercase());
    match listener.as_str() {
        "" | "*" if route.is_empty() => vec!["*".to_owned()],
        _ if route.is_empty() => vec![listener],
        "" | "*" => lower.collect(),
        _ => match listener.strip_prefix('*') {
            Some(suffix) => lower.filter(|host| host.ends_with(suffix)).collect(),
            None => lower.filter(|host| *host == listener).collect(),
        },
    }
}

/// A rule without conditions is one for every path, and counts as such among others.
fn every_match(rule: &HttpRouteRule) -> Vec<HttpRouteMatch> {
    let everything = || HttpRouteTest {
        kind: "prefix".to_owned(),
        value: "/".to_owned(),
        ..HttpRouteTest::default()
    };
    let mut matches = rule.matches.clone();
    if matches.is_empty() {
        matches.push(HttpRouteMatch::default());
    }
    for one in &mut matches {
        if one.path.value.is_empty() {
            one.path = everything();
        }
    }
    matches
}

/// The routes of one host; `None` while a chain is not known.
pub(super) fn translate(
    alternatives: &[Alternative<'_>],
    sight: &Sight<'_>,
    contents: &mut Contents,
) -> Option<Vec<Route>> {
    let mut merged = Merged::new();
    let mut outcomes = Vec::with_capacity(alternatives.len());
    for alternative in alternatives {
        outcomes.push(merged.written(alternative, sight)?);
    }
    let mut served = merged.routes(sight, contents)?.into_iter();
    let mut routes = Vec::with_capacity(alternatives.len());
    for (alternative, outcome) in alternatives.iter().zip(outcomes) {
        let mut route = match outcome {
            // The walk ends early where a condition makes no sense, and answers for the rest.
            Ok(()) => match served.next() {
                Some(route) => route,
                None => break,
            },
            Err((definition, reason)) => {
                contents.reject(format!("http-route {}", alternative.name), reason.clone());
                Route {
                    name: RouteName::from(""),
                    matches: request_match(&definition).unwrap_or_default(),
                    action: Arc::new(unroutable(reason)),
                }
            }
        };
        route.name = RouteName::from(alternative.name.as_str());
        routes.push(route);
    }
    Some(routes)
}

/// The chains of all services behind one host, under one router.
struct Merged {
    chain: CompiledChain,
    routes: Vec<Written>,
    /// What the instances of each resolver speak.
    protocols: BTreeMap<String, UpstreamProtocol>,
}

const ROUTER: &str = "router";

impl Merged {
    fn new() -> Self {
        Self {
            chain: CompiledChain {
                protocol: "http".to_owned(),
                start_node: ROUTER.to_owned(),
                ..CompiledChain::default()
            },
            routes: Vec::new(),
            protocols: BTreeMap::new(),
        }
    }

    /// Adds a route, or says why it can't be served; `None` while a chain is not known.
    fn written(
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
            if let Err(reason) = only_headers(service) {
                return Some(Err(reason));
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
    fn routes(mut self, sight: &Sight<'_>, contents: &mut Contents) -> Option<Vec<Route>> {
        if self.routes.is_empty() {
            return Some(Vec::new());
        }
        let router = RouterNode {
            name: sight.gateway.to_owned(),
            routes: self.routes,
        };
        let node = Node::Router(router);
        self.chain.nodes.insert(ROUTER.to_owned(), node);
        let setting = edge::setting(sight.gateway, sight.identity, CircuitLimits::default());
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

/// Conditions, as a service-router writes them.
fn conditions(written: &HttpRouteMatch) -> Result<HttpMatch, String> {
    if let Some(key) = written.unknown.keys().next() {
        return Err(format!("the match has the unknown condition `{key}`"));
    }
    let mut http = HttpMatch::default();
    let value = written.path.value.clone();
    match written.path.kind.as_str() {
        "exact" => http.path_exact = value,
        "prefix" => http.path_prefix = value,
        "regex" => http.path_regex = value,
        other => return Err(format!("paths are not matched by `{other}`")),
    }
    if !written.method.is_empty() {
        http.methods.push(written.method.clone());
    }
    for test in &written.headers {
        let mut header = HeaderMatch {
            name: test.name.clone(),
            ..HeaderMatch::default()
        };
        let value = test.value.clone();
        match test.kind.as_str() {
            "exact" => header.exact = value,
            "prefix" => header.prefix = value,
            "suffix" => header.suffix = value,
            "regex" => header.regex = value,
            "present" => header.present = true,
            other => return Err(format!("headers are not matched by `{other}`")),
        }
        http.header.push(header);
    }
    for test in &written.query {
        let mut query = QueryMatch {
            name: test.name.clone(),
            ..QueryMatch::default()
        };
        match test.kind.as_str() {
            "exact" => query.exact = test.value.clone(),
            "regex" => query.regex = test.value.clone(),
            "present" => query.present = true,
            other => return Err(format!("query parameters are not matched by `{other}`")),
        }
        http.query_param.push(query);
    }
    Ok(http)
}

/// What a rule does to its requests, as a service-router writes it.
fn destination(rule: &HttpRouteRule) -> Result<RouteDestination, String> {
    check(&rule.filters)?;
    check(&rule.response_filters)?;
    let mut destination = RouteDestination {
        request_headers: merged(&rule.filters.headers),
        response_headers: merged(&rule.response_filters.headers),
        ..RouteDestination::default()
    };
    if let Some(rewrite) = &rule.filters.url_rewrite {
        destination.prefix_rewrite.clone_from(&rewrite.path);
    }
    if let Some(retry) = &rule.filters.retry_filter {
        destination.num_retries = retry.num_retries;
        destination.retry_on.clone_from(&retry.retry_on);
        destination.retry_on_connect_failure = retry.retry_on_connect_failure;
        let statuses = &retry.retry_on_status_codes;
        destination.retry_on_status_codes.clone_from(statuses);
    }
    if let Some(timeouts) = &rule.filters.timeout_filter {
        destination.request_timeout = limit(timeouts.request_timeout);
        destination.idle_timeout = limit(timeouts.idle_timeout);
    }
    for service in &rule.services {
        check(&service.filters)?;
        check(&service.response_filters)?;
    }
    Ok(destination)
}

fn limit(written: Option<Duration>) -> TimeLimit {
    written.map_or(TimeLimit::Unset, TimeLimit::After)
}

/// A rule's only service refines what the rule says.
fn refine(destination: &mut RouteDestination, service: &HttpRouteService) {
    let own = merged(&service.filters.headers);
    destination.request_headers = merged([&destination.request_headers, &own]);
    let own = merged(&service.response_filters.headers);
    destination.response_headers = merged([&destination.response_headers, &own]);
    if let Some(rewrite) = &service.filters.url_rewrite {
        destination.prefix_rewrite.clone_from(&rewrite.path);
    }
}

/// A rule that asks for tokens must not be served without asking.
fn check(filters: &HttpRouteFilters) -> Result<(), String> {
    if !filters.jwt.is_null() {
        return Err("JWT filters of routes are not served".to_owned());
    }
    match filters.unknown.keys().next() {
        Some(key) => Err(format!("the filter `{key}` is not known")),
        None => Ok(()),
    }
}

/// A path is rewritten before the services are drawn.
fn only_headers(service: &HttpRouteService) -> Result<(), String> {
    match &service.filters.url_rewrite {
        None => Ok(()),
        Some(_) => Err(format!(
            "URLRewrite of `{}`, one of several services, is not served; write it in the rule",
            service.name
        )),
    }
}

/// Of two values for one name the later one counts, as in Consul.
fn merged<'a>(changes: impl IntoIterator<Item = &'a HeaderModifiers>) -> HeaderModifiers {
    let mut all = HeaderModifiers::default();
    for one in changes {
        let HeaderModifiers { add, set, remove } = one.clone();
        all.add.extend(add);
        all.set.extend(set);
        all.remove.extend(remove);
    }
    all
}

#[cfg(test)]
mod tests;
