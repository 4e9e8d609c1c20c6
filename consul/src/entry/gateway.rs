//! `api-gateway`, `bound-api-gateway`, `http-route`, `tcp-route` and the two kinds of
//! certificates, and `ingress-gateway`: what Consul's gateways are configured with.

use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use super::Entry;
use crate::chain::HeaderModifiers;
use crate::secret::Secret;
use crate::wire::{Unknown, duration, nullable};

/// `api-gateway`: listeners, to which routes attach themselves.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ApiGatewayEntry {
    /// Ports to open.
    #[serde(deserialize_with = "nullable")]
    pub listeners: Vec<ApiGatewayListener>,
}

impl Entry for ApiGatewayEntry {
    const KIND: &'static str = "api-gateway";
}

/// A listener of an API gateway.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ApiGatewayListener {
    /// Name, unique within the gateway.
    pub name: String,
    /// Host name, `*.` before it for any label; empty is all.
    pub hostname: String,
    /// Port.
    pub port: u16,
    /// `http` or `tcp`.
    pub protocol: String,
    /// Certificates and versions.
    #[serde(rename = "TLS", deserialize_with = "nullable")]
    pub tls: ApiGatewayTls,
    /// Rules that routes can't undo: `JWT` (Enterprise).
    #[serde(rename = "Override")]
    pub overriding: Value,
    /// Rules for routes without their own: `JWT` (Enterprise).
    #[serde(rename = "Default")]
    pub defaults: Value,
}

/// Server TLS of an API gateway's listener.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ApiGatewayTls {
    /// The certificates; none is a listener without TLS.
    #[serde(deserialize_with = "nullable")]
    pub certificates: Vec<Reference>,
    /// Lowest version: `TLSv1_0` to `TLSv1_3`, `TLS_AUTO` or empty.
    pub min_version: String,
    /// Highest version.
    pub max_version: String,
    /// Names of cipher suites; empty is every good one.
    #[serde(deserialize_with = "nullable")]
    pub cipher_suites: Vec<String>,
}

/// Another entry, or a part of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Reference {
    /// The entry's kind.
    pub kind: String,
    /// The entry's name.
    pub name: String,
    /// A listener's name; empty is all of them.
    pub section_name: String,
}

/// `bound-api-gateway`: what Consul found to be attached to an API gateway.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct BoundApiGatewayEntry {
    /// Per listener of the gateway.
    #[serde(deserialize_with = "nullable")]
    pub listeners: Vec<BoundListener>,
}

impl Entry for BoundApiGatewayEntry {
    const KIND: &'static str = "bound-api-gateway";
}

/// What is attached to a listener.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct BoundListener {
    /// The listener's name.
    pub name: String,
    /// Its routes.
    #[serde(deserialize_with = "nullable")]
    pub routes: Vec<Reference>,
    /// Its certificates.
    #[serde(deserialize_with = "nullable")]
    pub certificates: Vec<Reference>,
}

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

/// `inline-certificate`: a certificate with its key, kept in Consul.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct InlineCertificateEntry {
    /// The chain; PEM.
    pub certificate: String,
    /// The key; PEM.
    pub private_key: Secret,
}

impl Entry for InlineCertificateEntry {
    const KIND: &'static str = "inline-certificate";
}

/// `file-system-certificate`: files on the gateway's machine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct FileSystemCertificateEntry {
    /// Path of the chain; PEM.
    pub certificate: String,
    /// Path of the key; PEM.
    pub private_key: String,
}

impl Entry for FileSystemCertificateEntry {
    const KIND: &'static str = "file-system-certificate";
}

/// `ingress-gateway`: listeners with their services.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct IngressGatewayEntry {
    /// Server TLS of listeners without their own.
    #[serde(rename = "TLS", deserialize_with = "nullable")]
    pub tls: IngressTls,
    /// Caps of services without their own.
    #[serde(deserialize_with = "nullable")]
    pub defaults: IngressLimits,
    /// Ports to open.
    #[serde(deserialize_with = "nullable")]
    pub listeners: Vec<IngressListener>,
}

impl Entry for IngressGatewayEntry {
    const KIND: &'static str = "ingress-gateway";
}

/// Server TLS of an ingress gateway.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct IngressTls {
    /// With the gateway's own leaf.
    pub enabled: bool,
    /// A certificate from an SDS server.
    #[serde(rename = "SDS")]
    pub sds: Value,
    /// Lowest version: `TLSv1_0` to `TLSv1_3`, `TLS_AUTO` or empty.
    #[serde(rename = "TLSMinVersion")]
    pub min_version: String,
    /// Highest version.
    #[serde(rename = "TLSMaxVersion")]
    pub max_version: String,
    /// Names of cipher suites; empty is every good one.
    #[serde(deserialize_with = "nullable")]
    pub cipher_suites: Vec<String>,
}

/// Caps of a service behind an ingress gateway; 0 and `None` are not set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct IngressLimits {
    /// Open connections.
    #[serde(deserialize_with = "nullable")]
    pub max_connections: u32,
    /// Requests that wait for a connection.
    #[serde(deserialize_with = "nullable")]
    pub max_pending_requests: u32,
    /// Requests under way.
    #[serde(deserialize_with = "nullable")]
    pub max_concurrent_requests: u32,
}

/// A listener of an ingress gateway.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct IngressListener {
    /// Port.
    pub port: u16,
    /// `tcp`, `http`, `http2` or `grpc`.
    pub protocol: String,
    /// Server TLS; `None` is the gateway's.
    #[serde(rename = "TLS", deserialize_with = "nullable")]
    pub tls: Option<IngressTls>,
    /// What is behind it.
    #[serde(deserialize_with = "nullable")]
    pub services: Vec<IngressService>,
}

/// A service behind an ingress gateway.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct IngressService {
    /// The service; `*` is every one of the listener's protocol.
    pub name: String,
    /// Host names; none is `<service>.ingress.*`.
    #[serde(deserialize_with = "nullable")]
    pub hosts: Vec<String>,
    /// Changes to requests.
    #[serde(deserialize_with = "nullable")]
    pub request_headers: HeaderModifiers,
    /// Changes to responses.
    #[serde(deserialize_with = "nullable")]
    pub response_headers: HeaderModifiers,
    /// Caps.
    #[serde(flatten)]
    pub limits: IngressLimits,
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn limits_stand_beside_the_name() {
        let read: IngressService = serde_json::from_value(json!({
            "Name": "web", "Hosts": null, "MaxConnections": 7, "MaxPendingRequests": null,
        }))
        .unwrap();
        assert_eq!(read.limits.max_connections, 7);
        assert_eq!(read.limits.max_pending_requests, 0);
    }

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
