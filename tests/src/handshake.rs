//! TLS peers with any certificate: a client that believes every server, and a
//! server that takes every client. What the proxy under test does is the question.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    AlertDescription, ClientConfig, DigitallySignedStruct, ServerConfig, SignatureScheme,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};
use x509_parser::prelude::{FromDer, GeneralName, ParsedExtension, X509Certificate};

use crate::certs::Identity;
use crate::client::Error;

/// A refusal is immediate; this bounds the case that the peer hangs.
const ANSWER: Duration = Duration::from_secs(5);

/// Connects to a mesh listener, with a certificate or without.
///
/// # Errors
/// What the handshake failed with. In TLS 1.3 a refused client certificate shows
/// at the first read only: see [`answer`].
pub async fn connect(
    address: SocketAddr,
    identity: Option<Identity>,
) -> Result<TlsStream<TcpStream>, Error> {
    connect_as(address, "mesh.invalid", identity).await
}

/// Connects to whatever speaks TLS, and asks for a host by name.
///
/// # Errors
/// What the handshake failed with.
pub async fn connect_to(address: SocketAddr, host: &str) -> Result<TlsStream<TcpStream>, Error> {
    connect_as(address, host, None).await
}

/// As [`connect`], and asks for a name.
///
/// # Errors
/// See [`connect`].
pub async fn connect_as(
    address: SocketAddr,
    host: &str,
    identity: Option<Identity>,
) -> Result<TlsStream<TcpStream>, Error> {
    connect_offering(address, host, identity, ring::default_provider()).await
}

/// The same with what `provider` offers only: its suites, and the versions that they leave.
///
/// # Errors
/// See [`connect`].
pub async fn connect_offering(
    address: SocketAddr,
    host: &str,
    identity: Option<Identity>,
    provider: CryptoProvider,
) -> Result<TlsStream<TcpStream>, Error> {
    let builder = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Credulous(ring::default_provider())));
    let config = match identity {
        Some(identity) => builder.with_client_auth_cert(identity.chain, identity.key)?,
        None => builder.with_no_client_auth(),
    };
    let stream = TcpStream::connect(address).await?;
    let name = ServerName::try_from(host.to_owned())?;
    let connecting = TlsConnector::from(Arc::new(config)).connect(name, stream);
    Ok(timeout(ANSWER, connecting).await??)
}

/// How a peer ends a handshake that it refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// With an alert.
    Alert(AlertDescription),
    /// With a reset, before which an alert may have been lost.
    Reset,
    /// By closing, without an alert.
    End,
}

/// Waits for the peer to refuse a handshake.
///
/// # Panics
/// When it does not.
pub async fn refusal(
    address: SocketAddr,
    host: &str,
    identity: Option<Identity>,
    provider: CryptoProvider,
) -> Refusal {
    let through = async {
        let mut stream = connect_offering(address, host, identity, provider).await?;
        // In TLS 1.3 a client is done before the server has judged its certificate.
        timeout(ANSWER, stream.read_u8()).await??;
        Ok::<_, Error>(())
    };
    let error = through.await.expect_err("a handshake that is refused");
    let error = error
        .downcast::<io::Error>()
        .unwrap_or_else(|error| panic!("no end: {error}"));
    let said = error.get_ref().and_then(|inner| inner.downcast_ref());
    match (said, error.kind()) {
        (Some(rustls::Error::AlertReceived(alert)), _) => Refusal::Alert(*alert),
        (None, ErrorKind::ConnectionReset | ErrorKind::BrokenPipe) => Refusal::Reset,
        (None, ErrorKind::UnexpectedEof) => Refusal::End,
        _ => panic!("{error}"),
    }
}

/// Says hello as a mesh client with a certificate; whatever comes back.
///
/// # Errors
/// The handshake's, or that of the first read.
pub async fn answer(
    address: SocketAddr,
    identity: Option<Identity>,
    question: &[u8],
) -> Result<Vec<u8>, Error> {
    let mut stream = connect(address, identity).await?;
    stream.write_all(question).await?;
    let mut buffer = vec![0; 4096];
    let length = timeout(ANSWER, stream.read(&mut buffer)).await??;
    buffer.truncate(length);
    Ok(buffer)
}

