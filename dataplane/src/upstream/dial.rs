//! Dialing: TCP or unix connect, then TLS, under one deadline.

use super::io::UpstreamIo;
use super::profile::{Security, TransportProfile};
use crate::downstream::Rewound;
use crate::tls::{HandshakeFailure, resumption};
use meridian_model::EndpointAddress;
use rustls::pki_types::{ServerName, UnixTime};
use std::io;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Why no connection could be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DialError {
    /// The deadline passed.
    #[error("connecting took longer than {0:?}")]
    Timeout(Duration),
    /// The operating system said no.
    #[error("cannot connect")]
    Connect(#[source] io::Error),
    /// The peer is not who it should be, or speaks no TLS that we do.
    #[error("TLS handshake failed: {failure}")]
    Tls {
        /// What went wrong.
        failure: HandshakeFailure,
        /// The error of the TLS library.
        #[source]
        source: io::Error,
    },
    /// The target's transport could not be made ready, so nothing is sent to it.
    #[error("target is unusable: {0}")]
    Unusable(String),
}

impl DialError {
    /// Whether the peer closed the connection before it was one: it is not there, or takes no
    /// more of them.
    pub(crate) fn turns_away(&self) -> bool {
        match self {
            Self::Connect(error) => matches!(
                error.kind(),
                io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionReset
            ),
            Self::Tls { failure, .. } => *failure == HandshakeFailure::Closed,
            Self::Timeout(_) | Self::Unusable(_) => false,
        }
    }
}

/// Connects to `address` and proves who answers, within `limit`.
pub(crate) async fn dial(
    address: &EndpointAddress,
    profile: &TransportProfile,
    limit: Duration,
) -> Result<UpstreamIo, DialError> {
    match tokio::time::timeout(limit, connect(address, profile)).await {
        Ok(result) => result,
        Err(_) => Err(DialError::Timeout(limit)),
    }
}

async fn connect(
    address: &EndpointAddress,
    profile: &TransportProfile,
) -> Result<UpstreamIo, DialError> {
    let tls = match profile.security() {
        Security::Plain => None,
        Security::Tls {
            config,
            server_name,
        } => Some((TlsConnector::from(config.clone()), server_name.clone())),
        Security::Unusable(reason) => return Err(DialError::Unusable(reason.clone())),
    };
    match address {
        EndpointAddress::Tcp(address) => {
            let stream = TcpStream::connect(address)
                .await
                .map_err(DialError::Connect)?;
            stream.set_nodelay(true).map_err(DialError::Connect)?;
            match tls {
                None => Ok(UpstreamIo::tcp(stream)),
                Some((connector, name)) => {
                    let stream = shake(&connector, name, stream).await;
                    stream.map(UpstreamIo::tls).map_err(refused)
                }
            }
        }
        EndpointAddress::Unix(path) => {
            let stream = UnixStream::connect(path)
                .await
                .map_err(DialError::Connect)?;
            match tls {
                None => Ok(UpstreamIo::unix(stream)),
                Some((connector, name)) => {
                    let stream = shake(&connector, name, stream).await;
                    stream.map(UpstreamIo::tls_unix).map_err(refused)
                }
            }
        }
    }
}

/// The handshake, after which the peer is proved to be the one it should be.
async fn shake<S: AsyncRead + AsyncWrite + Unpin>(
    connector: &TlsConnector,
    name: ServerName<'static>,
    stream: S,
) -> io::Result<TlsStream<Rewound<S>>> {
    let stream = Rewound::from(stream).reading_ahead();
    let stream = connector.connect(name, stream).await?;
    resumption::check(stream.get_ref().1, UnixTime::now())?;
    Ok(stream)
}

fn refused(source: io::Error) -> DialError {
    DialError::Tls {
        failure: HandshakeFailure::classify(&source),
        source,
    }
}
