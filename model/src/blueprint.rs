//! The blueprint: what is meant, before anything is discovered.
//!
//! A configuration file lowers into it. A source adds endpoints and identities
//! and makes a [`Snapshot`](crate::Snapshot) of it, again and again.

use crate::cluster::TlsTransport;
use crate::{Cluster, Endpoint, Listener};
use std::sync::Arc;
use std::time::Duration;

/// Listeners and the backends that their routes name.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Blueprint {
    /// Ports to open, with their routes.
    pub listeners: Vec<Arc<Listener>>,
    /// Every cluster that a route names.
    pub backends: Vec<Backend>,
}

/// A cluster whose targets are still to be found.
#[derive(Debug, Clone, PartialEq)]
pub struct Backend {
    /// Name, protocol and policies; its targets are empty and filled by discovery.
    pub cluster: Cluster,
    /// Where its endpoints come from.
    pub discovery: Discovery,
    /// Ordinary TLS to the endpoints. `None` for plain text; must be `None`
    /// where discovery goes through the mesh, which brings its own TLS.
    pub tls: Option<TlsTransport>,
}

/// Where endpoints come from.
#[derive(Debug, Clone, PartialEq)]
pub enum Discovery {
    /// They were written down.
    Static(Vec<Endpoint>),
    /// A host name, resolved again and again; every A and AAAA record is an endpoint.
    Dns {
        /// Name to resolve.
        host: String,
        /// Port of every endpoint.
        port: u16,
        /// Longest time between two look-ups; a shorter TTL wins.
        refresh: Duration,
    },
    /// Consul's catalog, without the mesh: instances are called in plain text
    /// or ordinary TLS.
    Consul(ConsulService),
    /// Consul's mesh: the service's discovery chain, sidecars, mutual TLS with
    /// the proxy's own identity.
    ConsulConnect(ConsulService),
}

/// A service in Consul.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ConsulService {
    /// Name.
    pub service: String,
    /// Datacenter, if not the agent's.
    pub datacenter: Option<String>,
    /// Namespace, if not the token's.
    pub namespace: Option<String>,
    /// Admin partition, if not the agent's.
    pub partition: Option<String>,
    /// Filter expression, evaluated by Consul over health entries.
    pub filter: Option<String>,
}
