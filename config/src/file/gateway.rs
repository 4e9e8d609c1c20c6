//! The gateway's file.

use super::{Admin, Backend, BackendPolicy, Consul, Drain, Listener, Name, Route, Telemetry};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The file of `gateway run --config FILE`.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(title = "Meridian gateway")]
pub struct GatewayFile {
    /// Version of the format.
    pub version: GatewayVersion,
    /// Where the gateway reports on itself.
    #[serde(default)]
    pub admin: Admin,
    /// The Consul agent. Used when a backend is discovered through Consul.
    #[serde(default)]
    pub consul: Consul,
    /// The gateway as a service of Consul's mesh. Required when a backend goes
    /// through the mesh.
    pub service: Option<Service>,
    /// Logs and traces.
    #[serde(default)]
    pub telemetry: Telemetry,
    /// How the gateway stops.
    #[serde(default)]
    pub drain: Drain,
    /// Threads that move traffic. As many as there are CPUs, if absent.
    #[schemars(range(min = 1, max = 1024))]
    pub threads: Option<u16>,
    /// Ports to open.
    #[schemars(length(min = 1))]
    pub listeners: Vec<Listener>,
    /// Where requests can go.
    #[serde(default)]
    pub backends: Vec<Backend>,
    /// Balancing, limits and health of backends.
    #[serde(default)]
    pub backend_policies: Vec<BackendPolicy>,
    /// Which requests go where.
    #[serde(default)]
    pub routes: Vec<Route>,
}

/// Version of the gateway's file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum GatewayVersion {
    /// The only one so far.
    #[serde(rename = "edge/v1")]
    EdgeV1,
}

/// The gateway as a service of Consul's mesh.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Service {
    /// Name of the service in Consul. The gateway presents this service's
    /// certificate, and intentions name it as their source.
    pub name: Name,
}
