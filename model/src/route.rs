//! Routes: which requests go where, and what is changed on the way.

use crate::policy::{RetryPolicy, RouteTimeouts};
use crate::{ClusterName, HeaderText, Pattern, RouteName};
use http::{HeaderName, Method};
use std::sync::Arc;

/// All routes of a listener.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct RouteTable {
    /// Which of several matching routes wins.
    pub precedence: Precedence,
    /// With which port in the request's authority a host is the one meant.
    pub ports: HostPorts,
    /// Routes by host. A request goes to the most specific host that matches:
    /// exact before wildcard, `*.example.com` before `example.*`, the longer wildcard before the
    /// shorter, `*` last.
    pub hosts: Vec<VirtualHost>,
}

/// Which of several matching routes wins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Precedence {
    /// The first in the list, as in a Consul service-router.
    #[default]
    FirstMatch,
    /// Gateway API, HTTPRouteRule: exact path, then the longest prefix, then
    /// regular expressions; then a method match; then most headers; then most
    /// query parameters; then the first in the list.
    MostSpecific,
}

/// With which port in the request's authority a host is the one meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum HostPorts {
    /// Any or none: hosts are written without one.
    #[default]
    Any,
    /// The one that it is written with, and none where it is written without, as on Consul's
    /// gateways. With another port only `*` and hosts that end in `.*` match.
    Written,
}

/// Routes for some hosts.
#[derive(Debug, Clone, PartialEq)]
pub struct VirtualHost {
    /// Lower-case host names, with a port only where [`HostPorts::Written`] says so;
    /// `*.example.com` for any labels before, `web.ingress.*` for any after, `*` for all.
    pub hosts: Vec<String>,
    /// Routes, in the order they were written.
    pub routes: Vec<Route>,
}

/// One match and what follows from it.
#[derive(Debug, Clone, PartialEq)]
pub struct Route {
    /// Label `route` of metrics and access logs.
    pub name: RouteName,
    /// When it applies. Listeners with the same route share it, as do the tables made of it.
    pub matches: Arc<RouteMatch>,
    /// What then happens. Routes written with several alternative matches share it.
    pub action: Arc<RouteAction>,
}

/// Conditions on a request; all must hold.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct RouteMatch {
    /// Condition on the normalized path, without the query.
    pub path: PathMatch,
    /// Accepted methods; empty for all.
    pub methods: Vec<Method>,
    /// Conditions on headers.
    pub headers: Vec<HeaderMatch>,
    /// Conditions on query parameters.
    pub query: Vec<QueryMatch>,
}

/// Condition on a path.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum PathMatch {
    /// Every path.
    #[default]
    Any,
    /// The path itself.
    Exact(String),
    /// As [`PathMatch::Exact`], ignoring ASCII case.
    ExactIgnoringCase(String),
    /// Starts with these bytes (Consul's `PathPrefix`): `/a` matches `/ab`.
    Prefix(String),
    /// As [`PathMatch::Prefix`], ignoring ASCII case.
    PrefixIgnoringCase(String),
    /// Starts with these path elements (Gateway API's `PathPrefix`): `/a`
    /// matches `/a` and `/a/b`, not `/ab`. Written without a trailing slash.
    ElementPrefix(String),
    /// Whole path matches.
    Regex(Pattern),
}

/// Condition on a header. A header that stands on several lines meets it by any one of them, as
/// with Envoy; values that a client joined by `,` are one.
#[derive(Debug, Clone, PartialEq)]
pub struct HeaderMatch {
    /// Name of the header.
    pub name: HeaderName,
    /// Condition on its value.
    pub value: ValueMatch,
    /// Whether no line may meet the condition. An absent header fails conditions on its value
    /// in either case (Envoy's rule), and passes only an inverted [`ValueMatch::Present`].
    pub invert: bool,
}

/// Condition on a query parameter; the first of that name counts.
#[derive(Debug, Clone, PartialEq)]
pub struct QueryMatch {
    /// Name, after percent-decoding.
    pub name: String,
    /// Condition on the decoded value.
    pub value: ValueMatch,
}

/// Condition on a text.
#[derive(Debug, Clone, PartialEq)]
pub enum ValueMatch {
    /// There is one.
    Present,
    /// Equal.
    Exact(String),
    /// Starts so.
    Prefix(String),
    /// Ends so.
    Suffix(String),
    /// Contains it (`Contains`, newer Consul).
    Contains(String),
    /// Whole text matches.
    Regex(Pattern),
}

