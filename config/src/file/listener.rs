//! Listeners: ports, certificates, caps and deadlines.

use super::{Duration, HostPattern, IpAddress, Name, Size};
use meridian_model::listener::{ConnectionDeadlines, ConnectionLimits};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// One port.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Listener {
    /// Unique name; routes refer to it, metrics carry it.
    pub name: Name,
    /// IP address to listen on. All IPv4 addresses, if absent; `::` is all of both kinds.
    pub address: Option<IpAddress>,
    /// Port to listen on.
    #[schemars(range(min = 1))]
    pub port: u16,
    /// What clients speak.
    pub protocol: ListenerProtocol,
    /// Only requests for these hosts are served. All hosts, if absent.
    pub hostname: Option<HostPattern>,
    /// Certificates. Required for `HTTPS`, refused otherwise.
    pub tls: Option<ListenerTls>,
    /// Caps on what clients may take.
    #[serde(default)]
    pub limits: Limits,
    /// How long clients may take.
    #[serde(default)]
    pub deadlines: Deadlines,
}

/// What clients of a listener speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum ListenerProtocol {
    /// HTTP/1.1 and HTTP/2 without TLS.
    #[serde(rename = "HTTP")]
    Http,
    /// HTTP/1.1 and HTTP/2 under TLS.
    #[serde(rename = "HTTPS")]
    Https,
    /// Bytes.
    #[serde(rename = "TCP")]
    Tcp,
}

/// Certificates of a listener.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ListenerTls {
    /// Certificates. The first that covers the name that the client asks for
    /// (SNI) is presented; to a client that asks for none, the first of all.
    #[schemars(length(min = 1))]
    pub certificate_refs: Vec<CertificateRef>,
    /// Lowest version of TLS accepted.
    #[serde(default)]
    pub min_version: TlsVersion,
}

/// A certificate and its key.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CertificateRef {
    /// PEM file of the certificate, followed by its intermediates. Relative to
    /// this file.
    pub certificate: PathBuf,
    /// PEM file of the certificate's key. Relative to this file.
    pub key: PathBuf,
}

/// Lowest version of TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
pub enum TlsVersion {
    /// TLS 1.2.
    #[default]
    #[serde(rename = "1.2")]
    V1_2,
    /// TLS 1.3.
    #[serde(rename = "1.3")]
    V1_3,
}

/// Caps on what a listener's clients may take.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Limits {
    /// Open connections. One more is closed at once.
    #[schemars(range(min = 1))]
    pub connections: u32,
    /// Size of a request's head; a larger one is answered 431. Not for `TCP`.
    pub head: Size,
    /// Header lines of a request; one more is answered 431. Not for `TCP`.
    #[schemars(range(min = 1))]
    pub headers: u16,
    /// Concurrent streams of one HTTP/2 connection. Not for `TCP`.
    #[schemars(range(min = 1))]
    pub streams: u32,
}

impl Default for Limits {
    fn default() -> Self {
        let limits = ConnectionLimits::default();
        Self {
            connections: limits.connections,
            head: Size(limits.head_bytes.into()),
            headers: limits.headers,
            streams: limits.streams,
        }
    }
}

/// How long a listener's clients may take.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct Deadlines {
    /// From accept to the first byte, and to the end of the HTTP/2 preface. Not for `TCP`.
    pub first_byte: Duration,
    /// From accept to the end of the TLS handshake. Only for `HTTPS`.
    pub handshake: Duration,
    /// From a request's first byte to the end of its head. Not for `TCP`.
    pub request_head: Duration,
    /// Between two requests of a connection; for `TCP`, without a byte in
    /// either direction. 5m for HTTP, 1h for `TCP`, if absent.
    pub idle: Option<Duration>,
    /// Between two reads of a request's body, or writes of a response's. Not for `TCP`.
    pub stall: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        let deadlines = ConnectionDeadlines::default();
        Self {
            first_byte: Duration(deadlines.first_byte),
            handshake: Duration(deadlines.handshake),
            request_head: Duration(deadlines.request_head),
            idle: None,
            stall: Duration(deadlines.stall),
        }
    }
}
