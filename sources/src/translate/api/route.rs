//! HTTP routes: rules by host, in Consul's order, over the chains of their services.
//!
//! Consul makes a service-router of all rules for one host, and so does this.

mod merged;
mod words;

use super::Sight;
use crate::chain::{request_match, unroutable};
use crate::knowledge::ChainQuery;
use crate::publish::Contents;
use crate::translate::edge;
use consul::entry::{
    HttpRouteEntry, HttpRouteMatch, HttpRouteRule, HttpRouteService, HttpRouteTest,
};
use merged::Merged;
use meridian_model::{Route, RouteName};
use std::collections::BTreeMap;
use std::sync::Arc;

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
        // Consul takes `*.a.test` to cover `a.test`, and whatever else ends so.
        _ => match listener.strip_prefix("*.") {
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
                    matches: Arc::new(request_match(&definition).unwrap_or_default()),
                    action: Arc::new(unroutable(reason)),
                }
            }
        };
        route.name = RouteName::from(alternative.name.as_str());
        routes.push(route);
    }
    Some(routes)
}

#[cfg(test)]
mod tests;
