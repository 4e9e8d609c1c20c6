//! TLS to services outside the mesh: ordinary roots, a host name where there is one to be held
//! to, and a certificate of ours where the service asks for one.

use super::certificate;
use super::client::{Judge, VERSIONS, Verifier};
use super::{TlsError, alpn_names, certificates, private_key, provider, root_store};
use meridian_model::cluster::TlsTransport;
use meridian_model::listener::Alpn;
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::ring::sign::any_supported_type;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, RootCertStore};
use std::sync::{Arc, OnceLock};

/// TLS to a service outside the mesh, verified by its roots and by host name.
///
/// # Errors
/// When a given root or certificate is unusable; when no root is given and the system has none,
/// or there is no name that would tell one of the system's many servers from another.
pub fn tls_client_config(
    transport: &TlsTransport,
    alpn: Option<Alpn>,
) -> Result<Arc<ClientConfig>, TlsError> {
    let owner = transport.server_name.as_deref().unwrap_or("the service");
    let builder = ClientConfig::builder_with_provider(Arc::clone(provider()))
        .with_protocol_versions(VERSIONS)
        .map_err(TlsError::Versions)?;
    let builder = match (&transport.server_name, transport.roots.is_empty()) {
        (None, true) => return Err(TlsError::NoServerName),
        (Some(_), true) => builder.with_root_certificates(system_roots()?),
        (name, false) => {
            let server = OutsideServer {
                roots: root_store(owner, &transport.roots)?,
                trusted: certificates(&transport.roots),
                named: name.is_some(),
            };
            builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(Verifier(server)))
        }
    };
    let mut config = match &transport.certificate {
        None => builder.with_no_client_auth(),
        Some(ours) => {
            let key = private_key(owner, &ours.key)?;
            let key = any_supported_type(&key).map_err(TlsError::certificate(owner))?;
            // Not read by rustls, which takes no certificate of version 1: whether it will do is
            // the server's business.
            let ours = CertifiedKey::new(certificates(&ours.chain), key);
            builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(ours)))
        }
    };
    config.enable_sni = transport.server_name.is_some();
    config.alpn_protocols = alpn_names(&alpn);
    Ok(Arc::new(config))
}

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

/// Verifies a server by roots that were given for it.
#[derive(Debug)]
struct OutsideServer {
    roots: RootCertStore,
    /// The same, as certificates that a server may present itself.
    trusted: Vec<CertificateDer<'static>>,
    /// Whether its certificate must cover the name that is asked for.
    named: bool,
}

impl Judge for OutsideServer {
    fn judge(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        now: UnixTime,
    ) -> Result<(), rustls::Error> {
        let parsed = ParsedCertificate::try_from(leaf)?;
        // A server often presents the very certificate that was given as its authority. Made by
        // `openssl req -x509` it says that it may sign, for which webpki refuses it as a leaf.
        if self.trusted.contains(leaf) {
            certificate::check_period(leaf, now)?;
        } else {
            verify_server_cert_signed_by_trust_anchor(
                &parsed,
                &self.roots,
                intermediates,
                now,
                provider().signature_verification_algorithms.all,
            )?;
        }
        if self.named {
            verify_server_name(&parsed, name)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
