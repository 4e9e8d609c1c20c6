//! How connections to one target are protected, made ready once.
//!
//! A profile is built when an identity, a target or a protocol changes, never
//! per connection. Its number is the heart of the pool's key: a new leaf, other
//! roots, other expected names or another ALPN are a new profile.

use meridian_model::UpstreamProtocol;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Protection and protocol of connections to one target.
#[derive(Debug)]
pub(crate) struct TransportProfile {
    id: u64,
    protocol: UpstreamProtocol,
    security: Security,
    retired: AtomicBool,
}

/// What protects the bytes.
#[derive(Debug)]
pub(crate) enum Security {
    /// Nothing.
    Plain,
    /// TLS; the verifier inside `config` knows whom to expect.
    Tls {
        /// Certificate to present, verifier, ALPN.
        config: Arc<ClientConfig>,
        /// SNI on the wire.
        server_name: ServerName<'static>,
    },
    /// The target cannot be reached safely, for this reason.
    Unusable(String),
}

impl TransportProfile {
    /// Numbers are never used twice, so a pooled connection can't be taken for another's.
    pub(crate) fn new(protocol: UpstreamProtocol, security: Security) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            protocol,
            security,
            retired: AtomicBool::new(false),
        }
    }

    /// Unique among all profiles of the process.
    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    /// What is spoken over connections.
    pub(crate) fn protocol(&self) -> UpstreamProtocol {
        self.protocol
    }

    /// What protects them.
    pub(crate) fn security(&self) -> &Security {
        &self.security
    }

    /// Whether connections begin with a handshake.
    pub(crate) fn is_tls(&self) -> bool {
        matches!(self.security, Security::Tls { .. })
    }

    /// Called when a newer profile took its place: idle connections are given up.
    pub(crate) fn retire(&self) {
        self.retired.store(true, Ordering::Relaxed);
    }

    /// Whether a newer profile took its place.
    pub(crate) fn is_retired(&self) -> bool {
        self.retired.load(Ordering::Relaxed)
    }
}
