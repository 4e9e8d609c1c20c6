//! What can be asked: of Consul, of this machine, of DNS.

use crate::dns::Name;
use crate::jwks::KeyOrigin;
use std::path::PathBuf;
use std::time::Duration;

/// One thing that can be asked of Consul and followed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Topic {
    /// The proxy's own registration, by ID.
    Registration(String),
    /// Roots of the CA.
    Roots,
    /// A service's leaf.
    Leaf(String),
    /// Intentions whose destination is this service.
    Intentions(String),
    /// The agent's settings, for the default intention policy.
    Agent,
    /// The `mesh` entry.
    Mesh,
    /// A compiled discovery chain.
    Chain(ChainQuery),
    /// Instances of a service.
    Instances(InstancesQuery),
    /// What a prepared query finds.
    Prepared(PreparedQuery),
    /// Checks of a service instance beside this agent, by the instance's ID.
    Checks(String),
    /// A configuration entry, by kind and name.
    Entry(&'static str, String),
    /// Services behind a gateway, by the gateway's name.
    GatewayServices(String),
    /// The certificate with DNS names of an ingress gateway, by the ID of its registration.
    GatewayCertificate(String),
    /// Ordinary services of the datacenter, by name.
    Services,
    /// Names of the mesh gateways of a datacenter, as its catalog has them.
    GatewayNames(String),
    /// Mesh gateways of all datacenters, as federation states have them.
    FederationStates,
    /// All datacenters.
    Datacenters,
    /// All `service-resolver` entries.
    Resolvers,
    /// A file on this machine.
    File(PathBuf),
    /// A name in DNS.
    Addresses(Name),
    /// A `jwt-provider` entry, by name.
    JwtProvider(String),
    /// Keys of such a provider.
    Keys(KeyOrigin),
    /// Whether the token is good. Nothing is learned from it but that.
    Token,
}

impl Topic {
    /// Name in metrics: one of a fixed list.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Registration(_) => "registration",
            Self::Roots => "roots",
            Self::Leaf(_) => "leaf",
            Self::Intentions(_) => "intentions",
            Self::Agent => "agent",
            Self::Mesh => "mesh",
            Self::Chain(_) => "chain",
            Self::Instances(_) => "health",
            Self::Prepared(_) => "prepared_query",
            Self::Checks(_) => "checks",
            Self::Entry(..) => "config_entry",
            Self::GatewayServices(_) => "gateway_services",
            Self::GatewayCertificate(_) => "gateway_certificate",
            Self::Services => "services",
            Self::GatewayNames(_) => "mesh_gateways",
            Self::FederationStates => "federation_states",
            Self::Datacenters => "datacenters",
            Self::Resolvers => "resolvers",
            Self::File(_) => "file",
            Self::Addresses(_) => "dns",
            Self::JwtProvider(_) => "jwt_provider",
            Self::Keys(_) => "jwks",
            Self::Token => "token",
        }
    }
}

/// What a discovery chain is compiled for.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ChainQuery {
    pub(crate) service: String,
    pub(crate) datacenter: Option<String>,
    pub(crate) namespace: Option<String>,
    pub(crate) partition: Option<String>,
    /// `connect_timeout_ms` of the upstream.
    pub(crate) connect_timeout: Option<Duration>,
    /// `protocol` of the upstream.
    pub(crate) protocol: Option<String>,
    /// `MeshGateway.Mode` of the upstream.
    pub(crate) mesh_gateway: Option<String>,
}

/// Which instances are asked for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct InstancesQuery {
    pub(crate) service: String,
    /// Sidecars and native instances, or the service's own.
    pub(crate) mesh: bool,
    pub(crate) datacenter: Option<String>,
    pub(crate) namespace: Option<String>,
    pub(crate) partition: Option<String>,
    /// Expression evaluated by Consul (`Subset.Filter`).
    pub(crate) filter: Option<String>,
}

/// A prepared query.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct PreparedQuery {
    /// Its name or ID.
    pub(crate) name: String,
    /// Where it is executed; the proxy's own datacenter if not said.
    pub(crate) datacenter: Option<String>,
}
