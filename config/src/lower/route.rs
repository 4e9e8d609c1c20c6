//! Routes, spread over the listeners that they belong to.

use super::context::Names;
use super::reach::Reach;
use super::{Context, attempt, filter, host, matches};
use crate::file::{
    Backend, BackendProtocol, GatewayFile, Listener, ListenerProtocol, Route as Written, Rule,
};
use crate::path::Path;
use meridian_model::route::{Destination, WeightedCluster};
use meridian_model::{ClusterName, Route, RouteAction, RouteMatch, RouteName};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What belongs to one listener.
#[derive(Debug)]
pub(super) enum Table {
    /// Routes by host.
    Http(BTreeMap<String, Vec<Route>>),
    /// Clusters with their weights.
    Tcp(Vec<(ClusterName, u32)>),
}

impl Table {
    fn is_empty(&self) -> bool {
        match self {
            Self::Http(hosts) => hosts.is_empty(),
            Self::Tcp(clusters) => clusters.is_empty(),
        }
    }
}

/// A table for each listener, in order; `backends` may be referred to.
pub(super) fn lower<'f>(
    file: &'f GatewayFile,
    backends: Names<'f>,
    cx: &mut Context<'_>,
) -> Vec<Table> {
    let top = Path::default();
    let list = top.key("routes");
    let listeners = file
        .listeners
        .iter()
        .map(|listener| listener.name.0.as_str());
    let listeners = cx.names("listener", &top.key("listeners"), listeners);
    // Routes are not referred to: only two alike are of interest.
    cx.names(
        "route",
        &list,
        file.routes.iter().map(|route| route.name.0.as_str()),
    );
    let mut lowering = Lowering {
        file,
        listeners,
        backends,
        used: vec![false; file.backends.len()],
        tables: file.listeners.iter().map(empty_table).collect(),
        reach: Reach::default(),
    };
    for (index, route) in file.routes.iter().enumerate() {
        lowering.route(route, cx, &list.index(index));
    }
    lowering.unused(cx);
    lowering.tables
}

fn empty_table(listener: &Listener) -> Table {
    match listener.protocol {
        ListenerProtocol::Tcp => Table::Tcp(Vec::new()),
        ListenerProtocol::Http | ListenerProtocol::Https => Table::Http(BTreeMap::new()),
    }
}

struct Lowering<'f> {
    file: &'f GatewayFile,
    listeners: Names<'f>,
    backends: Names<'f>,
    used: Vec<bool>,
    tables: Vec<Table>,
    reach: Reach,
}