/// Serial number of the certificate that a mesh listener presents, in hexadecimal.
///
/// # Errors
/// When there is no listener, or no TLS on it.
pub async fn serial(address: SocketAddr) -> Result<String, Error> {
    presented(address, |leaf| leaf.raw_serial_as_string()).await
}

/// Key of the authority that signed what a mesh listener presents, in hexadecimal.
/// Tells two roots of one name apart.
///
/// # Errors
/// When there is no listener, or no TLS on it.
pub async fn issuer(address: SocketAddr) -> Result<String, Error> {
    presented(address, |leaf| {
        let keys =
            leaf.iter_extensions()
                .filter_map(|extension| match extension.parsed_extension() {
                    ParsedExtension::AuthorityKeyIdentifier(id) => id.key_identifier.clone(),
                    _ => None,
                });
        keys.map(|key| format!("{key:x}")).collect()
    })
    .await
}

/// Common name and alternative names, DNS and URI, of the certificate that answers for a host.
///
/// # Errors
/// When there is no listener, or no TLS on it.
pub async fn names(address: SocketAddr, host: &str) -> Result<Vec<String>, Error> {
    let stream = connect_to(address, host).await?;
    leaf(&stream, |leaf| {
        let common = leaf.subject().iter_common_name();
        let common = common.filter_map(|name| name.as_str().ok());
        let mut names: Vec<_> = common.map(str::to_owned).collect();
        if let Ok(Some(found)) = leaf.subject_alternative_name() {
            names.extend(
                found
                    .value
                    .general_names
                    .iter()
                    .filter_map(|name| match name {
                        GeneralName::DNSName(name) | GeneralName::URI(name) => {
                            Some((*name).to_owned())
                        }
                        _ => None,
                    }),
            );
        }
        names
    })
}

async fn presented<T>(
    address: SocketAddr,
    read: impl FnOnce(&X509Certificate<'_>) -> T,
) -> Result<T, Error> {
    let stream = connect(address, None).await?;
    leaf(&stream, read)
}

fn leaf<T>(
    stream: &TlsStream<TcpStream>,
    read: impl FnOnce(&X509Certificate<'_>) -> T,
) -> Result<T, Error> {
    let (_, session) = stream.get_ref();
    let chain = session.peer_certificates().unwrap_or_default();
    let leaf = chain.first().ok_or("no certificate")?;
    let (_, leaf) = X509Certificate::from_der(leaf)?;
    Ok(read(&leaf))
}

/// A server that presents an identity of the test's choice, as the sidecar of a
/// service might. Answers every connection with `greeting`. Ends when dropped.
#[derive(Debug)]
pub struct Impostor {
    identity: watch::Sender<Identity>,
    acceptor: JoinHandle<()>,
}

impl Impostor {
    /// Starts the server.
    pub async fn start(address: SocketAddr, identity: Identity, greeting: &'static [u8]) -> Self {
        let listener = TcpListener::bind(address).await.expect("a port");
        let (identity, presented) = watch::channel(identity);
        let acceptor = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let tls = acceptor(presented.borrow().clone());
                // The proxy under test is expected to break off.
                tokio::spawn(async move { drop(greet(tls, stream, greeting).await) });
            }
        });
        Self { identity, acceptor }
    }

    /// Presents another identity from the next connection on.
    pub fn present(&self, identity: Identity) {
        self.identity.send_replace(identity);
    }
}

impl Drop for Impostor {
    fn drop(&mut self) {
        self.acceptor.abort();
    }
}

fn acceptor(identity: Identity) -> TlsAcceptor {
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|builder| {
            let builder = builder.with_no_client_auth();
            builder.with_single_cert(identity.chain, identity.key)
        })
        .expect("a certificate with its key");
    TlsAcceptor::from(Arc::new(config))
}

async fn greet(tls: TlsAcceptor, stream: TcpStream, greeting: &[u8]) -> io::Result<()> {
    let mut stream = tls.accept(stream).await?;
    stream.write_all(greeting).await?;
    stream.shutdown().await
}

/// Believes every server: it is the server's verdict that tests ask for.
#[derive(Debug)]
struct Credulous(CryptoProvider);

impl ServerCertVerifier for Credulous {
    fn verify_server_cert(
        &self,
        _leaf: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _leaf: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _leaf: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
