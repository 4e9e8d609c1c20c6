//! One handshake as the data plane makes it, for an operator who asks whether it would come about.
//!
//! Nothing is sent to the application. In TLS 1.3 a server that refuses a client's certificate
//! says so after the handshake, and a sidecar whose intentions deny the caller closes the
//! connection then: so the other side gets a moment to speak first.

use crate::tls::{self, HandshakeError, TlsError};
use meridian_model::cluster::{MeshTransport, TlsTransport};
use meridian_model::listener::Alpn;
use meridian_model::{EndpointAddress, Identity, SpiffeId, UpstreamProtocol};
use rustls_pki_types::{CertificateDer, ServerName};
use std::io;
use std::net::Ipv4Addr;
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

/// A connection to a service outside of the mesh, which came about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbedOutside {
    /// When its certificate ends; `None` without TLS, or where that can't be told.
    pub expires: Option<SystemTime>,
    /// From the first packet to the end of the handshake, or without TLS to the connection.
    pub took: Duration,
    /// Whether it then closed the connection.
    pub closed: bool,
}

/// Why a handshake did not come about.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// Our certificate or the roots are unusable.
    #[error("our own certificates can't be used")]
    Own(#[source] TlsError),
    /// What the target asks for makes no TLS.
    #[error("TLS can't be set up")]
    Setup(#[source] TlsError),
    /// The target's SNI is no server name.
    #[error("{0:?} is no server name")]
    Name(String),
    /// The operating system said no.
    #[error("cannot connect")]
    Connect(#[source] io::Error),
    /// The peer is not who it should be, does not believe us, or speaks no TLS that we do.
    #[error("no secure connection")]
    Handshake(#[source] Box<HandshakeError>),
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
    let config =
        tls::mesh_client_config(identity, transport, alpn(protocol)).map_err(ProbeError::Own)?;
    let name = server_name(&transport.sni)?;
    let Reached { leaf, took, closed } =
        reach(Some((TlsConnector::from(config), name)), address, limit).await?;
    // The verifier lets nobody pass without one.
    let leaf = leaf.ok_or_else(|| failed(io::ErrorKind::InvalidData.into()))?;
    let peer = tls::certificate::spiffe_id(&leaf)
        .map_err(|error| ProbeError::Handshake(Box::new(error.into())))?;
    Ok(Probed {
        peer,
        expires: expiry(&leaf),
        took,
        closed,
    })
}

/// Connects to a service outside of the mesh at `address` within `limit`, and has it prove who it
/// is where it is called by TLS.
///
/// # Errors
/// When there is no connection, or no proof.
pub async fn probe_outside(
    transport: Option<&TlsTransport>,
    protocol: UpstreamProtocol,
    address: &EndpointAddress,
    limit: Duration,
) -> Result<ProbedOutside, ProbeError> {
    let tls = match transport {
        None => None,
        Some(transport) => {
            let config = tls::tls_client_config(transport, alpn(protocol));
            let name = match &transport.server_name {
                Some(name) => server_name(name)?,
                // Stands where rustls wants a name: none is sent or verified.
                None => ServerName::from(Ipv4Addr::UNSPECIFIED),
            };
            Some((TlsConnector::from(config.map_err(ProbeError::Setup)?), name))
        }
    };
    let Reached { leaf, took, closed } = reach(tls, address, limit).await?;
    Ok(ProbedOutside {
        expires: leaf.as_deref().and_then(expiry),
        took,
        closed,
    })
}

/// When a certificate, in DER, ends; `None` where that can't be told.
pub fn expiry(certificate: &[u8]) -> Option<SystemTime> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    let seconds = u64::try_from(certificate.validity().not_after.timestamp()).ok()?;
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
}

fn alpn(protocol: UpstreamProtocol) -> Option<Alpn> {
    match protocol {
        UpstreamProtocol::Tcp => None,
        UpstreamProtocol::Http1 => Some(Alpn::Http1),
        UpstreamProtocol::Http2 => Some(Alpn::H2),
    }
}

fn server_name(name: &str) -> Result<ServerName<'static>, ProbeError> {
    ServerName::try_from(name.to_owned()).map_err(|_| ProbeError::Name(name.to_owned()))
}

/// A connection, before anybody looked at who it is to.
struct Reached {
    /// The other side's certificate, where it has shown one.
    leaf: Option<CertificateDer<'static>>,
    took: Duration,
    closed: bool,
}

trait Io: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

fn boxed(io: impl Io + 'static) -> Box<dyn Io> {
    Box::new(io)
}

async fn reach(
    tls: Option<(TlsConnector, ServerName<'static>)>,
    address: &EndpointAddress,
    limit: Duration,
) -> Result<Reached, ProbeError> {
    let began = Instant::now();
    let reached = async {
        let connected: io::Result<Box<dyn Io>> = match address {
            EndpointAddress::Tcp(address) => TcpStream::connect(address).await.map(boxed),
            EndpointAddress::Unix(path) => UnixStream::connect(path).await.map(boxed),
        };
        let mut stream = connected.map_err(ProbeError::Connect)?;
        let Some((connector, name)) = tls else {
            let took = began.elapsed();
            let closed = closes(&mut stream).await.map_err(ProbeError::Connect)?;
            return Ok(Reached {
                leaf: None,
                took,
                closed,
            });
        };
        let mut stream = connector.connect(name, stream).await.map_err(failed)?;
        let took = began.elapsed();
        let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
        let leaf = chain.first().cloned().map(CertificateDer::into_owned);
        let closed = closes(&mut stream).await.map_err(failed)?;
        Ok(Reached { leaf, took, closed })
    };
    let timeout = tokio::time::timeout(limit, reached);
    timeout.await.unwrap_or(Err(ProbeError::Timeout(limit)))
}

fn failed(error: io::Error) -> ProbeError {
    ProbeError::Handshake(Box::new(error.into()))
}

/// Whether the other side ends the connection before a word was said.
async fn closes(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<bool> {
    let mut byte = [0];
    match tokio::time::timeout(LAST_WORD, stream.read(&mut byte)).await {
        // Silence, or an application that speaks first.
        Err(_) | Ok(Ok(1..)) => Ok(false),
        Ok(Ok(0)) => Ok(true),
        Ok(Err(error)) if is_reset(&error) => Ok(true),
        Ok(Err(error)) => Err(error),
    }
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
