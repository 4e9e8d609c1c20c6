//! One handshake as the data plane makes it, for an operator who asks whether it would come about.
//!
//! Nothing is sent to the application. In TLS 1.3 a server that refuses a client's certificate
//! says so after the handshake, and a sidecar whose intentions deny the caller closes the
//! connection then: so the other side gets a moment to speak first.

use crate::tls::{self, HandshakeError, TlsError};
use meridian_model::cluster::MeshTransport;
use meridian_model::listener::Alpn;
use meridian_model::{EndpointAddress, Identity, SpiffeId, UpstreamProtocol};
use rustls_pki_types::ServerName;
use std::io;
use std::time::{Duration, Instant, SystemTime};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use x509_parser::prelude::{FromDer, X509Certificate};

/// A handshake that came about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probed {
    /// Who answered; one of those that were expected.
    pub peer: SpiffeId,
    /// When its certificate ends; `None` where that can't be told.
    pub expires: Option<SystemTime>,
    /// From the first packet to the end of the handshake.
    pub took: Duration,
    /// Whether it then closed the connection, as one does whose intentions deny the caller.
    pub closed: bool,
}

/// Why a handshake did not come about.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// Our certificate or the roots are unusable.
    #[error("our own certificates can't be used")]
    Own(#[source] TlsError),
    /// The target's SNI is no server name.
    #[error("{0:?} is no server name")]
    Name(String),
    /// The operating system said no.
    #[error("cannot connect")]
    Connect(#[source] io::Error),
    /// The peer is not who it should be, does not believe us, or speaks no TLS that we do.
    #[error("no mutual TLS")]
    Handshake(#[source] HandshakeError),
    /// The deadline passed.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
}

/// A peer that denies does so at once; this allows for a way around the world.
const LAST_WORD: Duration = Duration::from_millis(400);

/// Connects to `address` within `limit`, proves who we are and who answers.
///
/// # Errors
/// When either can't be proved.
pub async fn probe(
    identity: &Identity,
    transport: &MeshTransport,
    protocol: UpstreamProtocol,
    address: &EndpointAddress,
    limit: Duration,
) -> Result<Probed, ProbeError> {
    let alpn = match protocol {
        UpstreamProtocol::Tcp => None,
        UpstreamProtocol::Http1 => Some(Alpn::Http1),
        UpstreamProtocol::Http2 => Some(Alpn::H2),
    };
    let config = tls::mesh_client_config(identity, transport, alpn).map_err(ProbeError::Own)?;
    let name = ServerName::try_from(transport.sni.to_string())
        .map_err(|_| ProbeError::Name(transport.sni.to_string()))?;
    let connector = TlsConnector::from(config);
    let began = Instant::now();
    let connected = async {
        match address {
            EndpointAddress::Tcp(address) => {
                let stream = TcpStream::connect(address).await;
                shake(connector, name, stream.map_err(ProbeError::Connect)?, began).await
            }
            EndpointAddress::Unix(path) => {
                let stream = UnixStream::connect(path).await;
                shake(connector, name, stream.map_err(ProbeError::Connect)?, began).await
            }
        }
    };
    let timeout = tokio::time::timeout(limit, connected);
    timeout.await.unwrap_or(Err(ProbeError::Timeout(limit)))
}

async fn shake<S: AsyncRead + AsyncWrite + Unpin>(
    connector: TlsConnector,
    name: ServerName<'static>,
    stream: S,
    began: Instant,
) -> Result<Probed, ProbeError> {
    let failed = |error: io::Error| ProbeError::Handshake(error.into());
    let mut stream = connector.connect(name, stream).await.map_err(failed)?;
    let took = began.elapsed();
    let chain = stream.get_ref().1.peer_certificates();
    let leaf = chain.and_then(|chain| chain.first());
    let Some(leaf) = leaf else {
        // The verifier lets nobody pass without one.
        return Err(failed(io::Error::from(io::ErrorKind::InvalidData)));
    };
    let peer =
        tls::certificate::spiffe_id(leaf).map_err(|error| ProbeError::Handshake(error.into()))?;
    let expires = X509Certificate::from_der(leaf).ok().and_then(|(_, leaf)| {
        let seconds = u64::try_from(leaf.validity().not_after.timestamp()).ok()?;
        SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
    });
    let mut byte = [0];
    let closed = match tokio::time::timeout(LAST_WORD, stream.read(&mut byte)).await {
        // Silence, or an application that speaks first.
        Err(_) | Ok(Ok(1..)) => false,
        Ok(Ok(0)) => true,
        Ok(Err(error)) if is_reset(&error) => true,
        Ok(Err(error)) => return Err(failed(error)),
    };
    Ok(Probed {
        peer,
        expires,
        took,
        closed,
    })
}

/// A connection that was cut, as opposed to one that was refused in TLS's own words.
fn is_reset(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::UnexpectedEof
    )
}
