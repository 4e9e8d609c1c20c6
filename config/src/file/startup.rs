//! Blocks that hold from start to stop, shared by all programs.

use super::{Duration, HttpUrl, SocketAddress};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time;

/// Where the program reports on itself.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Admin {
    /// Address of `/live`, `/ready`, `/metrics`, `/snapshot`, `/log-level` and
    /// `/drain`. Whoever reaches it can drain the program, so keep it on loopback.
    pub bind: SocketAddress,
}

/// Where Consul puts the admin port of Envoy: found by the same scripts.
const ADMIN_PORT: u16 = 19_000;

impl Default for Admin {
    fn default() -> Self {
        let bind = SocketAddr::from((Ipv4Addr::LOCALHOST, ADMIN_PORT));
        Self {
            bind: SocketAddress(bind),
        }
    }
}

/// The Consul agent. What is absent here is taken from the `CONSUL_*`
/// environment variables, as the `consul` program does.
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Consul {
    /// `host:port`, `http://…`, `https://…` or `unix:///…`. The local agent, if absent.
    pub address: Option<String>,
    /// File that holds the ACL token; read again when it changes.
    pub token_file: Option<PathBuf>,
    /// Environment variable that holds the ACL token.
    pub token_env: Option<String>,
    /// Datacenter to ask. The agent's, if absent.
    pub datacenter: Option<String>,
    /// Namespace to ask (Consul Enterprise). The token's, if absent.
    pub namespace: Option<String>,
    /// Admin partition to ask (Consul Enterprise). The agent's, if absent.
    pub partition: Option<String>,
    /// TLS to the agent, for an `https://` address.
    pub tls: Option<ConsulTls>,
}

/// TLS to the Consul agent.
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ConsulTls {
    /// PEM file of the authorities to trust. The system's, if absent.
    pub ca_file: Option<PathBuf>,
    /// PEM file of the certificate to present. Needs `key`.
    pub certificate: Option<PathBuf>,
    /// PEM file of the certificate's key. Needs `certificate`.
    pub key: Option<PathBuf>,
    /// Name that the agent's certificate must cover. The host of the address, if absent.
    pub server_name: Option<String>,
}

/// Logs and traces.
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Telemetry {
    /// Least important level of the program's own log.
    pub log_level: LogLevel,
    /// One line for each request or connection.
    pub access_log: AccessLog,
    /// Spans, sent to a collector. Off, if absent.
    pub tracing: Option<Tracing>,
}

/// Level of the program's own log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// Someone must act.
    Error,
    /// Something was refused or went stale.
    Warn,
    /// Changes of state.
    #[default]
    Info,
    /// Decisions.
    Debug,
    /// Everything, also from libraries.
    Trace,
}

/// One line for each request or connection.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct AccessLog {
    /// Form of a line.
    pub format: AccessLogFormat,
    /// `stdout`, `stderr`, `none`, or a file, which is opened again on SIGHUP.
    pub destination: String,
}

impl Default for AccessLog {
    /// Standard output is what every supervisor collects.
    fn default() -> Self {
        Self {
            format: AccessLogFormat::default(),
            destination: "stdout".to_owned(),
        }
    }
}

/// Form of an access log's line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum AccessLogFormat {
    /// One JSON object a line.
    #[default]
    Json,
    /// For people.
    Text,
}

/// Spans, sent to a collector.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Tracing {
    /// Base URL of an OTLP collector that takes protobuf over HTTP:
    /// `http://127.0.0.1:4318`.
    pub endpoint: HttpUrl,
    /// Share of new traces that is recorded, from 0 to 1. A trace that began
    /// before us keeps its own decision.
    #[serde(default = "default_sampling")]
    #[schemars(range(min = 0, max = 1))]
    pub sampling: f64,
}

/// One in a hundred: enough to see the slow path of a busy edge, without a
/// span for each of its requests.
fn default_sampling() -> f64 {
    0.01
}

/// How the program stops.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Drain {
    /// How long requests under way may take to finish after SIGTERM or SIGINT.
    pub deadline: Duration,
}

/// Kubernetes kills after 30 s; five of them are for those who learn late
/// that we are leaving.
const DRAIN_DEADLINE: time::Duration = time::Duration::from_secs(25);

impl Default for Drain {
    fn default() -> Self {
        Self {
            deadline: Duration(DRAIN_DEADLINE),
        }
    }
}
