//! Backends: where requests can go.

use super::{Duration, Name};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::time;

/// Somewhere that requests can go.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Backend {
    /// Unique name; routes refer to it, metrics carry it.
    pub name: Name,
    /// What its endpoints speak. Through the mesh, the service's own protocol
    /// (`service-defaults`) has the last word.
    #[serde(default)]
    pub protocol: BackendProtocol,
    /// Where its endpoints come from.
    pub discovery: Discovery,
    /// TLS to the endpoints. Plain text, if absent. Refused through the mesh,
    /// which brings its own.
    pub tls: Option<BackendTls>,
}

/// What endpoints speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum BackendProtocol {
    /// HTTP/1.1.
    #[default]
    Http,
    /// HTTP/2: by ALPN under TLS, by prior knowledge without.
    Http2,
    /// gRPC, that is HTTP/2.
    Grpc,
    /// Bytes, for routes of `TCP` listeners.
    Tcp,
}

/// Where endpoints come from: exactly one of these.
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("minProperties" = 1, "maxProperties" = 1))]
pub struct Discovery {
    /// A service in Consul.
    pub consul: Option<ConsulDiscovery>,
    /// Addresses written here.
    #[serde(rename = "static")]
    pub fixed: Option<StaticDiscovery>,
    /// A host name, resolved again and again.
    pub dns: Option<DnsDiscovery>,
}

/// A service in Consul.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ConsulDiscovery {
    /// Name of the service.
    pub service: Name,
    /// Datacenter of the service. The agent's, if absent.
    pub datacenter: Option<Name>,
    /// Namespace of the service (Consul Enterprise). The token's, if absent.
    pub namespace: Option<Name>,
    /// Admin partition of the service (Consul Enterprise). The agent's, if absent.
    pub partition: Option<Name>,
    /// Filter expression over health entries, evaluated by Consul:
    /// `Service.Meta.track == "stable"`.
    pub filter: Option<String>,
    /// Whether to go through the mesh: the service's discovery chain, mutual
    /// TLS, intentions. `false` calls the instances themselves.
    #[serde(default = "through_the_mesh")]
    pub mesh: bool,
}

/// Identity and intentions are what Consul Connect is used for; going around
/// them has to be written down.
fn through_the_mesh() -> bool {
    true
}

/// Addresses written down.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StaticDiscovery {
    /// The addresses.
    #[schemars(length(min = 1))]
    pub endpoints: Vec<StaticEndpoint>,
}

/// One address.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StaticEndpoint {
    /// `127.0.0.1:9000`, `[::1]:9000`, or `host:9000`, which must be the only
    /// endpoint and is then the same as discovery by DNS.
    pub address: String,
    /// Share relative to the other endpoints.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 128))]
    pub weight: u32,
}

/// Equal shares, unless said otherwise.
fn one() -> u32 {
    1
}

/// A host name, resolved again and again; each of its addresses is an endpoint.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DnsDiscovery {
    /// Name to resolve.
    pub name: Name,
    /// Port of every endpoint.
    #[schemars(range(min = 1))]
    pub port: u16,
    /// Longest time between two look-ups; a shorter TTL wins.
    #[serde(default = "default_refresh")]
    pub refresh: Duration,
}

/// Half a minute is the usual TTL of names that are meant to move.
pub(crate) const DNS_REFRESH: time::Duration = time::Duration::from_secs(30);

fn default_refresh() -> Duration {
    Duration(DNS_REFRESH)
}

/// TLS to endpoints, with ordinary host name verification.
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BackendTls {
    /// Name to ask for (SNI), which the certificate must cover. The name of
    /// discovery by DNS, if absent; required otherwise.
    pub server_name: Option<Name>,
    /// PEM file of the authorities to trust. The system's, if absent. Relative
    /// to this file.
    pub ca_file: Option<PathBuf>,
}
