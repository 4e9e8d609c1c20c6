//! What upstream connections present to the mesh, and whom they expect there.

use super::certificate;
use super::failure::IdentityError;
use super::signature;
use super::terms::offered;
use super::{TlsError, alpn_names, certificates, private_key, provider, resumption, root_store};
use meridian_model::cluster::MeshTransport;
use meridian_model::listener::Alpn;
use meridian_model::{Identity, SpiffeId, TrustDomain};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use std::fmt;
use std::sync::Arc;

/// Mutual TLS to a mesh service: our leaf is presented, and the peer must chain
/// to a root of the target's trust domain and be exactly one of the expected.
///
/// # Errors
/// When chain or key are unusable, there are no roots of the trust domain, or the terms leave
/// nothing to offer.
pub fn mesh_client_config(
    identity: &Identity,
    transport: &MeshTransport,
    alpn: Option<Alpn>,
) -> Result<Arc<ClientConfig>, TlsError> {
    if transport.terms.is_nothing() {
        return Err(TlsError::NothingSpoken);
    }
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
    let (suites, versions) = offered(&transport.terms);
    let mut config = ClientConfig::builder_with_provider(suites)
        .with_protocol_versions(versions)
        .map_err(TlsError::Versions)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Verifier(verifier)))
        .with_client_auth_cert(
            certificates(&identity.chain),
            private_key(owner, &identity.key)?,
        )
        .map_err(TlsError::certificate(owner))?;
    config.alpn_protocols = alpn_names(&alpn);
    resumption::accept(&mut config);
    Ok(Arc::new(config))
}

pub(super) static VERSIONS: &[&rustls::SupportedProtocolVersion] =
    &[&rustls::version::TLS13, &rustls::version::TLS12];

/// Verifies one mesh target: its chain without a host name, then its one URI.
#[derive(Debug)]
struct MeshServer {
    roots: RootCertStore,
    domain: TrustDomain,
    expected: Vec<SpiffeId>,
}

impl Judge for MeshServer {
    fn judge(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        now: UnixTime,
    ) -> Result<(), rustls::Error> {
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
        Ok(())
    }
}

/// Whether a server's certificate is believed.
pub(super) trait Judge: fmt::Debug + Send + Sync {
    fn judge(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        now: UnixTime,
    ) -> Result<(), rustls::Error>;
}

/// A judge, with what rustls wants of a verifier beside the verdict.
#[derive(Debug)]
pub(super) struct Verifier<J>(pub(super) J);

impl<J: Judge> ServerCertVerifier for Verifier<J> {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.0.judge(leaf, intermediates, name, now)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        signature::tls12(message, leaf, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        signature::tls13(message, leaf, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        signature::schemes()
    }
}
