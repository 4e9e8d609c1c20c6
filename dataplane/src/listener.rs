//! Listeners: sockets that open, change and close while traffic flows.
//!
//! A [`ListenerHandle`] is what connections hold; its state is swapped when a
//! snapshot changes, and every connection sees the newest at its next look. The
//! socket below is kept as long as somebody wants its address: a listener that
//! is renamed, or that changes from TCP to HTTP, never refuses a connection.
//!
//! | module | what |
//! |---|---|
//! | [`registry`] | [`Listeners`]: brings the open sockets to what is wanted |
//! | `socket` | binding, and Unix sockets' files |
//! | `accept` | taking connections, on every worker |
//! | `serve` | one connection: cap, handshake, protocol, drain |
//! | `entrance`, `hello` | what protects connections, and choosing it by SNI |
//! | [`handle`] | the handle, its state and its open connections |

mod accept;
mod entrance;
#[cfg(test)]
pub(crate) mod fixture;
pub mod handle;
mod hello;
pub mod registry;
mod serve;
mod socket;
#[cfg(test)]
mod tests;

pub use entrance::{Behind, Entrance, Way};
pub use handle::{ListenerHandle, ListenerState};
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use hello::take_in;
pub use registry::{BindStatus, Bound, Listeners};
pub use socket::BindError;

use crate::downstream::{Connection, Downstream, Wire};
use std::future::Future;
use std::sync::Arc;
use tokio::sync::watch;

/// Turns to `true` when a listener's connections should end; what Pingora calls
/// a shutdown watch.
pub type DrainWatch = watch::Receiver<bool>;

/// What is done with connections once they have been let in.
///
/// The futures run on the worker that accepted the connection, and are dropped
/// when the connection is closed by [`Connection::close`].
pub trait ConnectionHandler: Send + Sync + 'static {
    /// What the handler keeps for each listener: prepared tables.
    type State: Send + Sync + 'static;

    /// Serves a connection of an HTTP listener. HTTP/1 connections that wait
    /// for a request are ended by the stream itself when `drain` turns true.
    fn http(
        self: Arc<Self>,
        stream: Box<Downstream<Self::State>>,
        drain: DrainWatch,
    ) -> impl Future<Output = ()> + Send;

    /// Serves a connection of a TCP listener. The handler itself ends it when
    /// [`Connection::closed`] returns, so that it can still report.
    fn tcp(
        self: Arc<Self>,
        stream: Wire,
        connection: Arc<Connection<Self::State>>,
        drain: DrainWatch,
    ) -> impl Future<Output = ()> + Send;
}
