//! Certificates that gateways present to strangers, as servers and as clients: PEM, with the names
//! in them.

use crate::causes::chain_of;
use meridian_model::cluster::ClientCertificate;
use meridian_model::listener::ServerCertificate;
use meridian_model::{Identity, PrivateKey};
use rustls::crypto::ring::sign::any_supported_type;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::sync::Arc;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

/// Why a certificate cannot be presented. All of these are its writer's fault.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CertificateError {
    #[error("the certificate is no PEM")]
    Certificate(#[source] rustls_pki_types::pem::Error),
    #[error("there is no certificate in it")]
    Empty,
    #[error("the private key is no PEM")]
    Key(#[source] rustls_pki_types::pem::Error),
    #[error("the private key is of a kind that TLS doesn't know")]
    KindOfKey(#[source] rustls::Error),
    #[error("the private key is not the certificate's")]
    OtherKey,
    #[error("the certificate is unreadable")]
    Unreadable,
}

/// Reads a certificate with its key; whatever keeps it from being presented is an error. Its
/// version does not matter: whoever is shown it judges it.
pub(crate) fn server(
    name: &str,
    certificate: &[u8],
    key: &[u8],
) -> Result<ServerCertificate, CertificateError> {
    let chain = CertificateDer::pem_slice_iter(certificate)
        .collect::<Result<Vec<_>, _>>()
        .map_err(CertificateError::Certificate)?;
    let leaf = chain.first().ok_or(CertificateError::Empty)?;
    let key = PrivateKeyDer::from_pem_slice(key).map_err(CertificateError::Key)?;
    let (_, leaf) = X509Certificate::from_der(leaf).map_err(|_| CertificateError::Unreadable)?;
    let hosts = hosts(&leaf).ok_or(CertificateError::Unreadable)?;
    is_own(&leaf, &key)?;
    Ok(ServerCertificate {
        name: name.into(),
        hosts,
        chain: chain.iter().map(|der| Arc::from(der.as_ref())).collect(),
        key: PrivateKey::from_der(key.secret_der()),
    })
}

/// Reads a certificate to present to servers, with its key. Strangers' authorities sign what they
/// like, so nothing is asked of it but that the key is its own.
pub(crate) fn client(
    certificate: &[u8],
    key: &[u8],
) -> Result<ClientCertificate, CertificateError> {
    let chain = CertificateDer::pem_slice_iter(certificate)
        .collect::<Result<Vec<_>, _>>()
        .map_err(CertificateError::Certificate)?;
    let leaf = chain.first().ok_or(CertificateError::Empty)?;
    let (_, leaf) = X509Certificate::from_der(leaf).map_err(|_| CertificateError::Unreadable)?;
    let key = PrivateKeyDer::from_pem_slice(key).map_err(CertificateError::Key)?;
    is_own(&leaf, &key)?;
    Ok(ClientCertificate {
        chain: chain.iter().map(|der| Arc::from(der.as_ref())).collect(),
        key: PrivateKey::from_der(key.secret_der()),
    })
}

/// Whether the key is the certificate's. rustls can't compare them in certificates of version 1,
/// which are none to it, and which `openssl x509 -req` makes where nobody asks for extensions.
fn is_own(leaf: &X509Certificate<'_>, key: &PrivateKeyDer<'_>) -> Result<(), CertificateError> {
    let signing = any_supported_type(key).map_err(CertificateError::KindOfKey)?;
    let own = signing.public_key();
    match own.is_some_and(|own| own.as_ref() != leaf.public_key().raw) {
        true => Err(CertificateError::OtherKey),
        false => Ok(()),
    }
}

/// The gateway's own leaf, for clients that ask for no name of another certificate.
pub(crate) fn leaf(identity: &Identity) -> ServerCertificate {
    ServerCertificate {
        name: identity.name.as_str().into(),
        hosts: Vec::new(),
        chain: identity.chain.clone(),
        key: identity.key.clone(),
    }
}

/// As [`server`], with the error in one line.
pub(crate) fn readable(
    name: &str,
    certificate: &[u8],
    key: &[u8],
) -> Result<ServerCertificate, String> {
    server(name, certificate, key).map_err(|error| chain_of(&error))
}

/// The common name and the DNS names, each as often as it is written: Consul counts them so.
fn hosts(certificate: &X509Certificate<'_>) -> Option<Vec<String>> {
    let common = certificate.subject().iter_common_name();
    let common = common.filter_map(|name| name.as_str().ok());
    let names = certificate.subject_alternative_name().ok()?;
    let names = names.map_or(&[][..], |extension| &extension.value.general_names);
    let names = names.iter().filter_map(|name| match name {
        GeneralName::DNSName(host) => Some(*host),
        _ => None,
    });
    let all = common.chain(names);
    let all = all.map(|host| host.trim_end_matches('.').to_ascii_lowercase());
    Some(all.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use meridian_tests::certs::{VERSION_1, VERSION_1_KEY};

    fn pair(hosts: &[&str]) -> (String, String) {
        let hosts: Vec<_> = hosts.iter().map(|host| (*host).to_owned()).collect();
        let mut wanted = rcgen::CertificateParams::new(hosts).unwrap();
        let common = rcgen::DnType::CommonName;
        wanted.distinguished_name.push(common, "Common.test");
        let key = rcgen::KeyPair::generate().unwrap();
        let made = wanted.self_signed(&key).unwrap();
        (made.pem(), key.serialize_pem())
    }

    #[test]
    fn names_of_the_certificate_are_its_hosts() {
        let (certificate, key) = pair(&["A.test", "*.b.test"]);
        let made = server("x", certificate.as_bytes(), key.as_bytes()).unwrap();
        assert_eq!(made.hosts, ["common.test", "a.test", "*.b.test"]);
        assert_eq!(made.chain.len(), 1);
    }

    #[test]
    fn a_certificate_of_version_1_is_presented() {
        let made = server("x", VERSION_1.as_bytes(), VERSION_1_KEY.as_bytes()).unwrap();
        assert_eq!(made.hosts, ["old.test"]);
        let (_, other) = pair(&["a.test"]);
        let refused = server("x", VERSION_1.as_bytes(), other.as_bytes());
        assert!(matches!(refused, Err(CertificateError::OtherKey)));
    }

    #[test]
    fn what_cannot_be_presented_is_refused() {
        let (certificate, key) = pair(&["a.test"]);
        let (_, other) = pair(&["a.test"]);
        let refused = |certificate: &str, key: &str| {
            server("x", certificate.as_bytes(), key.as_bytes())
                .unwrap_err()
                .to_string()
        };
        assert!(refused(&certificate, &other).contains("not the certificate's"));
        assert!(refused(&certificate, "").contains("private key"));
        assert!(refused("", &key).contains("no certificate"));
    }
}
