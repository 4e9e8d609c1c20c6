//! What a program needs to start: not part of the model, because it holds
//! until the program stops.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Settings that hold from start to stop.
#[derive(Debug, Clone, PartialEq)]
pub struct Startup {
    /// Address of the admin listener.
    pub admin: SocketAddr,
    /// The Consul agent.
    pub consul: Consul,
    /// Logs and traces.
    pub telemetry: Telemetry,
    /// How long requests under way may take to finish after the first signal.
    pub drain_deadline: Duration,
    /// Threads that move traffic; `None` for as many as there are CPUs.
    pub threads: Option<u16>,
    /// What a mesh proxy keeps for a start without Consul; `None` keeps nothing.
    pub state: Option<State>,
}

/// What is kept for a start without Consul.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// Where.
    pub directory: PathBuf,
    /// Whether private keys are kept as well.
    pub keep_keys: bool,
}

/// The Consul agent. `None` leaves the word to the `CONSUL_*` variables.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Consul {
    /// As in `CONSUL_HTTP_ADDR`.
    pub address: Option<String>,
    /// Where the ACL token is.
    pub token: Option<TokenSource>,
    /// Datacenter to ask.
    pub datacenter: Option<String>,
    /// Namespace to ask.
    pub namespace: Option<String>,
    /// Admin partition to ask.
    pub partition: Option<String>,
    /// TLS to the agent.
    pub tls: Option<ConsulTls>,
}

/// Where the ACL token is. It never stands in the file itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TokenSource {
    /// In this file.
    File(PathBuf),
    /// In this environment variable.
    Environment(String),
}

/// TLS to the Consul agent. Paths are absolute, or relative to the working directory.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ConsulTls {
    /// PEM file of the authorities to trust.
    pub ca_file: Option<PathBuf>,
    /// PEM files of the certificate to present, and of its key.
    pub client: Option<(PathBuf, PathBuf)>,
    /// Name that the agent's certificate must cover.
    pub server_name: Option<String>,
}

/// Logs and traces.
#[derive(Debug, Clone, PartialEq)]
pub struct Telemetry {
    /// Level of the program's own log.
    pub log_level: LogLevel,
    /// Access log.
    pub access_log: AccessLog,
    /// Spans; `None` exports none.
    pub tracing: Option<Tracing>,
}

pub use crate::file::{AccessLogFormat, LogLevel};

impl LogLevel {
    /// The level as `tracing` writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

/// Access log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessLog {
    /// Form of a line.
    pub format: AccessLogFormat,
    /// Where lines go.
    pub destination: AccessLogDestination,
}

/// Where the lines of the access log go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AccessLogDestination {
    /// Nowhere.
    None,
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// A file, which is appended to.
    File(PathBuf),
}

/// Export of spans.
#[derive(Debug, Clone, PartialEq)]
pub struct Tracing {
    /// Base URL of the OTLP collector.
    pub endpoint: String,
    /// Share of new traces that is recorded, from 0 to 1.
    pub sampling: f64,
}
