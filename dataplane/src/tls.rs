//! TLS: one rustls, one crypto provider, and the verifiers that know SPIFFE.
//!
//! Configurations are built when a snapshot is, never per connection. Sessions of the mesh
//! resume under one configuration only, and not past the peer's certificate.
//!
//! | module | what |
//! |---|---|
//! | [`certificate`] | what a leaf says about its owner |
//! | [`server`] | what listeners present and whom they let in |
//! | [`client`] | what upstream connections present to the mesh and whom they expect there |
//! | [`outside`] | the same to services outside the mesh |
//! | [`peer`] | the proved other side of one connection |
//! | `resumption` | sessions of the mesh that go on where an earlier one left off |
//! | `sessions` | what a client keeps for that |
//! | `terms` | versions and suites that one side agrees to |
//! | [`failure`] | why a handshake came to nothing, for metric and log |

pub mod certificate;
pub mod client;
pub mod failure;
pub mod outside;
pub mod peer;
pub(crate) mod resumption;
pub mod server;
mod sessions;
mod signature;
mod terms;

#[cfg(test)]
pub(crate) mod authority;
#[cfg(test)]
mod tests;

pub use client::mesh_client_config;
pub use failure::{HandshakeError, HandshakeFailure};
pub use outside::tls_client_config;
pub use peer::PeerCertificate;
pub use server::{edge_server_config, mesh_server_config};

use meridian_model::listener::Alpn;
use rustls::CipherSuite;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::sync::{Arc, OnceLock};

/// Why a TLS configuration could not be built.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The key is no PKCS#8, SEC1 or PKCS#1 structure.
    #[error("private key of {owner} is unreadable: {reason}")]
    Key {
        /// Identity, or name of the certificate.
        owner: Arc<str>,
        /// What the parser said; it has no error type.
        reason: &'static str,
    },
    /// Chain and key do not make a certificate that rustls can present.
    #[error("certificate of {owner} cannot be presented")]
    Certificate {
        /// Identity, or name of the certificate.
        owner: Arc<str>,
        /// What rustls said.
        #[source]
        source: rustls::Error,
    },
    /// A trusted root is no certificate.
    #[error("root certificate of {owner} is unreadable")]
    Root {
        /// Trust domain, or server name.
        owner: Arc<str>,
        /// What rustls said.
        #[source]
        source: rustls::Error,
    },
    /// The verifier of client certificates could not be built.
    #[error("verifier of trust domain {domain} cannot be built")]
    Verifier {
        /// Trust domain.
        domain: Arc<str>,
        /// What rustls said.
        #[source]
        source: rustls::server::VerifierBuilderError,
    },
    /// There are no roots for the trust domain, so nobody could be believed.
    #[error("no roots of trust domain {domain}")]
    NoRoots {
        /// Trust domain.
        domain: Arc<str>,
    },
    /// A listener with TLS has no certificate.
    #[error("no certificate to present")]
    NoCertificate,
    /// The system has no trusted roots.
    #[error("the system's root certificates cannot be used: {reason}")]
    SystemRoots {
        /// All that went wrong while they were read.
        reason: String,
    },
    /// Any server with a certificate of the system's roots would do.
    #[error("no server name to verify, and no roots of the target's own")]
    NoServerName,
    /// The system gave no randomness for the key of session tickets.
    #[error("session tickets cannot be made")]
    Tickets(#[source] rustls::Error),
    /// The terms leave no version that we speak.
    #[error("no version of TLS is left that could be spoken")]
    NothingSpoken,
    /// The protocol versions do not fit the provider.
    #[error("TLS versions cannot be offered")]
    Versions(#[source] rustls::Error),
}

/// The one crypto provider, also installed as the process's default for
/// libraries that ask for it.
pub fn provider() -> &'static Arc<CryptoProvider> {
    static CHOSEN: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    CHOSEN.get_or_init(|| {
        let mut ours = rustls::crypto::ring::default_provider();
        // Clients ask for this one first, as BoringSSL does: processors have instructions for
        // SHA-256 and none for SHA-384, which a handshake's keys are derived with.
        let cheapest = CipherSuite::TLS13_AES_128_GCM_SHA256;
        ours.cipher_suites
            .sort_by_key(|suite| suite.suite() != cheapest);
        // It fails where a program installed one earlier; our configurations
        // name theirs and do not depend on the default.
        let _ = ours.clone().install_default();
        Arc::new(ours)
    })
}

impl TlsError {
    fn certificate(owner: &str) -> impl FnOnce(rustls::Error) -> Self {
        let owner = owner.into();
        move |source| Self::Certificate { owner, source }
    }
}

fn private_key(
    owner: &str,
    key: &meridian_model::PrivateKey,
) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::try_from(key.der())
        .map(|key| key.clone_key())
        .map_err(|reason| TlsError::Key {
            owner: owner.into(),
            reason,
        })
}

fn certificates(chain: &[Arc<[u8]>]) -> Vec<CertificateDer<'static>> {
    chain
        .iter()
        .map(|der| CertificateDer::from(der.to_vec()))
        .collect()
}

fn root_store(owner: &str, roots: &[Arc<[u8]>]) -> Result<rustls::RootCertStore, TlsError> {
    let mut store = rustls::RootCertStore::empty();
    for root in certificates(roots) {
        store.add(root).map_err(|source| TlsError::Root {
            owner: owner.into(),
            source,
        })?;
    }
    Ok(store)
}

fn alpn_names<'a>(alpn: impl IntoIterator<Item = &'a Alpn>) -> Vec<Vec<u8>> {
    let name = |alpn: &Alpn| match alpn {
        Alpn::Http1 => b"http/1.1".to_vec(),
        Alpn::H2 => b"h2".to_vec(),
    };
    alpn.into_iter().map(name).collect()
}
