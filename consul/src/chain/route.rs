//! What routers and splitters decide by, and what they do to a request on its way.
//!
//! Keys that this client doesn't know stay visible: a route with one must not be guessed at.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::wire::{TimeLimit, Unknown, nullable};

/// One route of a router.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Route {
    /// What was configured.
    #[serde(deserialize_with = "nullable")]
    pub definition: RouteDefinition,
    /// Key of the next node.
    pub next_node: String,
}

/// A route as configured.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct RouteDefinition {
    /// Which requests; `None` is every one.
    #[serde(rename = "Match", deserialize_with = "nullable")]
    pub matches: Option<RouteMatch>,
    /// What happens to them; `None` is nothing.
    #[serde(deserialize_with = "nullable")]
    pub destination: Option<RouteDestination>,
    /// What this client doesn't know.
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// Which requests a route takes.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct RouteMatch {
    /// Conditions; `None` is every request.
    #[serde(rename = "HTTP", deserialize_with = "nullable")]
    pub http: Option<HttpMatch>,
    /// What this client doesn't know.
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// Conditions on a request; all of them must hold.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct HttpMatch {
    /// The whole path; at most one of the three is set, the others are empty.
    pub path_exact: String,
    /// The path's start.
    pub path_prefix: String,
    /// A regular expression over the whole path.
    pub path_regex: String,
    /// Compare exact paths and prefixes without regard to case.
    pub case_insensitive: bool,
    /// Headers.
    #[serde(deserialize_with = "nullable")]
    pub header: Vec<HeaderMatch>,
    /// Query parameters.
    #[serde(deserialize_with = "nullable")]
    pub query_param: Vec<QueryMatch>,
    /// Methods; empty is every one.
    #[serde(deserialize_with = "nullable")]
    pub methods: Vec<String>,
    /// What this client doesn't know.
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// A condition on one header; one of the tests is set.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct HeaderMatch {
    /// The header's name.
    pub name: String,
    /// It is there.
    pub present: bool,
    /// Its whole value.
    pub exact: String,
    /// Its value's start.
    pub prefix: String,
    /// Its value's end.
    pub suffix: String,
    /// A regular expression over the whole value.
    pub regex: String,
    /// The condition holds when the test fails.
    pub invert: bool,
    /// What this client doesn't know.
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// A condition on one query parameter; one of the tests is set.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct QueryMatch {
    /// The parameter's name.
    pub name: String,
    /// It is there.
    pub present: bool,
    /// Its whole value.
    pub exact: String,
    /// A regular expression over the whole value.
    pub regex: String,
    /// What this client doesn't know.
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// What happens to requests that a route takes. Where they go is the route's next node.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct RouteDestination {
    /// The service; empty is the router's own.
    pub service: String,
    /// The subset of the service's resolver.
    pub service_subset: String,
    /// The service's namespace.
    pub namespace: String,
    /// The service's admin partition.
    pub partition: String,
    /// Replaces the matched prefix or exact path; empty leaves it.
    pub prefix_rewrite: String,
    /// Time for the whole request, tries included.
    pub request_timeout: TimeLimit,
    /// Time without any byte.
    pub idle_timeout: TimeLimit,
    /// Further tries.
    pub num_retries: u32,
    /// Try again when connecting fails.
    pub retry_on_connect_failure: bool,
    /// Try again on these conditions, in Envoy's words.
    #[serde(deserialize_with = "nullable")]
    pub retry_on: Vec<String>,
    /// Try again on these statuses.
    #[serde(deserialize_with = "nullable")]
    pub retry_on_status_codes: Vec<u16>,
    /// Changes to the request's headers.
    #[serde(deserialize_with = "nullable")]
    pub request_headers: HeaderModifiers,
    /// Changes to the response's headers.
    #[serde(deserialize_with = "nullable")]
    pub response_headers: HeaderModifiers,
    /// What this client doesn't know.
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// Changes to headers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct HeaderModifiers {
    /// Added beside what is there.
    #[serde(deserialize_with = "nullable")]
    pub add: BTreeMap<String, String>,
    /// Put in place of what is there.
    #[serde(deserialize_with = "nullable")]
    pub set: BTreeMap<String, String>,
    /// Taken away.
    #[serde(deserialize_with = "nullable")]
    pub remove: Vec<String>,
}

/// One branch of a splitter.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Split {
    /// What was configured; its headers count, its weight doesn't.
    #[serde(deserialize_with = "nullable")]
    pub definition: SplitDefinition,
    /// Percent of all requests, two decimals.
    pub weight: f32,
    /// Key of the next node.
    pub next_node: String,
}

/// A branch as configured.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct SplitDefinition {
    /// Percent within its own splitter.
    pub weight: f32,
    /// The service; empty is the splitter's own.
    pub service: String,
    /// The subset of the service's resolver.
    pub service_subset: String,
    /// The service's namespace.
    pub namespace: String,
    /// The service's admin partition.
    pub partition: String,
    /// Changes to the request's headers.
    #[serde(deserialize_with = "nullable")]
    pub request_headers: HeaderModifiers,
    /// Changes to the response's headers.
    #[serde(deserialize_with = "nullable")]
    pub response_headers: HeaderModifiers,
    /// What this client doesn't know.
    #[serde(flatten)]
    pub unknown: Unknown,
}
