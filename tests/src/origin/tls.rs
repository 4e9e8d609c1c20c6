//! TLS before an origin: it ends the handshake, notes how it was greeted, and passes the bytes on.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use rustls::crypto::ring;
use rustls::pki_types::CertificateDer;
use rustls::server::WebPkiClientVerifier;
use rustls::{CipherSuite, RootCertStore, ServerConfig};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use crate::certs::Identity;
use crate::client::loopback;

/// A running front on 127.0.0.1. It ends when dropped.
#[derive(Debug)]
pub struct TlsFront {
    address: SocketAddr,
    greeted: Arc<Mutex<Option<Greeting>>>,
    acceptor: JoinHandle<()>,
}

/// How a client greeted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Greeting {
    /// The name it asked for.
    pub name: Option<String>,
    /// The certificate it presented.
    pub certificate: Option<CertificateDer<'static>>,
    /// What was agreed upon.
    pub suite: Option<CipherSuite>,
}

impl TlsFront {
    /// Starts before `origin`, on a free port. With `clients`, an authority, nobody comes in without
    /// a certificate of it.
    pub async fn start(
        origin: SocketAddr,
        identity: Identity,
        clients: Option<CertificateDer<'static>>,
    ) -> Self {
        let listener = TcpListener::bind(loopback(0))
            .await
            .expect("a port for the front");
        let address = listener.local_addr().expect("the address of a listener");
        let tls = acceptor(identity, clients);
        let greeted = Arc::new(Mutex::new(None));
        let noted = Arc::clone(&greeted);
        let acceptor = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (tls, noted) = (tls.clone(), Arc::clone(&noted));
                // A client that goes, or is refused, is what tests are about.
                tokio::spawn(async move { drop(pass(tls, stream, origin, &noted).await) });
            }
        });
        Self {
            address,
            greeted,
            acceptor,
        }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How the last client that came in greeted.
    pub fn greeted(&self) -> Option<Greeting> {
        let greeted = self.greeted.lock();
        greeted.unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for TlsFront {
    fn drop(&mut self) {
        self.acceptor.abort();
    }
}

fn acceptor(identity: Identity, clients: Option<CertificateDer<'static>>) -> TlsAcceptor {
    let provider = Arc::new(ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .expect("versions of the provider");
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(root) => {
            let mut roots = RootCertStore::empty();
            roots.add(root).expect("an authority");
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            builder.with_client_cert_verifier(verifier.build().expect("a verifier"))
        }
    };
    let config = builder
        .with_single_cert(identity.chain, identity.key)
        .expect("a certificate with its key");
    TlsAcceptor::from(Arc::new(config))
}

async fn pass(
    tls: TlsAcceptor,
    stream: TcpStream,
    origin: SocketAddr,
    noted: &Mutex<Option<Greeting>>,
) -> std::io::Result<()> {
    let mut stream = tls.accept(stream).await?;
    let (_, session) = stream.get_ref();
    let shown = session.peer_certificates().and_then(<[_]>::first);
    let greeting = Greeting {
        name: session.server_name().map(str::to_owned),
        certificate: shown.map(|certificate| certificate.clone().into_owned()),
        suite: session.negotiated_cipher_suite().map(|one| one.suite()),
    };
    *noted.lock().unwrap_or_else(PoisonError::into_inner) = Some(greeting);
    let mut origin = TcpStream::connect(origin).await?;
    copy_bidirectional(&mut stream, &mut origin).await?;
    Ok(())
}
