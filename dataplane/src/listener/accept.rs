//! Taking connections: every worker accepts from the same socket.
//!
//! The kernel wakes the workers that are idle, which spreads connections by
//! itself while there is work. What it does not see is how long connections
//! last; so a worker that holds notably more than the lightest hands a new one
//! over to it.

use super::handle::ListenerHandle;
use super::serve::{Arrival, serve};
use super::socket::{Acceptor, BACKLOG, NO_NEWCOMERS, tune};
use super::{ConnectionHandler, DrainWatch};
use crate::authorize;
use crate::downstream::Socket;
use crate::drain::Drain;
use crate::workers::{WorkerId, Workers};
use arc_swap::ArcSwap;
use meridian_model::Verdict;
use meridian_telemetry::metrics::Layer;
use socket2::SockRef;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::time::Instant;

/// Pause after a failure of `accept` that another try at once would meet again,
/// such as too many open files. It doubles up to the second value, at which
/// closing connections are noticed soon enough.
const PAUSE: [Duration; 2] = [Duration::from_millis(5), Duration::from_secs(1)];

/// How long a closing listener waits for handshakes that are under way: longer than a round trip
/// within a region. Whoever comes in this time is not answered by the kernel, and comes again
/// after a second.
const SETTLE: Duration = Duration::from_millis(3);

/// What the accept loops of one socket share.
pub(super) struct Accepting<H: ConnectionHandler> {
    /// The listener that new connections belong to.
    pub(super) current: ArcSwap<ListenerHandle<H::State>>,
    pub(super) handler: Arc<H>,
    pub(super) workers: Arc<Workers>,
    pub(super) drain: Drain,
}

/// An accepted socket on its way to the worker that serves it.
enum Passage {
    /// It stays with the runtime that accepted it.
    Stays(Socket),
    /// It was taken off that runtime, for another.
    Tcp(std::net::TcpStream),
    Unix(std::os::unix::net::UnixStream),
}

enum Listening {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// Accepts until `stop` turns true, and then what the kernel has accepted for us.
pub(super) async fn run<H: ConnectionHandler>(
    acceptor: Acceptor,
    shared: Arc<Accepting<H>>,
    worker: WorkerId,
    mut stop: DrainWatch,
) {
    let listening = match Listening::new(acceptor) {
        Ok(listening) => listening,
        Err(error) => {
            let listener = shared.current.load();
            tracing::error!(listener = %listener.name(), worker, error = %error, "cannot accept on this worker");
            return;
        }
    };
    let mut pause = PAUSE[0];
    loop {
        let accepted = tokio::select! {
            biased;
            // An error says that the listeners are gone, which is a stop as well.
            _ = stop.wait_for(|stop| *stop) => break,
            accepted = listening.accept() => accepted,
        };
        match accepted {
            Ok((socket, peer)) => {
                pause = PAUSE[0];
                shared.dispatch(worker, socket, peer);
            }
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                let listener = shared.current.load_full();
                listener.accept_failed();
                if pause == PAUSE[0] {
                    tracing::warn!(listener = %listener.name(), error = %error, "cannot accept connections");
                }
                tokio::select! {
                    // An error says that the listeners are gone, which is a stop as well.
                    _ = stop.wait_for(|stop| *stop) => break,
                    () = tokio::time::sleep(pause) => {}
                }
                pause = (pause * 2).min(PAUSE[1]);
            }
        }
    }
    if listening.turn_newcomers_away() {
        tokio::time::sleep(SETTLE).await;
    }
    for (socket, peer) in listening.rest() {
        shared.dispatch(worker, socket, peer);
    }
}

/// Whether only the one connection failed, and not accepting as such.
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::Interrupted
    )
}

