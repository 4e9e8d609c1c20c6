//! How connections to one target are protected, made ready once.
//!
//! A profile is built when an identity, a target or a protocol changes, never
//! per connection. Its lineage is the heart of the pool's key: another identity,
//! other expected names, roots that went away or another ALPN begin a new one.
//! A renewed leaf of the same identity does not: the connections made with the
//! leaf before are as good as they were, and are replaced over the next minute
//! instead of all at once.

use meridian_model::UpstreamProtocol;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

/// How long connections made with a leaf are used after it was renewed. A
/// renewal comes long before the old leaf expires (Consul: at 60 % of its life,
/// at the shortest 24 minutes before), so no connection outlives its leaf.
const HANDOVER: Duration = Duration::from_secs(60);

/// Protection and protocol of connections to one target.
#[derive(Debug)]
pub(crate) struct TransportProfile {
    lineage: u64,
    protocol: UpstreamProtocol,
    security: Security,
    fate: OnceLock<Fate>,
}

/// What became of a profile that is not the newest.
#[derive(Debug, Clone, Copy)]
enum Fate {
    /// A newer one of the same lineage took its place, then.
    Renewed(Instant),
    /// Nothing of it may be used any more.
    Retired,
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
    /// Begins a lineage. Numbers are never used twice, so a pooled connection
    /// can't be taken for another's.
    pub(crate) fn new(protocol: UpstreamProtocol, security: Security) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self {
            lineage: NEXT.fetch_add(1, Ordering::Relaxed),
            protocol,
            security,
            fate: OnceLock::new(),
        }
    }

    /// The same target under a renewed leaf: connections of `self` are used on
    /// for a while.
    pub(crate) fn renewed(&self, security: Security, now: Instant) -> Self {
        // A profile is renewed or retired once; a second word changes nothing.
        let _ = self.fate.set(Fate::Renewed(now));
        Self {
            lineage: self.lineage,
            protocol: self.protocol,
            security,
            fate: OnceLock::new(),
        }
    }

    /// What connections must have in common to stand in for each other.
    pub(crate) fn lineage(&self) -> u64 {
        self.lineage
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

    /// Nothing of it may be used any more: idle connections are given up.
    pub(crate) fn retire(&self) {
        // See `renewed`: after a renewal the newest of the lineage is retired,
        // and the others run out.
        let _ = self.fate.set(Fate::Retired);
    }

    /// Whether a connection made with it may carry another request. `share`
    /// between 0 and 1 spreads the connections over the handover.
    pub(crate) fn may_carry(&self, share: f32, now: Instant) -> bool {
        match self.fate.get() {
            None => true,
            Some(Fate::Retired) => false,
            Some(Fate::Renewed(at)) => now.saturating_duration_since(*at) < HANDOVER.mul_f32(share),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_outlive_a_renewal_for_their_share_of_the_handover() {
        let now = Instant::now();
        let old = TransportProfile::new(UpstreamProtocol::Http1, Security::Plain);
        let new = old.renewed(Security::Plain, now);
        assert_eq!(old.lineage(), new.lineage());
        assert!(old.may_carry(0.5, now + HANDOVER / 4));
        assert!(!old.may_carry(0.5, now + HANDOVER));
        assert!(new.may_carry(0.5, now + HANDOVER));
    }

    #[test]
    fn nothing_outlives_a_retirement() {
        let old = TransportProfile::new(UpstreamProtocol::Http1, Security::Plain);
        old.retire();
        assert!(!old.may_carry(1.0, Instant::now()));
        let other = TransportProfile::new(UpstreamProtocol::Http1, Security::Plain);
        assert_ne!(old.lineage(), other.lineage());
    }
}
