//! What Consul's gateways are configured with: `api-gateway`, `bound-api-gateway` and the two kinds
//! of certificates here, the routes of API gateways and `ingress-gateway` beneath.

mod ingress;
mod route;

use serde::Deserialize;
use serde_json::Value;

pub use ingress::{
    IngressGatewayEntry, IngressLimits, IngressListener, IngressService, IngressTls,
};
pub use route::{
    HttpRouteEntry, HttpRouteFilters, HttpRouteMatch, HttpRouteRule, HttpRouteService,
    HttpRouteTest, RetryFilter, TcpRouteEntry, TcpRouteService, TimeoutFilter, UrlRewrite,
};

use super::Entry;
use crate::secret::Secret;
use crate::wire::nullable;

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
