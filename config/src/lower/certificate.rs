//! Certificates and keys from PEM files.

use super::Context;
use crate::file::CertificateRef;
use crate::path::Path;
use meridian_model::PrivateKey;
use meridian_model::listener::ServerCertificate;
use rustls::crypto::ring::sign::any_supported_type;
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::path::Path as FilePath;
use std::sync::Arc;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

/// Reads a certificate with its key; whatever keeps it from being presented is reported.
pub(super) fn server(
    reference: &CertificateRef,
    cx: &mut Context<'_>,
    path: &Path,
) -> Option<ServerCertificate> {
    let chain = chain(&reference.certificate, cx, &path.key("certificate"));
    let key = private_key(&reference.key, cx, &path.key("key"));
    let (chain, key) = (chain?, key?);
    let hosts = match hosts(&chain) {
        Some(hosts) if !hosts.is_empty() => hosts,
        _ => {
            let message = "expected a certificate with DNS names (subjectAltName)";
            cx.error(&path.key("certificate"), message);
            return None;
        }
    };
    if !belongs(&chain, &key) {
        let message = "this is not the key of the certificate, or of a kind that TLS knows";
        cx.error(&path.key("key"), message);
        return None;
    }
    Some(ServerCertificate {
        name: reference.certificate.display().to_string().into(),
        hosts,
        chain: shared(chain),
        key: PrivateKey::from_der(key.secret_der()),
    })
}

/// Reads the authorities of a PEM file as DER.
pub(super) fn authorities(
    file: &FilePath,
    cx: &mut Context<'_>,
    path: &Path,
) -> Option<Vec<Arc<[u8]>>> {
    chain(file, cx, path).map(shared)
}

fn chain(
    file: &FilePath,
    cx: &mut Context<'_>,
    path: &Path,
) -> Option<Vec<CertificateDer<'static>>> {
    let pem = cx.read(file, path)?;
    match CertificateDer::pem_slice_iter(&pem).collect::<Result<Vec<_>, _>>() {
        Ok(chain) if !chain.is_empty() => Some(chain),
        Ok(_) => {
            cx.error(path, "expected a PEM file with a certificate");
            None
        }
        Err(error) => {
            let message = format!("expected a PEM file with a certificate: {error}");
            cx.error(path, message);
            None
        }
    }
}

fn private_key(
    file: &FilePath,
    cx: &mut Context<'_>,
    path: &Path,
) -> Option<PrivateKeyDer<'static>> {
    let pem = cx.read(file, path)?;
    PrivateKeyDer::from_pem_slice(&pem)
        .inspect_err(|error| {
            let message = format!("expected a PEM file with a private key: {error}");
            cx.error(path, message);
        })
        .ok()
}

fn belongs(chain: &[CertificateDer<'static>], key: &PrivateKeyDer<'static>) -> bool {
    any_supported_type(key)
        .is_ok_and(|key| CertifiedKey::new(chain.to_vec(), key).keys_match().is_ok())
}

/// DNS names of the leaf; `None` where it is no certificate.
fn hosts(chain: &[CertificateDer<'_>]) -> Option<Vec<String>> {
    let (_, leaf) = X509Certificate::from_der(chain.first()?).ok()?;
    let names = leaf.subject_alternative_name().ok()?;
    let names = names
        .iter()
        .flat_map(|extension| &extension.value.general_names);
    let hosts = names.filter_map(|name| match name {
        GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
        _ => None,
    });
    Some(hosts.collect())
}

fn shared(chain: Vec<CertificateDer<'static>>) -> Vec<Arc<[u8]>> {
    chain.iter().map(|der| Arc::from(der.as_ref())).collect()
}
