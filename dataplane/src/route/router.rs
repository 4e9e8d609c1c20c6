//! The compiled route table of a listener.

use super::conditions::{RequestFacts, all_but_method_hold, conditions_hold};
use super::hosts::{HostMap, host_on};
use super::paths::PathIndex;
use super::rank;
use super::rewrite::MatchedPath;
use http::Method;
use meridian_model::route::{HostPorts, Precedence};
use meridian_model::{Route, RouteAction, RouteMatch, RouteName, RouteTable};
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

/// Finds the action `A` of a request.
#[derive(Debug, Clone)]
pub struct Router<A> {
    hosts: HostMap<usize>,
    ports: HostPorts,
    tables: Vec<Table<A>>,
}

/// What a request matched.
#[derive(Debug)]
pub struct Match<'a, A> {
    /// The route's name.
    pub route: &'a RouteName,
    /// What it prepared.
    pub action: &'a Arc<A>,
    /// Which part of the path it matched, for rewriting.
    pub path: MatchedPath,
}

impl<A> Router<A> {
    /// Compiles `table`. `prepare` is called once for each distinct action;
    /// routes that share one in the model share the prepared one too.
    pub fn compile(
        table: &RouteTable,
        mut prepare: impl FnMut(&RouteName, &Arc<RouteAction>) -> A,
    ) -> Self {
        let mut prepared: HashMap<*const RouteAction, Arc<A>> = HashMap::new();
        let mut action_of = |route: &Route| {
            let action = prepared
                .entry(Arc::as_ptr(&route.action))
                .or_insert_with(|| Arc::new(prepare(&route.name, &route.action)));
            Arc::clone(action)
        };
        let mut hosts = HostMap::new();
        let mut tables = Vec::new();
        let mut built: HashMap<Vec<usize>, usize> = HashMap::new();
        for (host, members) in members_by_host(table) {
            let place = *built.entry(members).or_insert_with_key(|members| {
                let routes = members
                    .iter()
                    .filter_map(|member| table.hosts.get(*member))
                    .flat_map(|host| &host.routes);
                tables.push(Table::new(routes, table.precedence, &mut action_of));
                tables.len() - 1
            });
            hosts.insert(host, place);
        }
        Self {
            hosts,
            ports: table.ports,
            tables,
        }
    }

    /// The host of an authority, as [`RequestFacts::host`] has it for this table: without its
    /// port, unless hosts are written with theirs.
    pub fn host_of<'a>(&self, authority: &'a str) -> &'a str {
        host_on(authority, self.ports)
    }

    /// The route that wins the request, if any matches.
    pub fn find(&self, request: &RequestFacts<'_>) -> Option<Match<'_, A>> {
        self.table(request)?.find(request)
    }

    /// After [`Router::find`] found nothing: the methods with which it would
    /// have, for 405 and its `Allow` header. Empty means 404.
    pub fn allowed_methods(&self, request: &RequestFacts<'_>) -> Vec<Method> {
        self.table(request)
            .map(|table| table.allowed_methods(request))
            .unwrap_or_default()
    }

    fn table(&self, request: &RequestFacts<'_>) -> Option<&Table<A>> {
        self.tables.get(*self.hosts.find(request.host)?)
    }
}

/// Virtual hosts by host name. Several may name the same one; their routes
/// then stand one after the other.
fn members_by_host(table: &RouteTable) -> HashMap<&str, Vec<usize>> {
    let mut members: HashMap<&str, Vec<usize>> = HashMap::new();
    for (place, virtual_host) in table.hosts.iter().enumerate() {
        for host in &virtual_host.hosts {
            let places = members.entry(host).or_default();
            if places.last() != Some(&place) {
                places.push(place);
            }
        }
    }
    members
}

/// Routes of one host, in the order in which they are preferred.
#[derive(Debug, Clone)]
struct Table<A> {
    routes: Vec<Prepared<A>>,
    paths: PathIndex,
}

#[derive(Debug, Clone)]
struct Prepared<A> {
    name: RouteName,
    conditions: Arc<RouteMatch>,
    action: Arc<A>,
}

impl<A> Table<A> {
    fn new<'a>(
        routes: impl Iterator<Item = &'a Route>,
        precedence: Precedence,
        action_of: &mut impl FnMut(&Route) -> Arc<A>,
    ) -> Self {
        let mut routes: Vec<_> = routes.collect();
        rank::sort(&mut routes, precedence);
        Self {
            paths: PathIndex::new(routes.iter().map(|route| &route.matches.path)),
            routes: routes
                .into_iter()
                .map(|route| Prepared {
                    name: route.name.clone(),
                    conditions: Arc::clone(&route.matches),
                    action: action_of(route),
                })
                .collect(),
        }
    }

    fn find(&self, request: &RequestFacts<'_>) -> Option<Match<'_, A>> {
        let position = self.paths.first(request.path, |position| {
            self.routes
                .get(position as usize)
                .is_some_and(|route| conditions_hold(&route.conditions, request))
        })?;
        let route = self.routes.get(position as usize)?;
        Some(Match {
            route: &route.name,
            action: &route.action,
            path: MatchedPath::by(&route.conditions.path),
        })
    }

    fn allowed_methods(&self, request: &RequestFacts<'_>) -> Vec<Method> {
        let allowed: BTreeSet<&str> = self
            .routes
            .iter()
            .filter(|route| all_but_method_hold(&route.conditions, request))
            .flat_map(|route| &route.conditions.methods)
            .map(Method::as_str)
            .collect();
        allowed
            .into_iter()
            // Each text was a method before.
            .filter_map(|method| method.parse().ok())
            .collect()
    }
}

#[cfg(test)]
mod tests;
