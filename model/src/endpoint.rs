//! Endpoints: addresses that take connections.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

/// One instance of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Where to connect.
    pub address: EndpointAddress,
    /// Share relative to its siblings, 1 to 128 (Envoy's cap); 0 never stands here.
    pub weight: u32,
    /// What its checks say.
    pub health: Health,
    /// The instance's ID in its registry, for logs and `/snapshot`.
    pub instance: Arc<str>,
}

/// What an instance's checks say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// May be used.
    Healthy,
    /// May not.
    Unhealthy,
}

/// Where to connect.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum EndpointAddress {
    /// TCP.
    Tcp(SocketAddr),
    /// Unix socket (`LocalServiceSocketPath`).
    Unix(PathBuf),
}

impl fmt::Display for EndpointAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}
