//! What listeners present, and whom they let in.

use super::certificate;
use super::failure::IdentityError;
use super::signature;
use super::terms::offered;
use super::{TlsError, alpn_names, certificates, private_key, provider, resumption, root_store};
use meridian_model::listener::{Alpn, EdgeTls, ServerCertificate};
use meridian_model::{Identity, TlsTerms, TrustBundle, TrustDomain};
use rustls::client::danger::HandshakeSignatureValid;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{DigitallySignedStruct, DistinguishedName, ServerConfig, SignatureScheme};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// Consul Connect's mutual TLS: the leaf is presented to everyone, and a
/// certificate of one SPIFFE identity under our roots is required of everyone.
/// Whether that identity may call is the authorizer's business. Terms that leave nothing to speak
/// make a configuration under which every handshake fails.
///
/// # Errors
/// When chain, key or roots are unusable.
pub fn mesh_server_config(
    identity: &Identity,
    alpn: &[Alpn],
    terms: &TlsTerms,
) -> Result<Arc<ServerConfig>, TlsError> {
    if terms.is_nothing() {
        return refusing_everyone();
    }
    let owner = identity.name.as_str();
    let (suites, versions) = offered(terms);
    let mut config = ServerConfig::builder_with_provider(suites)
        .with_protocol_versions(versions)
        .map_err(TlsError::Versions)?
        .with_client_cert_verifier(Arc::new(MeshClients::new(&identity.trust)?))
        .with_single_cert(
            certificates(&identity.chain),
            private_key(owner, &identity.key)?,
        )
        .map_err(TlsError::certificate(owner))?;
    config.alpn_protocols = alpn_names(alpn);
    resumption::offer(&mut config)?;
    Ok(Arc::new(config))
}

/// A configuration that has no certificate for anybody: an error here would leave the listener's
/// last version in place, which speaks what the operator has just forbidden.
fn refusing_everyone() -> Result<Arc<ServerConfig>, TlsError> {
    let config = ServerConfig::builder_with_provider(Arc::clone(provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(TlsError::Versions)?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(NoCertificate));
    Ok(Arc::new(config))
}

#[derive(Debug)]
struct NoCertificate;

impl ResolvesServerCert for NoCertificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        None
    }
}

/// Ordinary server TLS, the certificate chosen by SNI. Sessions resume, as no
/// identity hangs on them. Terms that leave nothing to speak make a
/// configuration under which every handshake fails.
///
/// # Errors
/// When there is no certificate, or one whose chain or key is unusable.
pub fn edge_server_config(edge: &EdgeTls) -> Result<Arc<ServerConfig>, TlsError> {
    if edge.terms.is_nothing() {
        return refusing_everyone();
    }
    let (suites, versions) = offered(&edge.terms);
    let mut config = ServerConfig::builder_with_provider(suites)
        .with_protocol_versions(versions)
        .map_err(TlsError::Versions)?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(CertificatesByName::new(&edge.certificates)?));
    config.alpn_protocols = alpn_names(&edge.alpn);
    Ok(Arc::new(config))
}

/// Verifies mesh clients: a chain to the roots of the trust domain that the
/// leaf itself names. A domain without roots admits nobody.
#[derive(Debug)]
struct MeshClients {
    domains: BTreeMap<TrustDomain, Arc<dyn ClientCertVerifier>>,
}

impl MeshClients {
    fn new(trust: &TrustBundle) -> Result<Self, TlsError> {
        let verifier = |(domain, roots): (&TrustDomain, &Vec<Arc<[u8]>>)| {
            let store = root_store(domain.as_str(), roots)?;
            let verifier = WebPkiClientVerifier::builder_with_provider(
                Arc::new(store),
                Arc::clone(provider()),
            )
            .build()
            .map_err(|source| TlsError::Verifier {
                domain: domain.as_str().into(),
                source,
            })?;
            Ok((domain.clone(), verifier))
        };
        Ok(Self {
            domains: trust
                .roots
                .iter()
                .filter(|(_, roots)| !roots.is_empty())
                .map(verifier)
                .collect::<Result<_, _>>()?,
        })
    }
}

