//! Listeners: where traffic enters, under which protection, and what for.

use crate::rate::RateLimit;
use crate::sni::SniService;
use crate::{
    Authorization, ClusterName, ExternalAuthorization, IdentityName, ListenerName, LogExport,
    RouteTable, TlsTerms,
};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// One open port or socket.
#[derive(Debug, Clone, PartialEq)]
pub struct Listener {
    /// Unique name; the label `listener` of metrics.
    pub name: ListenerName,
    /// Where to listen. A change of it closes and reopens the listener.
    pub bind: Bind,
    /// Which way traffic flows through it.
    pub direction: Direction,
    /// What protects the bytes.
    pub security: Security,
    /// What is done with connections.
    pub service: Service,
    /// Caps on what a client may take.
    pub limits: ConnectionLimits,
    /// How long a client may take.
    pub deadlines: ConnectionDeadlines,
    /// From where it may be called.
    pub callers: Callers,
}

/// Address of a listener.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Bind {
    /// TCP.
    Tcp(SocketAddr),
    /// Unix socket, as `LocalBindSocketPath` and `LocalBindSocketMode` of an upstream.
    Unix {
        /// Path of the socket; an old socket file there is replaced.
        path: PathBuf,
        /// Permission bits, if not those of the umask.
        mode: Option<u32>,
    },
}

/// From where a listener may be called. Others are let go before they said anything.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Callers {
    /// From anywhere.
    #[default]
    Anywhere,
    /// From this machine: from loopback, from a unix socket, or from one of these addresses.
    Machine(Vec<IpAddr>),
}

impl Callers {
    /// Whether a client may connect; `None` is one without an address.
    pub fn admit(&self, client: Option<IpAddr>) -> bool {
        match (self, client.map(|client| client.to_canonical())) {
            (Self::Anywhere, _) | (_, None) => true,
            (Self::Machine(own), Some(client)) => client.is_loopback() || own.contains(&client),
        }
    }
}

/// Which way traffic flows, seen from the proxied service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// From the mesh to the local application.
    Inbound,
    /// From the local application into the mesh.
    Outbound,
    /// From outside into the cluster.
    Edge,
}

impl Direction {
    /// Value of the label `direction` in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Inbound => "inbound",
            Self::Outbound => "outbound",
            Self::Edge => "edge",
        }
    }
}

/// What protects a listener's bytes.
#[derive(Debug, Clone, PartialEq)]
pub enum Security {
    /// Nothing: plain TCP.
    Plain,
    /// Consul Connect's mutual TLS: own leaf presented to everyone, a client
    /// certificate of one of our roots required.
    Mesh {
        /// Identity to present, and whose roots verify clients.
        identity: IdentityName,
        /// Protocols offered by ALPN, most wanted first; a client without ALPN is served too.
        alpn: Vec<Alpn>,
        /// Versions and suites that are spoken.
        terms: TlsTerms,
    },
    /// Ordinary server TLS, certificate chosen by SNI.
    Edge(EdgeTls),
}

/// Server TLS at the edge.
#[derive(Debug, Clone, PartialEq)]
pub struct EdgeTls {
    /// Certificates; the first whose names cover the SNI is presented, and the
    /// first of all to a client without SNI.
    pub certificates: Vec<Arc<ServerCertificate>>,
    /// Versions and suites that are spoken.
    pub terms: TlsTerms,
    /// Protocols offered by ALPN, most wanted first.
    pub alpn: Vec<Alpn>,
}

/// A certificate chain with its key, for named hosts.
#[derive(Debug, Clone, PartialEq)]
pub struct ServerCertificate {
    /// Name in logs and metrics: the file it came from, or the entry.
    pub name: Arc<str>,
    /// Names it is presented for, `*.` for any labels.
    pub hosts: Vec<String>,
    /// Leaf first, DER.
    pub chain: Vec<Arc<[u8]>>,
    /// Key of the leaf.
    pub key: crate::PrivateKey,
}

