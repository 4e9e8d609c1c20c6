//! Choosing by SNI: what gateways of a mesh do with connections, told by the first message of
//! their handshake.

use crate::listener::{Alpn, HttpService, TcpService};
use crate::{ClusterName, IdentityName, TlsTerms};
use std::sync::Arc;
use std::time::Duration;

/// A listener that reads the name out of each client's handshake and then passes the bytes on
/// or ends the handshake itself. A connection with another name, or none, is reset.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SniService {
    /// What is known. Of two chains with one name, the first is used.
    pub chains: Vec<SniChain>,
}

/// What is done with connections for some names.
#[derive(Debug, Clone, PartialEq)]
pub struct SniChain {
    /// The names. An exact one wins over suffixes, a longer suffix over a shorter one.
    pub names: Vec<SniName>,
    /// What is done.
    pub action: SniAction,
}

/// A name, or many, in lower case.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum SniName {
    /// This one.
    Exact(String),
    /// All that end so and have something before it; written with its leading dot.
    Suffix(String),
}

/// What is done with a connection.
#[derive(Debug, Clone, PartialEq)]
pub enum SniAction {
    /// Its bytes go to an endpoint as they come: the handshake is between client and endpoint.
    Passthrough {
        /// Where to.
        cluster: ClusterName,
        /// Closes a connection on which no byte moved for this long.
        idle_timeout: Option<Duration>,
    },
    /// Consul Connect's mutual TLS ends here.
    Terminate {
        /// Identity to present, and whose roots verify clients.
        identity: IdentityName,
        /// Protocols offered by ALPN, most wanted first.
        alpn: Vec<Alpn>,
        /// Versions and suites that are spoken.
        terms: TlsTerms,
        /// What is done with what was inside.
        service: TerminatedService,
    },
}

/// What is done behind the handshake.
#[derive(Debug, Clone, PartialEq)]
pub enum TerminatedService {
    /// As [`Service::Http`](crate::Service::Http).
    Http(Arc<HttpService>),
    /// As [`Service::Tcp`](crate::Service::Tcp).
    Tcp(Arc<TcpService>),
}