impl<H: ConnectionHandler> Accepting<H> {
    fn dispatch(&self, worker: WorkerId, socket: Socket, peer: Option<SocketAddr>) {
        let listener = self.current.load_full();
        if !listener
            .state()
            .model
            .callers
            .admit(peer.map(|peer| peer.ip()))
        {
            listener
                .metrics()
                .verdict(Layer::L4, authorize::label(Verdict::Deny));
            return;
        }
        let Some(admitted) = listener.admit() else {
            listener.metrics().limit_reached();
            return;
        };
        if let Socket::Tcp(stream) = &socket {
            tune(stream);
        }
        let (worker, passage) = match self.workers.lighter_than(worker) {
            None => (worker, Ok(Passage::Stays(socket))),
            Some(other) => (other, Passage::leave(socket)),
        };
        let arrival = Arrival {
            handler: Arc::clone(&self.handler),
            admitted,
            peer,
            accepted: Instant::now(),
            in_flight: self.drain.enter(),
            seat: self.workers.seat(worker),
        };
        self.workers.spawn_on(worker, move || async move {
            match passage.and_then(Passage::arrive) {
                Ok(socket) => serve(socket, arrival).await,
                Err(error) => {
                    let listener = arrival.admitted.listener();
                    tracing::warn!(listener = %listener.name(), error = %error, "cannot serve a connection");
                }
            }
        });
    }
}

impl Passage {
    /// Takes a socket off the runtime of the worker that calls.
    fn leave(socket: Socket) -> io::Result<Self> {
        Ok(match socket {
            Socket::Tcp(stream) => Self::Tcp(stream.into_std()?),
            Socket::Unix(stream) => Self::Unix(stream.into_std()?),
        })
    }

    /// Puts it on the runtime of the worker that calls.
    fn arrive(self) -> io::Result<Socket> {
        Ok(match self {
            Self::Stays(socket) => socket,
            Self::Tcp(stream) => Socket::Tcp(TcpStream::from_std(stream)?),
            Self::Unix(stream) => Socket::Unix(UnixStream::from_std(stream)?),
        })
    }
}

impl Listening {
    fn new(acceptor: Acceptor) -> io::Result<Self> {
        Ok(match acceptor {
            Acceptor::Tcp(listener) => Self::Tcp(TcpListener::from_std(listener)?),
            Acceptor::Unix(listener) => Self::Unix(UnixListener::from_std(listener)?),
        })
    }

    async fn accept(&self) -> io::Result<(Socket, Option<SocketAddr>)> {
        match self {
            Self::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                Ok((Socket::Tcp(stream), Some(peer)))
            }
            Self::Unix(listener) => {
                let (stream, _) = listener.accept().await?;
                Ok((Socket::Unix(stream), None))
            }
        }
    }

    /// Lets no handshake begin from here on, those of all workers, as they share the socket.
    /// Closing it resets the clients whose handshake is under way, and who may take themselves
    /// for connected. A Unix socket knows no handshake.
    fn turn_newcomers_away(&self) -> bool {
        match self {
            Self::Tcp(listener) => SockRef::from(listener).attach_filter(&NO_NEWCOMERS).is_ok(),
            Self::Unix(_) => false,
        }
    }

    /// What clients have connected already: closing the socket would reset
    /// them. Past the runtime, which knows only of what it was told.
    fn rest(self) -> Vec<(Socket, Option<SocketAddr>)> {
        let one = || -> io::Result<(Socket, Option<SocketAddr>)> {
            let (socket, address) = match &self {
                Self::Tcp(listener) => SockRef::from(listener).accept()?,
                Self::Unix(listener) => SockRef::from(listener).accept()?,
            };
            socket.set_nonblocking(true)?;
            // It came with the filter of the listener, or without: then this fails.
            let _ = socket.detach_filter();
            let passage = match &self {
                Self::Tcp(_) => Passage::Tcp(socket.into()),
                Self::Unix(_) => Passage::Unix(socket.into()),
            };
            Ok((passage.arrive()?, address.as_socket()))
        };
        // The bound keeps a flood of new connections from delaying the close.
        (0..BACKLOG).map_while(|_| one().ok()).collect()
    }
}