/// Protocol names of ALPN.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Alpn {
    /// `http/1.1`.
    Http1,
    /// `h2`.
    H2,
}

/// What is done with a listener's connections.
#[derive(Debug, Clone, PartialEq)]
pub enum Service {
    /// HTTP/1.1 and HTTP/2, routed request by request.
    Http(Arc<HttpService>),
    /// Bytes, routed connection by connection.
    Tcp(Arc<TcpService>),
    /// Chosen by the name in each client's handshake. The listener's own security is
    /// [`Security::Plain`]: what is chosen has its own.
    BySni(Arc<SniService>),
}

/// Settings of an HTTP listener.
#[derive(Debug, Clone, PartialEq)]
pub struct HttpService {
    /// Where requests go.
    pub routes: Arc<RouteTable>,
    /// Who may call; `None` where everyone may.
    pub authorization: Option<Arc<Authorization>>,
    /// What happens to `x-forwarded-client-cert`.
    pub client_certificate: ClientCertificateHeader,
    /// Whether clients are strangers, whose identity headers are removed.
    pub trust: ClientTrust,
    /// How the path is brought into its normal form before anything matches on it.
    pub normalization: PathNormalization,
    /// What else is asked of each request.
    pub filters: HttpFilters,
}

/// What is asked of a request beside routes and intentions.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct HttpFilters {
    /// Limits on their rate; each one must let a request pass.
    pub rates: Vec<RateLimit>,
    /// Services that are asked in turn; each one must let a request pass.
    pub checks: Vec<Arc<ExternalAuthorization>>,
    /// Collectors that are told of each request.
    pub logs: Vec<Arc<LogExport>>,
}

/// Settings of a TCP listener.
#[derive(Debug, Clone, PartialEq)]
pub struct TcpService {
    /// Clusters and their weights; one is drawn for each connection.
    pub clusters: Vec<(ClusterName, u32)>,
    /// Who may connect; `None` where everyone may.
    pub authorization: Option<Arc<Authorization>>,
    /// Closes a connection on which no byte moved for this long.
    pub idle_timeout: Option<Duration>,
    /// Services that are asked in turn about a connection; each one must let it pass.
    pub checks: Vec<Arc<ExternalAuthorization>>,
}

/// What happens to `x-forwarded-client-cert` (Envoy's `forward_client_cert_details`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientCertificateHeader {
    /// Removed. Envoy's default, and what Consul sends for outbound listeners.
    Sanitize,
    /// Kept, and our own element (By, Hash, Cert, Chain, Subject, URI) added at the end,
    /// as Consul configures inbound HTTP listeners.
    AppendForward,
}

/// Whether a listener's clients are part of the mesh.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientTrust {
    /// Strangers: forwarding and identity headers are removed and rebuilt.
    Edge,
    /// Strangers at one of Consul's own gateways. They are trusted as little, and read the answers
    /// that Envoy would give in its place.
    ConsulEdge,
    /// Our own application, or a proved mesh peer: headers pass.
    Mesh,
}

impl ClientTrust {
    /// Whether clients are strangers.
    pub fn is_edge(self) -> bool {
        matches!(self, Self::Edge | Self::ConsulEdge)
    }

    /// Whether errors are told in Envoy's words, because a proxy of ours stands in the place of
    /// one that Consul itself configures.
    pub fn reads_envoy(self) -> bool {
        matches!(self, Self::ConsulEdge | Self::Mesh)
    }
}

/// How requests are brought into one form (`mesh` entry, `HTTP.Incoming.RequestNormalization`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PathNormalization {
    /// RFC 3986 dot segments, `\` as `/`, unreserved characters decoded.
    pub enabled: bool,
    /// `//` becomes `/`.
    pub merge_slashes: bool,
    /// What is done about `%2F` and `%5C`.
    pub escaped_slashes: EscapedSlashes,
    /// What is done about header names with `_`.
    pub underscores: HeaderUnderscores,
}