impl ValueMatch {
    /// Whether a present text satisfies the condition.
    pub fn accepts(&self, text: &str) -> bool {
        match self {
            Self::Present => true,
            Self::Exact(wanted) => text == wanted,
            Self::Prefix(wanted) => text.starts_with(wanted.as_str()),
            Self::Suffix(wanted) => text.ends_with(wanted.as_str()),
            Self::Contains(wanted) => text.contains(wanted.as_str()),
            Self::Regex(pattern) => pattern.matches(text),
        }
    }
}

/// What happens to a matched request.
#[derive(Debug, Clone, PartialEq)]
pub struct RouteAction {
    /// Where it goes.
    pub destination: Destination,
    /// Replaces part of the path before forwarding.
    pub rewrite: Option<PathRewrite>,
    /// Changes to the request's headers.
    pub request_headers: HeaderModifier,
    /// Changes to the response's headers.
    pub response_headers: HeaderModifier,
    /// How long it may take.
    pub timeouts: RouteTimeouts,
    /// Whether and when it is tried again.
    pub retry: Option<RetryPolicy>,
}

impl RouteAction {
    /// Forwards to one cluster and changes nothing.
    pub fn forward(cluster: ClusterName) -> Self {
        Self {
            destination: Destination::Clusters(vec![WeightedCluster::all(cluster)]),
            rewrite: None,
            request_headers: HeaderModifier::default(),
            response_headers: HeaderModifier::default(),
            timeouts: RouteTimeouts::default(),
            retry: None,
        }
    }
}

/// Where a request goes.
#[derive(Debug, Clone, PartialEq)]
pub enum Destination {
    /// One of these, drawn by weight for each request.
    Clusters(Vec<WeightedCluster>),
    /// A redirect, answered here.
    Redirect(Redirect),
    /// A fixed error, with the reason that the configuration gave: a route
    /// that cannot be honoured fails loud.
    Unroutable {
        /// Status code, 500 or 503.
        status: u16,
        /// Reason, for the problem document and the log.
        reason: String,
    },
}

/// A cluster, its share, and changes that go with it.
#[derive(Debug, Clone, PartialEq)]
pub struct WeightedCluster {
    /// The cluster.
    pub cluster: ClusterName,
    /// Share of requests, relative to the sum of the shares.
    pub weight: u32,
    /// Changes to the request's headers, before those of the route, which win (Envoy's order).
    pub request_headers: HeaderModifier,
    /// Changes to the response's headers, before those of the route.
    pub response_headers: HeaderModifier,
}

impl WeightedCluster {
    /// A cluster that gets every request, unchanged.
    pub fn all(cluster: ClusterName) -> Self {
        Self {
            cluster,
            weight: 1,
            request_headers: HeaderModifier::default(),
            response_headers: HeaderModifier::default(),
        }
    }
}

/// Gateway API `RequestRedirect`.
#[derive(Debug, Clone, PartialEq)]
pub struct Redirect {
    /// 301, 302, 303, 307 or 308.
    pub status: u16,
    /// Other scheme.
    pub scheme: Option<String>,
    /// Other host.
    pub host: Option<String>,
    /// Other port.
    pub port: Option<u16>,
    /// Other path.
    pub path: Option<PathRewrite>,
}

/// How a path is replaced; the query stays.
#[derive(Debug, Clone, PartialEq)]
pub enum PathRewrite {
    /// The whole path.
    Full(String),
    /// The part that [`PathMatch::Prefix`] or [`PathMatch::ElementPrefix`] matched;
    /// the whole path where the match was exact.
    Prefix(String),
}

/// Changes to headers, in the order remove, set, add (Envoy's).
#[derive(Debug, Clone, PartialEq, Default)]
pub struct HeaderModifier {
    /// Removed.
    pub remove: Vec<HeaderName>,
    /// Written in place of whatever was there.
    pub set: Vec<(HeaderName, HeaderText)>,
    /// Written beside what was there.
    pub add: Vec<(HeaderName, HeaderText)>,
}

impl HeaderModifier {
    /// Whether it changes nothing.
    pub fn is_empty(&self) -> bool {
        self.remove.is_empty() && self.set.is_empty() && self.add.is_empty()
    }
}
