//! TLS to the agent: which authorities are trusted, which certificate is presented.
//!
//! The crypto provider is named here (ring) instead of being looked up in the process, so that
//! the client works whether or not the program installed one.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
    pki_types::{
        CertificateDer, DnsName, PrivateKeyDer, ServerName, UnixTime,
        pem::{self, PemObject},
    },
};

use crate::error::ConfigError;

/// TLS settings of the connection to the agent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsConfig {
    /// Who may sign the agent's certificate.
    pub authorities: Authorities,
    /// The certificate presented to an agent with `verify_incoming`.
    pub client: Option<ClientPair>,
    /// The DNS name expected in the agent's certificate, and sent as SNI, in place of the
    /// address's host: `server.dc1.consul` when the agent is dialled by IP address.
    pub server_name: Option<String>,
    /// Accept any certificate. The connection is then open to whoever stands in between, and so
    /// is the token.
    pub insecure: bool,
}

/// Who may sign the agent's certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Authorities {
    /// The operating system's.
    #[default]
    System,
    /// The certificates in a PEM file.
    File(PathBuf),
    /// The certificates in all files of a directory.
    Directory(PathBuf),
}

/// A client certificate and its key, both PEM files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientPair {
    /// The certificate, followed by intermediates.
    pub certificate: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

impl TlsConfig {
    /// Builds what rustls needs. Plain-text clients get one as well (reqwest wants it), but for
    /// them no file is read.
    pub(crate) fn build(&self, used: bool) -> Result<ClientConfig, ConfigError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|e| refused("no protocol version is left", e))?;
        if !used {
            let nobody = RootCertStore::empty();
            return Ok(builder.with_root_certificates(nobody).with_no_client_auth());
        }
        let builder = if self.insecure {
            let anyone = Arc::new(AnyCertificate { provider });
            builder.dangerous().with_custom_certificate_verifier(anyone)
        } else {
            builder.with_root_certificates(self.authorities.load()?)
        };
        let mut config = match &self.client {
            None => builder.with_no_client_auth(),
            Some(pair) => {
                let (chain, key) = pair.load()?;
                builder
                    .with_client_auth_cert(chain, key)
                    .map_err(|e| refused("certificate and key don't fit", e))?
            }
        };
        // HTTP/2 carries all blocking queries over one connection; over HTTP/1.1 each pins one,
        // and an agent allows 200 to a client address (`limits.http_max_conns_per_client`).
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(config)
    }

    /// The expected name, when one was set.
    pub(crate) fn dns_name(&self) -> Result<Option<&str>, ConfigError> {
        let Some(name) = self.server_name.as_deref() else {
            return Ok(None);
        };
        DnsName::try_from(name).map_err(|e| refused("the server name is not a DNS name", e))?;
        Ok(Some(name))
    }
}

impl Authorities {
    fn load(&self) -> Result<RootCertStore, ConfigError> {
        let mut store = RootCertStore::empty();
        match self {
            Self::System => {
                // Errors are about single certificates; having none at all is what matters.
                let found = rustls_native_certs::load_native_certs();
                store.add_parsable_certificates(found.certs);
                if store.is_empty() {
                    let reason = "the system has no certificate authorities; name a CA file";
                    return Err(ConfigError::Tls {
                        reason,
                        source: None,
                    });
                }
            }
            Self::File(path) => add_file(&mut store, path)?,
            Self::Directory(path) => {
                let unreadable = |source| ConfigError::File {
                    path: path.clone(),
                    source,
                };
                for entry in fs::read_dir(path).map_err(unreadable)? {
                    let file = entry.map_err(unreadable)?.path();
                    if file.is_file() {
                        add_file(&mut store, &file)?;
                    }
                }
                if store.is_empty() {
                    return Err(no_pem(path, "CA certificate", None));
                }
            }
        }
        Ok(store)
    }
}

impl ClientPair {
    fn load(&self) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), ConfigError> {
        let key = PrivateKeyDer::from_pem_slice(&read(&self.key)?)
            .map_err(|e| no_pem(&self.key, "private key", Some(e)))?;
        Ok((certificates(&self.certificate)?, key))
    }
}

fn add_file(store: &mut RootCertStore, path: &Path) -> Result<(), ConfigError> {
    for certificate in certificates(path)? {
        store
            .add(certificate)
            .map_err(|e| refused("a CA certificate is malformed", e))?;
    }
    Ok(())
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, ConfigError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&read(path)?).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) => Err(no_pem(path, "certificate", None)),
        Err(e) => Err(no_pem(path, "certificate", Some(e))),
    }
}

fn read(path: &Path) -> Result<Vec<u8>, ConfigError> {
    fs::read(path).map_err(|source| ConfigError::File {
        path: path.to_owned(),
        source,
    })
}

fn no_pem(path: &Path, expected: &'static str, source: Option<pem::Error>) -> ConfigError {
    let source = source.map(|e| Box::new(e) as _);
    ConfigError::Pem {
        path: path.to_owned(),
        expected,
        source,
    }
}

fn refused(
    reason: &'static str,
    error: impl std::error::Error + Send + Sync + 'static,
) -> ConfigError {
    ConfigError::Tls {
        reason,
        source: Some(Box::new(error)),
    }
}

/// Accepts every certificate, for [`TlsConfig::insecure`]. Signatures are still checked: the peer
/// holds the key of whatever certificate it shows.
#[derive(Debug)]
struct AnyCertificate {
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_ca_file_is_named() {
        let path = PathBuf::from("/nonexistent/ca.pem");
        let tls = TlsConfig {
            authorities: Authorities::File(path),
            ..TlsConfig::default()
        };
        let error = tls.build(true).unwrap_err();
        assert!(error.to_string().contains("/nonexistent/ca.pem"));
        tls.build(false).unwrap();
    }

    #[test]
    fn file_without_certificates_is_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "nothing here").unwrap();
        let authorities = Authorities::File(file.path().to_owned());
        let tls = TlsConfig {
            authorities,
            ..TlsConfig::default()
        };
        assert!(matches!(tls.build(true), Err(ConfigError::Pem { .. })));
    }

    #[test]
    fn server_name_must_be_a_dns_name() {
        let named = |name: &str| TlsConfig {
            server_name: Some(name.to_owned()),
            ..TlsConfig::default()
        };
        assert_eq!(
            named("server.dc1.consul").dns_name().unwrap(),
            Some("server.dc1.consul")
        );
        named("not a name").dns_name().unwrap_err();
    }
}