impl PathNormalization {
    /// At the edge everything is on: authorization must see what the application sees.
    pub const EDGE: Self = Self {
        enabled: true,
        merge_slashes: true,
        escaped_slashes: EscapedSlashes::Reject,
        underscores: HeaderUnderscores::Allow,
    };

    /// What Consul configures for inbound mesh listeners by default.
    pub const MESH_INBOUND: Self = Self {
        enabled: true,
        merge_slashes: false,
        escaped_slashes: EscapedSlashes::Keep,
        underscores: HeaderUnderscores::Allow,
    };

    /// The local application's own request: forwarded as written.
    pub const NONE: Self = Self {
        enabled: false,
        merge_slashes: false,
        escaped_slashes: EscapedSlashes::Keep,
        underscores: HeaderUnderscores::Allow,
    };
}

/// `PathWithEscapedSlashesAction` of the `mesh` entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EscapedSlashes {
    /// `KEEP_UNCHANGED`.
    Keep,
    /// `REJECT_REQUEST`: 400.
    Reject,
    /// `UNESCAPE_AND_REDIRECT`: 307 to the unescaped path.
    UnescapeAndRedirect,
    /// `UNESCAPE_AND_FORWARD`.
    UnescapeAndForward,
}

/// `HeadersWithUnderscoresAction` of the `mesh` entry. Applications that read headers from
/// variables, as CGI does, take `_` for `-`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeaderUnderscores {
    /// `ALLOW`.
    Allow,
    /// `REJECT_REQUEST`: 400.
    Reject,
    /// `DROP_HEADER`: the header is taken away before anything looks at it.
    Drop,
}

/// Caps on what one listener's clients may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// Open connections; one more is closed at once and counted.
    pub connections: u32,
    /// Bytes of a request's head. Envoy's default is 60 KiB.
    pub head_bytes: u32,
    /// Header lines of a request.
    pub headers: u16,
    /// Concurrent streams of one HTTP/2 connection.
    pub streams: u32,
}

impl Default for ConnectionLimits {
    /// Connections: what 4 GiB hold at 64 KiB each. Head: Envoy's 60 KiB, 100
    /// lines. Streams: 100, the least that RFC 9113 recommends.
    fn default() -> Self {
        Self {
            connections: 65_536,
            head_bytes: 60 * 1024,
            headers: 100,
            streams: 100,
        }
    }
}

/// How long a client may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectionDeadlines {
    /// From accept to the first byte, and to the end of the HTTP/2 preface.
    pub first_byte: Duration,
    /// From accept to the end of the TLS handshake.
    pub handshake: Duration,
    /// From a request's first byte to the end of its head.
    pub request_head: Duration,
    /// Between two requests of a kept-alive connection.
    pub idle: Duration,
    /// Between two reads of a request's body, or writes of a response's.
    pub stall: Duration,
}

impl Default for ConnectionDeadlines {
    /// Ten seconds to say something sensible cuts slow-header attacks and
    /// spares slow phones; idle is Envoy's five minutes, as peers expect to
    /// reuse connections that long.
    fn default() -> Self {
        Self {
            first_byte: Duration::from_secs(10),
            handshake: Duration::from_secs(10),
            request_head: Duration::from_secs(10),
            idle: Duration::from_secs(300),
            stall: Duration::from_secs(60),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machines_own_callers_are_told_from_others() {
        let ip = |text: &str| Some(text.parse().unwrap());
        let machine = Callers::Machine(vec!["10.0.0.1".parse().unwrap()]);
        for own in [
            ip("127.0.0.9"),
            ip("::1"),
            ip("10.0.0.1"),
            ip("::ffff:10.0.0.1"),
            None,
        ] {
            assert!(machine.admit(own), "{own:?}");
        }
        for other in [ip("10.0.0.2"), ip("fd00::1")] {
            assert!(!machine.admit(other), "{other:?}");
            assert!(Callers::Anywhere.admit(other));
        }
    }
}
