//! Dialing: TCP or unix connect, then TLS, under one deadline.

use super::io::UpstreamIo;
use super::profile::{Security, TransportProfile};
use crate::tls::HandshakeFailure;
use meridian_model::EndpointAddress;
use std::io;
use std::time::Duration;
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

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
    let refused = |source: io::Error| DialError::Tls {
        failure: HandshakeFailure::classify(&source),
        source,
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
                    let tls = connector.connect(name, stream).await.map_err(refused)?;
                    Ok(UpstreamIo::tls(tls))
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
                    let tls = connector.connect(name, stream).await.map_err(refused)?;
                    Ok(UpstreamIo::tls_unix(tls))
                }
            }
        }
    }
}
