//! One connection, from accept to close.

use super::handle::{Admitted, ListenerHandle};
use super::{Behind, ConnectionHandler, DrainWatch, Entrance, Way, hello};
use crate::downstream::{Connection, Downstream, Rewound, Socket, TlsFacts, Wire};
use crate::drain::InFlight;
use crate::tls::{HandshakeError, HandshakeFailure, PeerCertificate, resumption};
use crate::workers::Seat;
use meridian_model::{Security, Service};
use meridian_telemetry::Chain;
use meridian_telemetry::metrics::TlsResult;
use rustls::ServerConfig;
use rustls::pki_types::UnixTime;
use rustls::server::{Acceptor, ClientHello};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;

/// How long a connection that has not said a word is kept when its listener
/// drains: its first request may be on the way, as the client could not know.
/// Generous, since a client on a busy machine may pause between the two; an idle
/// process has no such connection and does not wait.
const FIRST_WORD: Duration = Duration::from_millis(500);

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
    let behind = match state.model.service {
        Service::Http(_) => Behind::Http,
        Service::Tcp(_) | Service::BySni(_) => Behind::Bytes,
    };
    let deadline = accepted + state.model.deadlines.handshake;
    let alpn = match state.model.security {
        Security::Edge(_) => Disagreement::Refused,
        Security::Plain | Security::Mesh { .. } => Disagreement::Ignored,
    };
    // Each part on the heap, and only for as long as it lasts: most connections are idle ones,
    // and would hold the room that a handshake once needed.
    let let_in = match Box::pin(let_in(socket, &state.entrance, behind, alpn, deadline)).await {
        Ok(let_in) => let_in,
        Err(error) => {
            report(&listener, peer, &error);
            return;
        }
    };
    if let_in.facts.is_some() {
        listener.metrics().handshake(TlsResult::Ok);
    }
    let first_byte = Instant::now() + state.model.deadlines.first_byte;
    // The newest state is read through the listener from here on.
    drop(state);
    let connection = Arc::new(Connection::new(
        Arc::clone(&listener),
        [peer, local],
        accepted,
        let_in.chosen_by,
        let_in.facts,
    ));
    let _listed = listener.list(&connection);
    let drain = listener.drain_watch();
    match let_in.behind {
        Behind::Http => http(handler, let_in.wire, &connection, first_byte, drain).await,
        Behind::Bytes => Box::pin(handler.tcp(let_in.wire, connection, drain)).await,
    }
}

/// A connection that is through the entrance.
struct LetIn {
    wire: Wire,
    facts: Option<TlsFacts>,
    chosen_by: Option<Arc<str>>,
    behind: Behind,
}

async fn let_in(
    socket: Socket,
    entrance: &Entrance,
    behind: Behind,
    alpn: Disagreement,
    deadline: Instant,
) -> Result<LetIn, HandshakeError> {
    let (stream, chosen_by, way) = match entrance {
        Entrance::Plain => (Rewound::from(socket), None, Way::Through),
        Entrance::Tls(config) => {
            let way = Way::Ends(Arc::clone(config), behind);
            (Rewound::from(socket), None, way)
        }
        Entrance::BySni(ways) => {
            let (stream, name) = timeout_at(deadline, hello::read(socket))
                .await
                .map_err(|_| HandshakeError::timeout())??;
            let Some(way) = ways.find(&name) else {
                let wire = Wire::Plain(stream);
                // It is closed either way; a reset is what Envoy answers with.
                let _ = wire.reset_on_close();
                return Err(hello::unknown(Some(&name)));
            };
            (stream, Some(name), way.clone())
        }
    };
    Ok(match way {
        Way::Through => LetIn {
            wire: Wire::Plain(stream),
            facts: None,
            chosen_by,
            behind,
        },
        Way::Ends(config, behind) => {
            let (stream, facts) = handshake(stream, config, alpn, deadline).await?;
            LetIn {
                wire: Wire::Tls(stream),
                facts: Some(facts),
                chosen_by,
                behind,
            }
        }
    })
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
            Box::new(stream)
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
    socket: Rewound,
    config: Arc<ServerConfig>,
    alpn: Disagreement,
    deadline: Instant,
) -> Result<(Box<TlsStream<Rewound>>, TlsFacts), HandshakeError> {
    let accept = async {
        let begun = LazyConfigAcceptor::new(Acceptor::default(), socket.reading_ahead()).await?;
        let config = match alpn {
            Disagreement::Refused => config,
            Disagreement::Ignored => agreeable(config, &begun.client_hello()),
        };
        begun.into_stream(config).await
    };
    let stream = timeout_at(deadline, accept)
        .await
        .map_err(|_| HandshakeError::timeout())??;
    let session = stream.get_ref().1;
    resumption::check(session, UnixTime::now())?;
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

/// What becomes of a client that offers by ALPN nothing that is spoken here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Disagreement {
    /// Its handshake fails (RFC 7301, 3.2).
    Refused,
    /// Nothing is agreed on, and its first bytes tell: in the mesh, as at Envoy, where caller and
    /// service may be told of different protocols.
    Ignored,
}

/// The configuration for a client: one that does not speak of protocols, where they have none in
/// common.
fn agreeable(config: Arc<ServerConfig>, hello: &ClientHello<'_>) -> Arc<ServerConfig> {
    let own = &config.alpn_protocols;
    let agreed = hello
        .alpn()
        .is_none_or(|mut offered| offered.any(|name| own.iter().any(|own| own == name)));
    if agreed || own.is_empty() {
        return config;
    }
    let mut config = ServerConfig::clone(&config);
    config.alpn_protocols.clear();
    Arc::new(config)
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
        HandshakeFailure::Protocol | HandshakeFailure::UnknownName | HandshakeFailure::Timeout => {
            tracing::info!(%listener, client, reason, %error, "handshake failed");
        }
        _ => tracing::warn!(%listener, client, spiffe, reason, %error, "handshake failed"),
    }
}
