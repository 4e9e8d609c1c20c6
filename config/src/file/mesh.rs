//! The mesh proxy's file: how it starts. What it proxies stands in Consul.

use super::{Admin, Consul, Drain, Telemetry};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// The file of `meshd run --config FILE`. Which service is proxied is said on
/// the command line; its listeners and upstreams stand in Consul.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(title = "Meridian mesh proxy")]
pub struct MeshFile {
    /// Version of the format.
    pub version: MeshVersion,
    /// Where the proxy reports on itself.
    #[serde(default)]
    pub admin: Admin,
    /// The Consul agent.
    #[serde(default)]
    pub consul: Consul,
    /// Logs and traces.
    #[serde(default)]
    pub telemetry: Telemetry,
    /// What is kept for a start while Consul is away. Nothing, if absent.
    pub state: Option<State>,
    /// How the proxy stops.
    #[serde(default)]
    pub drain: Drain,
    /// Threads that move traffic. As many as there are CPUs but two at most, if absent.
    #[schemars(range(min = 1, max = 1024))]
    pub threads: Option<u16>,
}

/// What Consul said last, kept for a start while it is away.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct State {
    /// Directory of this proxy alone; made if need be. Others must not have rights to write to it.
    pub directory: PathBuf,
    /// Whether private keys are kept as well. Only then can be served what others must believe,
    /// and the directory must be open to nobody else.
    #[serde(default)]
    pub keep_keys: bool,
}

/// Version of the mesh proxy's file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum MeshVersion {
    /// The only one so far.
    #[serde(rename = "mesh/v1")]
    MeshV1,
}
