//! What connections know of their listener, and the control side of its connections.

use super::{DrainWatch, Entrance};
use crate::downstream::Connection;
use arc_swap::{ArcSwap, Guard};
use meridian_model::{Listener, ListenerName, Security, Service};
use meridian_telemetry::metrics::ListenerMetrics;
use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use tokio::sync::watch;

/// A listener at one generation, ready to serve.
#[derive(Debug)]
pub struct ListenerState<A> {
    /// What is wanted of it.
    pub model: Arc<Listener>,
    /// What protects it, made ready.
    pub entrance: Entrance,
    /// What the handler prepared for it.
    pub app: A,
}

impl<A> ListenerState<A> {
    /// Whether connections of `other` may go on under this state: the same
    /// protocol under the same kind of protection, under the same name.
    pub(super) fn continues(&self, other: &Self) -> bool {
        let kind = |state: &Self| {
            (
                match state.model.service {
                    Service::Http(_) => 0,
                    Service::Tcp(_) => 1,
                    Service::BySni(_) => 2,
                },
                match state.model.security {
                    Security::Plain => 0,
                    Security::Mesh { .. } => 1,
                    Security::Edge(_) => 2,
                },
            )
        };
        self.model.name == other.model.name && kind(self) == kind(other)
    }
}

/// A listener for as long as its connections can follow its changes.
pub struct ListenerHandle<A> {
    name: ListenerName,
    address: Option<SocketAddr>,
    state: ArcSwap<ListenerState<A>>,
    metrics: Arc<ListenerMetrics>,
    drain: watch::Sender<bool>,
    /// Never looked at, so that its clones see a drain that began before them.
    undrained: DrainWatch,
    admitted: AtomicUsize,
    connections: Mutex<Connections<A>>,
    accept_errors: AtomicU64,
}

struct Connections<A> {
    next: u64,
    open: HashMap<u64, Weak<Connection<A>>>,
}

impl<A> ListenerHandle<A> {
    pub(super) fn new(
        state: ListenerState<A>,
        address: Option<SocketAddr>,
        metrics: Arc<ListenerMetrics>,
    ) -> Self {
        let (drain, undrained) = watch::channel(false);
        Self {
            name: state.model.name.clone(),
            address,
            state: ArcSwap::from_pointee(state),
            metrics,
            drain,
            undrained,
            admitted: AtomicUsize::new(0),
            connections: Mutex::new(Connections {
                next: 0,
                open: HashMap::new(),
            }),
            accept_errors: AtomicU64::new(0),
        }
    }

    /// Its name; the label `listener`.
    pub fn name(&self) -> &ListenerName {
        &self.name
    }

    /// The bound address; `None` for a Unix socket.
    pub fn address(&self) -> Option<SocketAddr> {
        self.address
    }

    /// The newest state. Not to be held over a wait: clone the `Arc` for that.
    pub fn state(&self) -> Guard<Arc<ListenerState<A>>> {
        self.state.load()
    }

    /// What it counts.
    pub fn metrics(&self) -> &Arc<ListenerMetrics> {
        &self.metrics
    }

    /// Failures of `accept` since the socket was opened, such as too many open files.
    pub fn accept_errors(&self) -> u64 {
        self.accept_errors.load(Ordering::Relaxed)
    }

    /// The open connections, for looking over them when permissions change.
    /// Takes a lock that only opening and closing connections share.
    pub fn connections(&self) -> Vec<Arc<Connection<A>>> {
        let connections = self.locked();
        connections
            .open
            .values()
            .filter_map(Weak::upgrade)
            .collect()
    }

    /// How many connections are open, those in a handshake too.
    pub fn open_connections(&self) -> usize {
        self.admitted.load(Ordering::Relaxed)
    }

    pub(super) fn swap(&self, state: ListenerState<A>) {
        self.state.store(Arc::new(state));
    }

    pub(super) fn begin_drain(&self) {
        self.drain.send_replace(true);
    }

    pub(super) fn drain_watch(&self) -> DrainWatch {
        self.undrained.clone()
    }

    /// Takes a connection in under the listener's cap; `None` at the cap.
    pub(super) fn admit(self: &Arc<Self>) -> Option<Admitted<A>> {
        let limit = self.state().model.limits.connections as usize;
        let admitted = Admitted {
            listener: Arc::clone(self),
        };
        (self.admitted.fetch_add(1, Ordering::Relaxed) < limit).then_some(admitted)
    }

    pub(super) fn accept_failed(&self) {
        self.accept_errors.fetch_add(1, Ordering::Relaxed);
    }

    /// Lists a connection until the guard is dropped.
    pub(super) fn list(self: &Arc<Self>, connection: &Arc<Connection<A>>) -> Listed<A> {
        let mut connections = self.locked();
        let id = connections.next;
        connections.next += 1;
        connections.open.insert(id, Arc::downgrade(connection));
        Listed {
            listener: Arc::clone(self),
            id,
        }
    }

    fn locked(&self) -> std::sync::MutexGuard<'_, Connections<A>> {
        // A map with an entry too many is no reason to fail.
        self.connections
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl<A> fmt::Debug for ListenerHandle<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ListenerHandle")
            .field("name", &self.name)
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

/// Counts a connection against its listener's cap until dropped.
pub(super) struct Admitted<A> {
    listener: Arc<ListenerHandle<A>>,
}

impl<A> Admitted<A> {
    pub(super) fn listener(&self) -> &Arc<ListenerHandle<A>> {
        &self.listener
    }
}

impl<A> Drop for Admitted<A> {
    fn drop(&mut self) {
        self.listener.admitted.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A connection's entry in its listener's list.
pub(super) struct Listed<A> {
    listener: Arc<ListenerHandle<A>>,
    id: u64,
}

impl<A> Drop for Listed<A> {
    fn drop(&mut self) {
        self.listener.locked().open.remove(&self.id);
    }
}
