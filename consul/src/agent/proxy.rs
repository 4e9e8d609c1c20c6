//! A proxy's settings, as registered and as merged with central configuration.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::wire::nullable;

/// `Proxy` of a sidecar's or gateway's registration.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Proxy {
    /// The service that the sidecar stands for, by name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub destination_service_name: String,
    /// The instance that the sidecar stands for, by ID.
    #[serde(
        rename = "DestinationServiceID",
        skip_serializing_if = "String::is_empty"
    )]
    pub destination_service_id: String,
    /// Where the instance listens; empty is 127.0.0.1.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub local_service_address: String,
    /// The instance's port; 0 is unset.
    #[serde(skip_serializing_if = "is_zero")]
    pub local_service_port: u16,
    /// The instance's unix socket, instead of address and port.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub local_service_socket_path: String,
    /// `transparent`, `direct` or empty.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub mode: String,
    /// Settings of transparent mode.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "Option::is_none")]
    pub transparent_proxy: Option<TransparentProxy>,
    /// `strict`, `permissive` or empty.
    #[serde(rename = "MutualTLSMode", skip_serializing_if = "String::is_empty")]
    pub mutual_tls_mode: String,
    /// How remote datacenters are reached.
    #[serde(
        deserialize_with = "nullable",
        skip_serializing_if = "MeshGateway::is_empty"
    )]
    pub mesh_gateway: MeshGateway,
    /// Paths reachable without mTLS.
    #[serde(
        deserialize_with = "nullable",
        skip_serializing_if = "Expose::is_empty"
    )]
    pub expose: Expose,
    /// Free-form settings: `protocol`, `local_connect_timeout_ms`, `envoy_*`, …
    #[serde(deserialize_with = "nullable", skip_serializing_if = "Map::is_empty")]
    pub config: Map<String, Value>,
    /// Services that the instance calls.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub upstreams: Vec<Upstream>,
    /// Access logs, as written.
    #[serde(skip_serializing_if = "Value::is_null")]
    pub access_logs: Value,
    /// Envoy extensions, as written.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub envoy_extensions: Vec<Value>,
}

/// A service that a proxy makes reachable locally.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Upstream {
    /// What the name means.
    pub destination_type: UpstreamKind,
    /// The service's name; `*` holds defaults and is not to be bound.
    pub destination_name: String,
    /// The service's namespace (Enterprise).
    #[serde(skip_serializing_if = "String::is_empty")]
    pub destination_namespace: String,
    /// The service's admin partition (Enterprise).
    #[serde(skip_serializing_if = "String::is_empty")]
    pub destination_partition: String,
    /// The cluster peer that exports the service.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub destination_peer: String,
    /// The datacenter; empty is the proxy's own.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub datacenter: String,
    /// Where to listen; empty is 127.0.0.1.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub local_bind_address: String,
    /// The port to listen on; 0 is unset.
    #[serde(skip_serializing_if = "is_zero")]
    pub local_bind_port: u16,
    /// The unix socket to listen on, instead of address and port.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub local_bind_socket_path: String,
    /// The socket's mode, octal.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub local_bind_socket_mode: String,
    /// Free-form settings: `protocol`, `connect_timeout_ms`, `limits`, …
    #[serde(deserialize_with = "nullable", skip_serializing_if = "Map::is_empty")]
    pub config: Map<String, Value>,
    /// How remote datacenters are reached.
    #[serde(
        deserialize_with = "nullable",
        skip_serializing_if = "MeshGateway::is_empty"
    )]
    pub mesh_gateway: MeshGateway,
    /// Written by Consul for transparent mode; not to be bound.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub centrally_configured: bool,
}

/// What an upstream's name means.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UpstreamKind {
    /// A service.
    #[default]
    #[serde(alias = "")]
    Service,
    /// A prepared query.
    PreparedQuery,
    /// Something that this client doesn't know.
    #[serde(untagged)]
    Other(String),
}

/// How traffic for other datacenters and peers travels.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct MeshGateway {
    /// `none`, `local`, `remote`, or empty for the default.
    pub mode: String,
}

impl MeshGateway {
    pub(crate) fn is_empty(&self) -> bool {
        self.mode.is_empty()
    }
}

/// Settings of transparent mode.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct TransparentProxy {
    /// The port that outgoing traffic is redirected to; 0 is Consul's default, 15001.
    pub outbound_listener_port: u16,
    /// Whether instances may be dialled by address.
    pub dialed_directly: bool,
}

/// Paths of the instance that are reachable without mTLS.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Expose {
    /// Those of HTTP checks.
    pub checks: bool,
    /// Others.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub paths: Vec<ExposePath>,
}

impl Expose {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// One path that is reachable without mTLS.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ExposePath {
    /// The port to listen on.
    pub listener_port: u16,
    /// The path, exact.
    pub path: String,
    /// The instance's port.
    pub local_path_port: u16,
    /// `http` or `http2`; empty is `http`.
    pub protocol: String,
    /// Whether a check asked for it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub parsed_from_check: bool,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes fields by reference"
)]
fn is_zero(port: &u16) -> bool {
    *port == 0
}
