//! One fetch of a key set, by HTTP or from a file.

use super::parse::{BadKeySet, parse};
use super::{Authorities, KeyOrigin, RemoteKeys};
use meridian_model::jwt::VerificationKey;
use reqwest::redirect::Policy;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::{self, PemObject};
use std::path::Path;
use std::sync::Arc;
use tokio::io::AsyncReadExt;

/// Key sets are a few KiB. More is a mistake or an attack, and is not read to its end.
const LARGEST: usize = 1 << 20;

/// Why keys could not be fetched.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    #[error("cannot read the key file")]
    File(#[source] std::io::Error),
    #[error("cannot read the authorities' certificates")]
    Authorities(#[source] pem::Error),
    #[error("the environment variable of the authorities' certificates is not set")]
    Environment(#[source] std::env::VarError),
    #[error("no authority is trusted: name one in `TLSCertificates`")]
    NoAuthority,
    #[error("TLS cannot be set up")]
    Tls(#[source] rustls::Error),
    #[error("the request failed")]
    Http(#[source] reqwest::Error),
    #[error("the address answers {0} instead of 200; redirects are not followed")]
    Status(u16),
    #[error("the answer is larger than 1 MiB")]
    TooLarge,
    #[error("the answer is no key set")]
    Parse(#[source] BadKeySet),
}

/// What was fetched.
#[derive(Debug)]
pub(super) struct Fetched {
    pub(super) keys: Arc<[VerificationKey]>,
    /// The answer as it came.
    pub(super) body: Vec<u8>,
}

/// Fetches once. Keys of kinds that are not served are left out, with a warning.
pub(super) async fn fetch(origin: &KeyOrigin) -> Result<Fetched, FetchError> {
    let body = match origin {
        KeyOrigin::File(path) => read(path).await?,
        KeyOrigin::Remote(remote) => get(remote).await?,
    };
    let parsed = parse(&body).map_err(FetchError::Parse)?;
    for refused in &parsed.refused {
        tracing::warn!(?origin, %refused, "a key is left out");
    }
    let keys = parsed.keys.into();
    Ok(Fetched { keys, body })
}

async fn read(path: &Path) -> Result<Vec<u8>, FetchError> {
    let file = tokio::fs::File::open(path)
        .await
        .map_err(FetchError::File)?;
    let mut body = Vec::new();
    let mut bounded = file.take(LARGEST as u64 + 1);
    bounded
        .read_to_end(&mut body)
        .await
        .map_err(FetchError::File)?;
    bounded_by_limit(body)
}

async fn get(remote: &RemoteKeys) -> Result<Vec<u8>, FetchError> {
    // A client for each fetch: they are minutes apart, and CA files are read anew.
    let client = reqwest::Client::builder()
        .tls_backend_preconfigured(tls(remote)?)
        .redirect(Policy::none())
        .no_proxy()
        .timeout(remote.timeout)
        .connect_timeout(remote.connect_timeout)
        .build()
        .map_err(FetchError::Http)?;
    let answer = client.get(&remote.uri).send().await;
    let mut answer = answer.map_err(FetchError::Http)?;
    if answer.status() != reqwest::StatusCode::OK {
        return Err(FetchError::Status(answer.status().as_u16()));
    }
    let mut body = Vec::new();
    while let Some(piece) = answer.chunk().await.map_err(FetchError::Http)? {
        body.extend_from_slice(&piece);
        if body.len() > LARGEST {
            return Err(FetchError::TooLarge);
        }
    }
    Ok(body)
}

fn bounded_by_limit(body: Vec<u8>) -> Result<Vec<u8>, FetchError> {
    if body.len() > LARGEST {
        return Err(FetchError::TooLarge);
    }
    Ok(body)
}

/// For plain HTTP as well, since the client wants it; then no certificate is read.
fn tls(remote: &RemoteKeys) -> Result<ClientConfig, FetchError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = RootCertStore::empty();
    if remote.uri.starts_with("https:") {
        roots.add_parsable_certificates(authorities(&remote.authorities)?);
        if roots.is_empty() {
            return Err(FetchError::NoAuthority);
        }
    }
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(FetchError::Tls)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(config)
}

fn authorities(from: &Authorities) -> Result<Vec<CertificateDer<'static>>, FetchError> {
    let read = |pem: &str| CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    let read: Result<_, _> = match from {
        // Errors are about single certificates; having none at all is what matters.
        Authorities::System => Ok(rustls_native_certs::load_native_certs().certs),
        Authorities::File(path) => CertificateDer::pem_file_iter(path).and_then(Iterator::collect),
        Authorities::Environment(name) => {
            read(&std::env::var(name).map_err(FetchError::Environment)?)
        }
        Authorities::Pem(text) => read(text),
    };
    read.map_err(FetchError::Authorities)
}
