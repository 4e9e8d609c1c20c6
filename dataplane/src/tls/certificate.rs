//! What a leaf certificate says about its owner: the X.509-SVID rules.
//!
//! Consul's leaves carry exactly one URI as subject alternative name and no
//! DNS name, so host name verification could never stand in for this.

use meridian_model::SpiffeId;
use meridian_model::identity::SpiffeError;
use rustls::CertificateError;
use rustls::crypto::KeyProvider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::sign::CertifiedKey;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

/// Why a leaf names no SPIFFE identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LeafError {
    /// Not a certificate, or its extensions are malformed.
    #[error("certificate is unreadable")]
    Unreadable,
    /// No URI among its subject alternative names.
    #[error("certificate has no URI")]
    NoUri,
    /// More than one URI: it could be taken for either (X509-SVID, section 2).
    #[error("certificate has several URIs")]
    SeveralUris,
    /// The URI is no SPIFFE ID.
    #[error("certificate's URI is no SPIFFE ID: {0}")]
    Malformed(SpiffeError),
    /// It may sign others, which a leaf may not (X509-SVID, section 4.1).
    #[error("certificate of an authority stands as a leaf")]
    Authority,
}

/// Reads the one SPIFFE ID of a leaf. The chain is not looked at.
///
/// # Errors
/// When the leaf breaks the rules of X.509-SVID.
pub fn spiffe_id(leaf: &[u8]) -> Result<SpiffeId, LeafError> {
    let (rest, certificate) = X509Certificate::from_der(leaf).map_err(|_| LeafError::Unreadable)?;
    if !rest.is_empty() {
        return Err(LeafError::Unreadable);
    }
    let usage = certificate.key_usage().map_err(|_| LeafError::Unreadable)?;
    if certificate.is_ca() || usage.is_some_and(|usage| usage.value.key_cert_sign()) {
        return Err(LeafError::Authority);
    }
    let names = certificate
        .subject_alternative_name()
        .map_err(|_| LeafError::Unreadable)?
        .ok_or(LeafError::NoUri)?;
    let mut uris = names
        .value
        .general_names
        .iter()
        .filter_map(|name| match name {
            GeneralName::URI(uri) => Some(*uri),
            _ => None,
        });
    let uri = uris.next().ok_or(LeafError::NoUri)?;
    if uris.next().is_some() {
        return Err(LeafError::SeveralUris);
    }
    SpiffeId::parse(uri).map_err(LeafError::Malformed)
}

/// A certificate with its key, to be presented. Its version does not matter: whoever is shown it
/// judges it, and rustls would refuse one of version 1.
///
/// # Errors
/// When the key is of no kind that TLS knows, or another certificate's.
pub(super) fn presented(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    keys: &dyn KeyProvider,
) -> Result<CertifiedKey, rustls::Error> {
    let key = keys.load_private_key(key)?;
    let leaf = chain.first().ok_or(CertificateError::BadEncoding)?;
    let own = key.public_key();
    if own.is_some_and(|own| !is_of(leaf, own.as_ref())) {
        return Err(rustls::InconsistentKeys::KeyMismatch.into());
    }
    Ok(CertifiedKey::new(chain, key))
}

/// Whether a public key is the certificate's.
fn is_of(leaf: &[u8], key: &[u8]) -> bool {
    X509Certificate::from_der(leaf).is_ok_and(|(_, leaf)| leaf.public_key().raw == key)
}

/// Whether `now` lies in the certificate's validity, for one that is trusted by itself.
///
/// # Errors
/// When it is too early or too late, or the certificate is unreadable.
pub(super) fn check_period(leaf: &[u8], now: UnixTime) -> Result<(), CertificateError> {
    let (_, certificate) =
        X509Certificate::from_der(leaf).map_err(|_| CertificateError::BadEncoding)?;
    let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    let validity = certificate.validity();
    if now < validity.not_before.timestamp() {
        return Err(CertificateError::NotValidYet);
    }
    if now > validity.not_after.timestamp() {
        return Err(CertificateError::Expired);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::provider;
    use meridian_tests::certs::{VERSION_1, VERSION_1_KEY};
    use rustls::pki_types::pem::PemObject;

    #[test]
    fn a_certificate_of_version_1_is_presented_with_its_own_key_alone() {
        let chain = || vec![CertificateDer::from_pem_slice(VERSION_1.as_bytes()).unwrap()];
        let keys = provider().key_provider;
        let key = PrivateKeyDer::from_pem_slice(VERSION_1_KEY.as_bytes()).unwrap();
        assert_eq!(presented(chain(), key, keys).unwrap().cert, chain());
        let other = rcgen::KeyPair::generate().unwrap().serialize_pem();
        let other = PrivateKeyDer::from_pem_slice(other.as_bytes()).unwrap();
        assert!(presented(chain(), other, keys).is_err());
        assert!(spiffe_id(&chain()[0]).is_err(), "but it proves nobody");
    }
}
