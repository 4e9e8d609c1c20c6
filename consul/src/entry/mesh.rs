//! `mesh`: settings of the whole mesh.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::Entry;
use crate::wire::nullable;

/// The `mesh` entry, as far as proxies read it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct MeshEntry {
    /// Transparent mode.
    #[serde(deserialize_with = "nullable")]
    pub transparent_proxy: MeshTransparentProxy,
    /// Whether services may accept plain text.
    #[serde(rename = "AllowEnablingPermissiveMutualTLS")]
    pub allow_enabling_permissive_mutual_tls: bool,
    /// TLS between proxies.
    #[serde(rename = "TLS", deserialize_with = "nullable")]
    pub tls: MeshTls,
    /// HTTP between proxies.
    #[serde(rename = "HTTP", deserialize_with = "nullable")]
    pub http: MeshHttp,
    /// Cluster peering.
    #[serde(deserialize_with = "nullable")]
    pub peering: MeshPeering,
    /// Metadata.
    #[serde(deserialize_with = "nullable")]
    pub meta: BTreeMap<String, String>,
    /// Raft index of its last change.
    pub modify_index: u64,
}

impl Entry for MeshEntry {
    const KIND: &'static str = "mesh";
}

/// Transparent mode.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct MeshTransparentProxy {
    /// Destinations outside of the mesh are unreachable.
    pub mesh_destinations_only: bool,
}

/// Cluster peering.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct MeshPeering {
    /// Servers of peers reach each other through mesh gateways.
    pub peer_through_mesh_gateways: bool,
}

/// TLS between proxies.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct MeshTls {
    /// What proxies accept.
    #[serde(deserialize_with = "nullable")]
    pub incoming: DirectionalTls,
    /// What proxies offer.
    #[serde(deserialize_with = "nullable")]
    pub outgoing: DirectionalTls,
}

/// TLS in one direction; empty is the proxy's default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct DirectionalTls {
    /// `TLS_AUTO`, `TLSv1_2`, `TLSv1_3`, …
    #[serde(rename = "TLSMinVersion")]
    pub min_version: String,
    /// The same.
    #[serde(rename = "TLSMaxVersion")]
    pub max_version: String,
    /// Suites of TLS 1.2.
    #[serde(rename = "CipherSuites", deserialize_with = "nullable")]
    pub cipher_suites: Vec<String>,
}

/// HTTP between proxies.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct MeshHttp {
    /// `X-Forwarded-Client-Cert` is neither set nor passed on.
    #[serde(rename = "SanitizeXForwardedClientCert")]
    pub sanitize_x_forwarded_client_cert: bool,
    /// Requests that proxies accept.
    #[serde(deserialize_with = "nullable")]
    pub incoming: MeshHttpIncoming,
}

/// Requests that proxies accept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct MeshHttpIncoming {
    /// How they are brought into one form before intentions see them.
    #[serde(deserialize_with = "nullable")]
    pub request_normalization: RequestNormalization,
}

/// How requests are brought into one form.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct RequestNormalization {
    /// Paths stay as they are.
    pub insecure_disable_path_normalization: bool,
    /// `//` becomes `/`.
    pub merge_slashes: bool,
    /// `KEEP_UNCHANGED`, `REJECT_REQUEST`, `UNESCAPE_AND_REDIRECT`, `UNESCAPE_AND_FORWARD`,
    /// `IMPLEMENTATION_SPECIFIC_DEFAULT` or empty.
    pub path_with_escaped_slashes_action: String,
    /// `ALLOW`, `REJECT_REQUEST`, `DROP_HEADER` or empty.
    pub headers_with_underscores_action: String,
}
