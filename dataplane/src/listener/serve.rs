//! One connection, from accept to close.

use super::handle::{Admitted, ListenerHandle};
use super::{ConnectionHandler, DrainWatch};
use crate::downstream::{Connection, Downstream, Socket, TlsFacts, Wire};
use crate::drain::InFlight;
use crate::tls::{HandshakeError, HandshakeFailure, PeerCertificate};
use crate::workers::Seat;
use meridian_model::Service;
use meridian_telemetry::Chain;
use meridian_telemetry::metrics::TlsResult;
use rustls::ServerConfig;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// How long a connection that has not said a word is kept when its listener
/// drains: its first request may be on the way, as the client could not know.
const FIRST_WORD: Duration = Duration::from_millis(50);

/// A connection that was just accepted, with what it counts in.
pub(super) struct Arrival<H: ConnectionHandler> {
    pub(super) handler: Arc<H>,
    pub(super) admitted: Admitted<H::State>,
    pub(super) peer: Option<SocketAddr>,
    pub(super) accepted: Instant,
    pub(super) in_flight: InFlight,
    pub(super) seat: Seat,
}

/// Serves a connection to its end.
pub(super) async fn serve<H: ConnectionHandler>(socket: Socket, arrival: Arrival<H>) {
    let Arrival {
        handler,
        admitted,
        peer,
        accepted,
        in_flight: _in_flight,
        seat: _seat,
    } = arrival;
    let listener = Arc::clone(admitted.listener());
    let _open = listener.metrics().accepted();
    let state = Arc::clone(&listener.state());
    let local = match &socket {
        Socket::Tcp(stream) => stream.local_addr().ok(),
        Socket::Unix(_) => None,
    };
    let (wire, facts) = match &state.tls {
        None => (Wire::Plain(socket), None),
        Some(config) => {
            let deadline = accepted + state.model.deadlines.handshake;
            match handshake(socket, Arc::clone(config), deadline).await {
                Ok((stream, facts)) => {
                    listener.metrics().handshake(TlsResult::Ok);
                    (Wire::Tls(stream), Some(facts))
                }
                Err(error) => {
                    report(&listener, peer, &error);
                    return;
                }
            }
        }
    };
    let is_http = matches!(state.model.service, Service::Http(_));
    let first_byte = Instant::now() + state.model.deadlines.first_byte;
    // The newest state is read through the listener from here on.
    drop(state);
    let connection = Arc::new(Connection::new(
        Arc::clone(&listener),
        [peer, local],
        accepted,
        facts,
    ));
    let _listed = listener.list(&connection);
    let drain = listener.drain_watch();
    if is_http {
        http(handler, wire, &connection, first_byte, drain).await;
    } else {
        handler.tcp(wire, connection, drain).await;
    }
}

async fn http<H: ConnectionHandler>(
    handler: Arc<H>,
    wire: Wire,
    connection: &Arc<Connection<H::State>>,
    first_byte: Instant,
    mut drain: DrainWatch,
) {
    let watch = drain.clone();
    let stream = tokio::select! {
        opened = timeout_at(first_byte, Downstream::open(wire, Arc::clone(connection))) => {
            // A client that says nothing gets no answer either.
            let Ok(Ok(stream)) = opened else { return };
            stream
        }
        () = silent_in_drain(drain.clone()) => return,
        () = connection.closed() => return,
    };
    let mut serving = std::pin::pin!(handler.http(stream, watch));
    tokio::select! {
        () = &mut serving => return,
        () = connection.closed() => return,
        // An error says that the listener is gone, which is a drain as well.
        _ = drain.wait_for(|drain| *drain) => connection.drain(),
    }
    tokio::select! {
        () = serving => {}
        () = connection.closed() => {}
    }
}

async fn silent_in_drain(mut drain: DrainWatch) {
    // An error says that the listener is gone, which is a drain as well.
    let _ = drain.wait_for(|drain| *drain).await;
    tokio::time::sleep(FIRST_WORD).await;
}

async fn handshake(
    socket: Socket,
    config: Arc<ServerConfig>,
    deadline: Instant,
) -> Result<(Box<TlsStream<Socket>>, TlsFacts), HandshakeError> {
    let accept = TlsAcceptor::from(config).accept(socket);
    let stream = timeout_at(deadline, accept)
        .await
        .map_err(|_| HandshakeError::timeout())??;
    let session = stream.get_ref().1;
    let facts = TlsFacts {
        version: session
            .protocol_version()
            .and_then(|version| version.as_str())
            .unwrap_or("unknown"),
        cipher: session
            .negotiated_cipher_suite()
            .and_then(|suite| suite.suite().as_str())
            .unwrap_or("unknown"),
        sni: session.server_name().map(Arc::from),
        http2: session.alpn_protocol().map(|protocol| protocol == b"h2"),
        peer: PeerCertificate::of(session.peer_certificates())?,
    };
    Ok((Box::new(stream), facts))
}

fn report<A>(listener: &ListenerHandle<A>, peer: Option<SocketAddr>, error: &HandshakeError) {
    listener.metrics().handshake(error.failure.metric());
    let client = peer.map(tracing::field::display);
    let spiffe = error.peer.as_ref().map(tracing::field::display);
    let (listener, reason) = (listener.name(), error.failure.as_str());
    let failure = error.failure;
    let error = Chain(error);
    match failure {
        // Health checks of the TCP kind do this all day.
        HandshakeFailure::Closed => {
            tracing::debug!(%listener, client, reason, %error, "handshake failed");
        }
        HandshakeFailure::Protocol | HandshakeFailure::Timeout => {
            tracing::info!(%listener, client, reason, %error, "handshake failed");
        }
        _ => tracing::warn!(%listener, client, spiffe, reason, %error, "handshake failed"),
    }
}