impl ClientCertVerifier for MeshClients {
    /// None: clients of a mesh have one certificate and need no choosing.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let peer = certificate::spiffe_id(leaf).map_err(IdentityError::from)?;
        match self.domains.get(peer.trust_domain()) {
            Some(roots) => roots.verify_client_cert(leaf, intermediates, now),
            None => Err(IdentityError::UnknownTrustDomain(peer).into()),
        }
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

/// Chooses the certificate: exact name, then the longest wildcard, then the first. A wildcard
/// stands for any number of labels, as in Envoy: whether that will do is for the client to say.
#[derive(Debug)]
struct CertificatesByName {
    exact: HashMap<String, Arc<CertifiedKey>>,
    /// By what follows `*.`.
    wildcard: HashMap<String, Arc<CertifiedKey>>,
    first: Arc<CertifiedKey>,
}

impl CertificatesByName {
    fn new(certificates: &[Arc<ServerCertificate>]) -> Result<Self, TlsError> {
        let mut exact = HashMap::new();
        let mut wildcard = HashMap::new();
        let mut first = None;
        for certificate in certificates {
            let key = certified(certificate)?;
            for host in &certificate.hosts {
                let host = host.to_ascii_lowercase();
                // Of two certificates for one name the first wins.
                match host.strip_prefix("*.") {
                    Some(parent) => wildcard.entry(parent.to_owned()),
                    None => exact.entry(host),
                }
                .or_insert_with(|| Arc::clone(&key));
            }
            first.get_or_insert(key);
        }
        Ok(Self {
            exact,
            wildcard,
            first: first.ok_or(TlsError::NoCertificate)?,
        })
    }

    fn choose(&self, name: Option<&str>) -> Arc<CertifiedKey> {
        let found = name.and_then(|name| {
            let name = name.to_ascii_lowercase();
            self.exact.get(&name).or_else(|| {
                let mut parents = name.match_indices('.');
                parents.find_map(|(dot, _)| self.wildcard.get(&name[dot + 1..]))
            })
        });
        Arc::clone(found.unwrap_or(&self.first))
    }
}

impl ResolvesServerCert for CertificatesByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.choose(hello.server_name()))
    }
}

fn certified(written: &ServerCertificate) -> Result<Arc<CertifiedKey>, TlsError> {
    let key = private_key(&written.name, &written.key)?;
    let chain = certificates(&written.chain);
    certificate::presented(chain, key, provider().key_provider)
        .map(Arc::new)
        .map_err(TlsError::certificate(&written.name))
}

#[cfg(test)]
mod tests {
    use super::CertificatesByName;
    use crate::tls::authority::edge_certificate;
    use std::sync::Arc;

    #[test]
    fn exact_names_win_over_wildcards_and_the_first_is_the_default() {
        let certificates: Vec<_> = [
            &["default.test"][..],
            &["*.shop.test"],
            &["www.shop.test", "other.test"],
            &["www.shop.test"],
        ]
        .map(|hosts| Arc::new(edge_certificate(hosts)))
        .into();
        let chosen = CertificatesByName::new(&certificates).unwrap();
        let cases = [
            (None, 0),
            (Some("unknown.test"), 0),
            (Some("DEFAULT.test"), 0),
            (Some("a.shop.test"), 1),
            (Some("www.shop.test"), 2),
            (Some("a.b.shop.test"), 1),
            (Some("shop.test"), 0),
            (Some("other.test"), 2),
        ];
        for (name, index) in cases {
            let leaf: &[u8] = &certificates[index].chain[0];
            assert_eq!(&*chosen.choose(name).cert[0], leaf, "{name:?}");
        }
    }
}
