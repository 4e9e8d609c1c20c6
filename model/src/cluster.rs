//! Clusters: groups of endpoints that answer for one name.

use crate::identity::{PrivateKey, SpiffeId, TrustDomain};
use crate::policy::{CircuitLimits, LoadBalancing, OutlierPolicy};
use crate::{ClusterName, Endpoint, IdentityName, TlsTerms};
use std::sync::Arc;
use std::time::Duration;

/// Where a route sends requests.
#[derive(Debug, Clone, PartialEq)]
pub struct Cluster {
    /// Unique name; the label `cluster` of metrics.
    pub name: ClusterName,
    /// What the endpoints speak.
    pub protocol: UpstreamProtocol,
    /// Failover order: the first target with a healthy endpoint is used.
    /// Never empty in a well-formed snapshot; an empty list answers 503.
    pub targets: Vec<Arc<Target>>,
    /// How an endpoint of a target is chosen.
    pub balancing: LoadBalancing,
    /// TCP connect and TLS handshake together. Consul's default is 5 s.
    pub connect_timeout: Duration,
    /// How long an unused connection is kept.
    pub idle_timeout: Duration,
    /// Caps on connections and requests.
    pub limits: CircuitLimits,
    /// Passive health checking; `None` never ejects.
    pub outlier: Option<OutlierPolicy>,
    /// With a smaller share of healthy endpoints in a target, in percent, health is ignored there
    /// and all are used. 0 never does: in the mesh an unhealthy endpoint is not asked.
    pub panic_percent: u8,
}

impl Cluster {
    /// A cluster with Consul's defaults.
    pub fn new(name: ClusterName, protocol: UpstreamProtocol, targets: Vec<Arc<Target>>) -> Self {
        Self {
            name,
            protocol,
            targets,
            balancing: LoadBalancing::default(),
            connect_timeout: DEFAULT_CONNECT_TIMEOUT,
            idle_timeout: DEFAULT_POOL_IDLE,
            limits: CircuitLimits::default(),
            outlier: None,
            panic_percent: 0,
        }
    }
}

/// Consul's `ConnectTimeout` (discovery chain, section "Resolver").
pub const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Shorter than common servers' keep-alive (nginx 75 s, Node 5 s is the odd
/// one and is caught by the retry of a lost race), so that we close first.
pub const DEFAULT_POOL_IDLE: Duration = Duration::from_secs(60);

/// What endpoints speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum UpstreamProtocol {
    /// Bytes.
    Tcp,
    /// HTTP/1.1.
    Http1,
    /// HTTP/2: ALPN `h2` under TLS, prior knowledge without.
    Http2,
}

/// One place of a cluster's failover order: endpoints that share an identity.
#[derive(Debug, Clone, PartialEq)]
pub struct Target {
    /// ID of the discovery chain's target, or the backend's name.
    pub name: Arc<str>,
    /// How to reach the endpoints safely.
    pub transport: Transport,
    /// The endpoints, healthy or not.
    pub endpoints: Arc<[Endpoint]>,
}

/// How bytes to an endpoint are protected.
#[derive(Debug, Clone, PartialEq)]
pub enum Transport {
    /// Not at all.
    Plain,
    /// Consul Connect's mutual TLS.
    Mesh(MeshTransport),
    /// TLS as it is spoken outside the mesh.
    Tls(TlsTransport),
}

/// Mutual TLS to a mesh service.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct MeshTransport {
    /// Identity whose leaf is presented.
    pub identity: IdentityName,
    /// Trust domain whose roots verify the peer's chain.
    pub trust_domain: TrustDomain,
    /// SNI on the wire: `SNI` of the chain's target.
    pub sni: Arc<str>,
    /// The peer must be exactly one of these. Empty refuses everyone.
    pub expected: Vec<SpiffeId>,
    /// Versions and suites that are offered.
    pub terms: TlsTerms,
}

/// TLS to a service outside the mesh.
#[derive(Debug, Clone, PartialEq)]
pub struct TlsTransport {
    /// SNI on the wire, and the name that the certificate must cover. `None` sends none and takes
    /// every certificate that chains to `roots`.
    pub server_name: Option<Arc<str>>,
    /// DER roots to trust; empty for those of the system, which need a `server_name`.
    pub roots: Vec<Arc<[u8]>>,
    /// Presented to a server that asks for one.
    pub certificate: Option<ClientCertificate>,
}

/// A certificate to present to servers outside the mesh.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientCertificate {
    /// Leaf first, then intermediates; DER.
    pub chain: Vec<Arc<[u8]>>,
    /// Key of the leaf.
    pub key: PrivateKey,
}