impl Lowering<'_> {
    fn route(&mut self, route: &Written, cx: &mut Context<'_>, path: &Path) {
        let (mut http, mut tcp) = (Vec::new(), Vec::new());
        for (index, parent) in route.parent_refs.iter().enumerate() {
            let path = path.key("parentRefs").index(index);
            let Some(found) = cx.find(&self.listeners, &parent.name, &path.key("name")) else {
                continue;
            };
            let protocol = Path::default()
                .key("listeners")
                .index(found)
                .key("protocol");
            if !cx.sound(&protocol) {
                continue;
            }
            let kind = match self.file.listeners[found].protocol {
                ListenerProtocol::Tcp => &mut tcp,
                ListenerProtocol::Http | ListenerProtocol::Https => &mut http,
            };
            if kind.contains(&found) {
                cx.error(&path, "stands here already");
            } else {
                kind.push(found);
            }
        }
        match (http.as_slice(), tcp.as_slice()) {
            // Also without a listener, so that the rest is checked.
            (_, []) => self.http(route, &http, cx, path),
            ([], [only]) => self.tcp(route, *only, cx, path),
            _ => {
                let message = "expected HTTP and HTTPS listeners, or one TCP listener";
                cx.error(&path.key("parentRefs"), message);
            }
        }
    }

    fn http(&mut self, route: &Written, listeners: &[usize], cx: &mut Context<'_>, path: &Path) {
        let hosts = self.hosts(route, listeners, cx, path);
        let rules = path.key("rules");
        let names = route
            .rules
            .iter()
            .enumerate()
            .map(|(i, rule)| rule_name(rule, i));
        let names: Vec<String> = names.collect();
        // Two alike are reported: metrics could not tell them apart.
        cx.names("rule", &rules, names.iter().map(String::as_str));
        for (index, rule) in route.rules.iter().enumerate() {
            let path = rules.index(index);
            let name = match (&rule.name, route.rules.len()) {
                (None, 1) => route.name.0.clone(),
                _ => format!("{}/{}", route.name.0, names[index]),
            };
            self.rule(rule, &name, &hosts, cx, &path);
        }
    }

    fn rule(
        &mut self,
        rule: &Rule,
        name: &str,
        hosts: &[(usize, String)],
        cx: &mut Context<'_>,
        path: &Path,
    ) {
        let list = path.key("matches");
        let conditions = matches::lower(&rule.matches, cx, &list);
        let speaks = match hosts {
            [] => Speaks::Unknown,
            _ => Speaks::Http,
        };
        let action = Arc::new(self.action(rule, &conditions, speaks, cx, path));
        let name = RouteName::from(name);
        for (index, conditions) in conditions.into_iter().map(Arc::new).enumerate() {
            let place = match rule.matches.is_empty() {
                true => path.clone(),
                false => list.index(index),
            };
            self.reach.place(&conditions, hosts, cx, &place);
            for (listener, host) in hosts {
                if let Table::Http(table) = &mut self.tables[*listener] {
                    table.entry(host.clone()).or_default().push(Route {
                        name: name.clone(),
                        matches: Arc::clone(&conditions),
                        action: Arc::clone(&action),
                    });
                }
            }
        }
    }

    /// Listeners and hosts that a route is placed on.
    fn hosts(
        &self,
        route: &Written,
        listeners: &[usize],
        cx: &mut Context<'_>,
        path: &Path,
    ) -> Vec<(usize, String)> {
        let written: Vec<&str> = route.hostnames.iter().map(|host| host.0.as_str()).collect();
        let mut all = Vec::new();
        for &listener in listeners {
            let limit = self.file.listeners[listener].hostname.as_ref();
            let limit = limit.map(|host| host.0.as_str());
            let hosts = host::within(limit, &written);
            if let (true, Some(limit)) = (hosts.is_empty(), limit) {
                let name = &self.file.listeners[listener].name;
                let message = format!("none lies within {limit}, the hostname of listener {name}");
                cx.error(&path.key("hostnames"), message);
            }
            all.extend(hosts.into_iter().map(|host| (listener, host)));
        }
        all.sort_unstable();
        all.dedup();
        all
    }

    fn action(
        &mut self,
        rule: &Rule,
        conditions: &[RouteMatch],
        speaks: Speaks,
        cx: &mut Context<'_>,
        path: &Path,
    ) -> RouteAction {
        let changes = filter::lower(&rule.filters, conditions, cx, &path.key("filters"));
        let references = path.key("backendRefs");
        let destination = match changes.redirect {
            Some(redirect) => {
                if !rule.backend_refs.is_empty() {
                    cx.error(&references, "a redirect has no backends");
                }
                Destination::Redirect(redirect)
            }
            None => {
                let weighted = self.weighted(rule, speaks, cx, &references);
                let clusters = weighted
                    .into_iter()
                    .map(|(cluster, weight)| WeightedCluster {
                        weight,
                        ..WeightedCluster::all(cluster)
                    });
                Destination::Clusters(clusters.collect())
            }
        };
        RouteAction {
            destination,
            rewrite: changes.rewrite,
            request_headers: changes.request_headers,
            response_headers: changes.response_headers,
            timeouts: attempt::timeouts(&rule.timeouts, cx, &path.key("timeouts")),
            retry: rule.retry.as_ref().map(attempt::retry),
        }
    }

    fn tcp(&mut self, route: &Written, listener: usize, cx: &mut Context<'_>, path: &Path) {
        if !route.hostnames.is_empty() {
            cx.error(&path.key("hostnames"), "a TCP listener sees no host");
        }
        let rules = path.key("rules");
        if route.rules.len() > 1 {
            cx.error(&rules, "a route of a TCP listener has one rule");
        }
        let Some(rule) = route.rules.first() else {
            return;
        };
        let path = rules.index(0);
        for key in ["matches", "filters", "timeouts", "retry"] {
            if cx.written(&path.key(key)) {
                cx.error(&path.key(key), "has no meaning on a TCP listener");
            }
        }
        let clusters = self.weighted(rule, Speaks::Bytes, cx, &path.key("backendRefs"));
        if let Table::Tcp(table) = &mut self.tables[listener] {
            if !table.is_empty() {
                cx.error(&path, "another route has this TCP listener already");
            }
            *table = clusters;
        }
    }

    /// The backends of a rule; those with weight 0 count as used and get nothing.
    fn weighted(
        &mut self,
        rule: &Rule,
        speaks: Speaks,
        cx: &mut Context<'_>,
        list: &Path,
    ) -> Vec<(ClusterName, u32)> {
        let mut clusters = Vec::new();
        for (index, reference) in rule.backend_refs.iter().enumerate() {
            let path = list.index(index).key("name");
            let Some(found) = cx.find(&self.backends, &reference.name, &path) else {
                continue;
            };
            let backend = &self.file.backends[found];
            let protocol = Path::default().key("backends").index(found).key("protocol");
            if !speaks.to(backend) && cx.sound(&protocol) {
                cx.error(&path, speaks.refusal());
            }
            self.used[found] = true;
            if reference.weight > 0 {
                clusters.push((backend.name.0.as_str().into(), reference.weight));
            }
        }
        let shares = rule.backend_refs.iter().map(|reference| reference.weight);
        match shares.max() {
            None => {
                let message = "expected at least one backend, or a filter RequestRedirect";
                // A broken filter may have been the redirect.
                if cx.sound(&list.beside("filters")) {
                    cx.error(list, message);
                }
            }
            Some(0) => cx.error(list, "the weights add up to 0; expected one above 0"),
            Some(_) => {}
        }
        clusters
    }

    /// Backends and listeners that no route names.
    fn unused(&self, cx: &mut Context<'_>) {
        // A misspelt name may have meant it.
        if !cx.references_known() {
            return;
        }
        let list = Path::default().key("backends");
        for (index, used) in self.used.iter().enumerate() {
            if !used {
                cx.error(&list.index(index), "no route names this backend");
            }
        }
        let list = Path::default().key("listeners");
        for (index, table) in self.tables.iter().enumerate() {
            if table.is_empty() {
                cx.warn(&list.index(index), "no route belongs to this listener");
            }
        }
    }
}

/// What a listener's traffic is, and so what its backends must speak.
#[derive(Debug, Clone, Copy)]
enum Speaks {
    /// The route's listeners are wrong.
    Unknown,
    Http,
    Bytes,
}

impl Speaks {
    fn to(self, backend: &Backend) -> bool {
        let bytes = backend.protocol == BackendProtocol::Tcp;
        match self {
            Self::Unknown => true,
            Self::Http => !bytes,
            Self::Bytes => bytes,
        }
    }

    fn refusal(self) -> &'static str {
        match self {
            Self::Unknown | Self::Http => {
                "expected a backend with the protocol http, http2 or grpc"
            }
            Self::Bytes => "expected a backend with the protocol tcp",
        }
    }
}

fn rule_name(rule: &Rule, index: usize) -> String {
    match &rule.name {
        Some(name) => name.0.clone(),
        None => index.to_string(),
    }
}
