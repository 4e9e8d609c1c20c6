//! `http-route` and `tcp-route`: what attaches itself to an API gateway.

use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use super::Reference;
use crate::chain::HeaderModifiers;
use crate::entry::Entry;
use crate::wire::{Unknown, duration, nullable};

/// `http-route`: rules for requests to an API gateway.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct HttpRouteEntry {
    /// The listeners it wants to be attached to.
    #[serde(deserialize_with = "nullable")]
    pub parents: Vec<Reference>,
    /// Host names without wildcards; none is the listener's.
    #[serde(deserialize_with = "nullable")]
    pub hostnames: Vec<String>,
    /// Rules.
    #[serde(deserialize_with = "nullable")]
    pub rules: Vec<HttpRouteRule>,
}

impl Entry for HttpRouteEntry {
    const KIND: &'static str = "http-route";
}

/// A rule: which requests, what happens to them, where they go.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct HttpRouteRule {
    /// What happens to requests.
    #[serde(deserialize_with = "nullable")]
    pub filters: HttpRouteFilters,
    /// What happens to responses.
    #[serde(deserialize_with = "nullable")]
    pub response_filters: HttpRouteFilters,
    /// Alternatives; none is every request.
    #[serde(deserialize_with = "nullable")]
    pub matches: Vec<HttpRouteMatch>,
    /// Where requests go.
    #[serde(deserialize_with = "nullable")]
    pub services: Vec<HttpRouteService>,
}

/// Changes on the way.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct HttpRouteFilters {
    /// Changes to headers, one after the other.
    #[serde(deserialize_with = "nullable")]
    pub headers: Vec<HeaderModifiers>,
    /// Another path.
    #[serde(rename = "URLRewrite", deserialize_with = "nullable")]
    pub url_rewrite: Option<UrlRewrite>,
    /// Further tries.
    #[serde(deserialize_with = "nullable")]
    pub retry_filter: Option<RetryFilter>,
    /// Deadlines.
    #[serde(deserialize_with = "nullable")]
    pub timeout_filter: Option<TimeoutFilter>,
    /// Required tokens (Enterprise).
    #[serde(rename = "JWT")]
    pub jwt: Value,
    /// What this client doesn't know.
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// Another path.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct UrlRewrite {
    /// Replaces what the path's condition matched.
    pub path: String,
}

/// Further tries.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct RetryFilter {
    /// How many.
    pub num_retries: u32,
    /// On which conditions, in Envoy's words.
    #[serde(deserialize_with = "nullable")]
    pub retry_on: Vec<String>,
    /// On which statuses.
    #[serde(deserialize_with = "nullable")]
    pub retry_on_status_codes: Vec<u16>,
    /// When connecting fails.
    pub retry_on_connect_failure: bool,
}

/// Deadlines.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct TimeoutFilter {
    /// Time for the whole request.
    #[serde(deserialize_with = "duration")]
    pub request_timeout: Option<Duration>,
    /// Time without any byte.
    #[serde(deserialize_with = "duration")]
    pub idle_timeout: Option<Duration>,
}

/// Conditions on a request; all of them must hold.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct HttpRouteMatch {
    /// Headers.
    #[serde(deserialize_with = "nullable")]
    pub headers: Vec<HttpRouteTest>,
    /// The method; empty is every one.
    pub method: String,
    /// The path; without a value it is every one.
    #[serde(deserialize_with = "nullable")]
    pub path: HttpRouteTest,
    /// Query parameters.
    #[serde(deserialize_with = "nullable")]
    pub query: Vec<HttpRouteTest>,
    /// What this client doesn't know.
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// A condition on a text.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct HttpRouteTest {
    /// `exact`, `prefix`, `suffix`, `regex` or `present`.
    #[serde(rename = "Match")]
    pub kind: String,
    /// Name of the header or parameter.
    pub name: String,
    /// What it is compared with.
    pub value: String,
}

/// A service that takes a share of a rule's requests.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct HttpRouteService {
    /// The service.
    pub name: String,
    /// Its share, relative to the sum of all.
    pub weight: u32,
    /// What happens to its requests.
    #[serde(deserialize_with = "nullable")]
    pub filters: HttpRouteFilters,
    /// What happens to its responses.
    #[serde(deserialize_with = "nullable")]
    pub response_filters: HttpRouteFilters,
    /// Its namespace (Enterprise).
    pub namespace: String,
    /// Its admin partition (Enterprise).
    pub partition: String,
}

/// `tcp-route`: a service for an API gateway's connections.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct TcpRouteEntry {
    /// The listeners it wants to be attached to.
    #[serde(deserialize_with = "nullable")]
    pub parents: Vec<Reference>,
    /// The service; Consul takes one.
    #[serde(deserialize_with = "nullable")]
    pub services: Vec<TcpRouteService>,
}

impl Entry for TcpRouteEntry {
    const KIND: &'static str = "tcp-route";
}

/// A service of a TCP route.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct TcpRouteService {
    /// The service.
    pub name: String,
    /// Its namespace (Enterprise).
    pub namespace: String,
    /// Its admin partition (Enterprise).
    pub partition: String,
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn filters_of_enterprise_stay_visible() {
        let read: HttpRouteFilters =
            serde_json::from_value(json!({"JWT": {"Providers": []}, "Odd": 1})).unwrap();
        assert!(!read.jwt.is_null());
        assert!(read.unknown.contains_key("Odd"));
        let timeouts: HttpRouteFilters =
            serde_json::from_value(json!({"TimeoutFilter": {"RequestTimeout": 300_000_000u64}}))
                .unwrap();
        let filter = timeouts.timeout_filter.unwrap();
        assert_eq!(filter.request_timeout, Some(Duration::from_millis(300)));
    }
}
