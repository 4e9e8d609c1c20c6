//! What upstream connections present, and whom they expect at the other end.

use super::certificate;
use super::failure::IdentityError;
use super::{TlsError, alpn_names, certificates, private_key, provider, root_store};
use meridian_model::cluster::{MeshTransport, TlsTransport};
use meridian_model::listener::Alpn;
use meridian_model::{Identity, SpiffeId, TrustDomain};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, verify_server_cert_signed_by_trust_anchor};
use rustls::crypto::{verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use std::sync::{Arc, OnceLock};

/// Mutual TLS to a mesh service: our leaf is presented, and the peer must chain
/// to a root of the target's trust domain and be exactly one of the expected.
///
/// # Errors
/// When chain or key are unusable, or there are no roots of the trust domain.
pub fn mesh_client_config(
    identity: &Identity,
    transport: &MeshTransport,
    alpn: Option<Alpn>,
) -> Result<Arc<ClientConfig>, TlsError> {
    let owner = identity.name.as_str();
    let domain = &transport.trust_domain;
    let roots = identity
        .trust
        .roots
        .get(domain)
        .filter(|roots| !roots.is_empty())
        .ok_or_else(|| TlsError::NoRoots {
            domain: domain.as_str().into(),
        })?;
    let verifier = MeshServer {
        roots: root_store(domain.as_str(), roots)?,
        domain: domain.clone(),
        expected: transport.expected.clone(),
    };
    let mut config = ClientConfig::builder_with_provider(Arc::clone(provider()))
        .with_protocol_versions(VERSIONS)
        .map_err(TlsError::Versions)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_client_auth_cert(
            certificates(&identity.chain),
            private_key(owner, &identity.key)?,
        )
        .map_err(TlsError::certificate(owner))?;
    config.alpn_protocols = alpn_names(&alpn);
    // A resumed session would skip the verifier.
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

/// TLS to a service outside the mesh, verified by host name.
///
/// # Errors
/// When a given root is unusable, or none is given and the system has none.
pub fn tls_client_config(
    transport: &TlsTransport,
    alpn: Option<Alpn>,
) -> Result<Arc<ClientConfig>, TlsError> {
    let roots = if transport.roots.is_empty() {
        system_roots()?
    } else {
        Arc::new(root_store(&transport.server_name, &transport.roots)?)
    };
    let mut config = ClientConfig::builder_with_provider(Arc::clone(provider()))
        .with_protocol_versions(VERSIONS)
        .map_err(TlsError::Versions)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = alpn_names(&alpn);
    Ok(Arc::new(config))
}

static VERSIONS: &[&rustls::SupportedProtocolVersion] =
    &[&rustls::version::TLS13, &rustls::version::TLS12];

/// The system's roots, read at the first use: 5 ms and a megabyte that a
/// sidecar without such upstreams never spends.
fn system_roots() -> Result<Arc<RootCertStore>, TlsError> {
    static ROOTS: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    if let Some(roots) = ROOTS.get() {
        return Ok(Arc::clone(roots));
    }
    let found = rustls_native_certs::load_native_certs();
    let mut store = RootCertStore::empty();
    // Systems carry a few roots that webpki cannot read; the others count.
    store.add_parsable_certificates(found.certs);
    if store.is_empty() {
        let reasons: Vec<_> = found.errors.iter().map(ToString::to_string).collect();
        return Err(TlsError::SystemRoots {
            reason: if reasons.is_empty() {
                "none found".to_owned()
            } else {
                reasons.join("; ")
            },
        });
    }
    Ok(Arc::clone(ROOTS.get_or_init(|| Arc::new(store))))
}

/// Verifies one mesh target: its chain without a host name, then its one URI.
#[derive(Debug)]
struct MeshServer {
    roots: RootCertStore,
    domain: TrustDomain,
    expected: Vec<SpiffeId>,
}

impl ServerCertVerifier for MeshServer {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let peer = certificate::spiffe_id(leaf).map_err(IdentityError::from)?;
        if *peer.trust_domain() != self.domain {
            return Err(IdentityError::UnknownTrustDomain(peer).into());
        }
        verify_server_cert_signed_by_trust_anchor(
            &ParsedCertificate::try_from(leaf)?,
            &self.roots,
            intermediates,
            now,
            provider().signature_verification_algorithms.all,
        )?;
        if !self.expected.contains(&peer) {
            return Err(IdentityError::WrongIdentity(peer).into());
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &provider().signature_verification_algorithms;
        verify_tls12_signature(message, leaf, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &provider().signature_verification_algorithms;
        verify_tls13_signature(message, leaf, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}
