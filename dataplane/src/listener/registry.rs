//! Brings the open sockets to what a snapshot wants.

use super::ConnectionHandler;
use super::accept::{self, Accepting};
use super::handle::{ListenerHandle, ListenerState};
use super::socket::{BindError, Listening};
use crate::drain::Drain;
use crate::workers::Workers;
use arc_swap::ArcSwap;
use meridian_model::{Bind, ListenerName};
use meridian_telemetry::{Chain, Metrics};
use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// Wait before a failed bind is tried again; it doubles up to the second
/// value. The first is short, as an address is often just being given up.
const RETRY: [Duration; 2] = [Duration::from_millis(20), Duration::from_secs(10)];

/// All listeners of a process. Belongs to the control side; only what it
/// spawns runs on the workers. Dropping it closes them all.
pub struct Listeners<H: ConnectionHandler> {
    handler: Arc<H>,
    workers: Arc<Workers>,
    metrics: Metrics,
    drain: Drain,
    ports: Vec<Port<H>>,
    failed: Vec<Failed<H::State>>,
    /// Listeners that are gone, while connections of theirs are not.
    draining: Vec<Weak<ListenerHandle<H::State>>>,
}

/// Whether a listener is open.
#[derive(Debug, Clone)]
pub struct BindStatus {
    /// The listener.
    pub name: ListenerName,
    /// Where it is wanted.
    pub bind: Bind,
    /// Where it is.
    pub bound: Bound,
}

/// Where a listener is.
#[derive(Debug, Clone)]
pub enum Bound {
    /// It is open. The address has the real port where port 0 was wanted;
    /// `None` for a Unix socket.
    Open(Option<SocketAddr>),
    /// It could not be opened and is tried again.
    Failed {
        /// Why the last try failed.
        error: Arc<BindError>,
        /// How many did.
        attempts: u32,
    },
}

impl BindStatus {
    /// Whether the listener takes connections.
    pub fn is_open(&self) -> bool {
        matches!(self.bound, Bound::Open(_))
    }
}

struct Port<H: ConnectionHandler> {
    name: ListenerName,
    bind: Bind,
    shared: Arc<Accepting<H>>,
    /// Dropped or true: the accept loops end.
    stop: watch::Sender<bool>,
    /// Held for the socket's file.
    _listening: Listening,
}

struct Failed<A> {
    state: ListenerState<A>,
    error: Arc<BindError>,
    attempts: u32,
    next: Instant,
}

impl<H: ConnectionHandler> Listeners<H> {
    /// None open yet. `drain` counts their connections.
    pub fn new(handler: Arc<H>, workers: Arc<Workers>, metrics: Metrics, drain: Drain) -> Self {
        Self {
            handler,
            workers,
            metrics,
            drain,
            ports: Vec::new(),
            failed: Vec::new(),
            draining: Vec::new(),
        }
    }

    /// Opens what is new, swaps the state of what stays, closes what is not
    /// wanted any more, and says where everything stands. Where an address stays,
    /// the socket does, whatever else changes.
    ///
    /// Closing drains: connections are told, and end at their next rest. With
    /// nothing desired it is the first step of the process's end.
    pub fn reconcile(&mut self, desired: Vec<ListenerState<H::State>>) -> Vec<BindStatus> {
        let (wanted, unwanted): (Vec<_>, Vec<_>) = std::mem::take(&mut self.ports)
            .into_iter()
            .partition(|port| desired.iter().any(|state| port.serves(state)));
        self.ports = wanted;
        for port in unwanted {
            tracing::info!(listener = %port.name, "listener closed");
            let handle = port.close();
            self.draining.push(Arc::downgrade(&handle));
        }
        self.draining.retain(|handle| handle.strong_count() > 0);
        let before = std::mem::take(&mut self.failed);
        let mut claimed: Vec<(Bind, ListenerName)> = Vec::new();
        for state in desired {
            let bind = state.model.bind.clone();
            let owner = claimed.iter().find(|(b, _)| *b == bind && !is_ephemeral(b));
            if let Some((_, owner)) = owner {
                let taken = BindError::Taken(owner.clone());
                self.fail(state, taken, 0);
                continue;
            }
            claimed.push((bind, state.model.name.clone()));
            match self.ports.iter_mut().find(|port| port.serves(&state)) {
                Some(port) => {
                    let replaced = port.update(state, &self.metrics);
                    self.draining
                        .extend(replaced.map(|old| Arc::downgrade(&old)));
                }
                None => {
                    let attempts = before
                        .iter()
                        .find(|failed| failed.state.model.bind == state.model.bind)
                        .map_or(0, |failed| failed.attempts);
                    self.open(state, attempts);
                }
            }
        }
        self.status()
    }

    /// Waits until a failed bind is due, and tries it again. Never returns
    /// while all are open. Safe to drop at any moment.
    pub async fn retry_failed(&mut self) {
        let Some(next) = self.failed.iter().map(|failed| failed.next).min() else {
            return std::future::pending().await;
        };
        tokio::time::sleep_until(next).await;
        let now = Instant::now();
        let (due, later): (Vec<_>, Vec<_>) = std::mem::take(&mut self.failed)
            .into_iter()
            .partition(|failed| failed.next <= now);
        self.failed = later;
        for failed in due {
            let taken = self
                .ports
                .iter()
                .find(|port| port.bind == failed.state.model.bind && !is_ephemeral(&port.bind));
            match taken {
                Some(port) => {
                    let taken = BindError::Taken(port.name.clone());
                    self.fail(failed.state, taken, failed.attempts);
                }
                None => self.open(failed.state, failed.attempts),
            }
        }
    }

    /// Where every desired listener stands. Readiness waits for all to be open.
    pub fn status(&self) -> Vec<BindStatus> {
        let open = self.ports.iter().map(|port| BindStatus {
            name: port.name.clone(),
            bind: port.bind.clone(),
            bound: Bound::Open(port.shared.current.load().address()),
        });
        let failed = self.failed.iter().map(|failed| BindStatus {
            name: failed.state.model.name.clone(),
            bind: failed.state.model.bind.clone(),
            bound: Bound::Failed {
                error: Arc::clone(&failed.error),
                attempts: failed.attempts,
            },
        });
        open.chain(failed).collect()
    }

    /// The listeners that have connections or take them, those that drain too:
    /// for looking over live connections when permissions change.
    pub fn handles(&self) -> Vec<Arc<ListenerHandle<H::State>>> {
        let open = self
            .ports
            .iter()
            .map(|port| port.shared.current.load_full());
        let draining = self.draining.iter().filter_map(Weak::upgrade);
        open.chain(draining).collect()
    }

    fn open(&mut self, state: ListenerState<H::State>, attempts: u32) {
        match Listening::open(&state.model.bind)
            .and_then(|open| open.acceptors(self.workers.count()))
        {
            Ok((listening, acceptors)) => {
                let (name, bind) = (state.model.name.clone(), state.model.bind.clone());
                let metrics = self.metrics.listener(name.as_str());
                let handle = ListenerHandle::new(state, listening.address(), metrics);
                let address = handle.address().map(tracing::field::display);
                tracing::info!(listener = %name, address, "listener opened");
                let shared = Arc::new(Accepting {
                    current: ArcSwap::from_pointee(handle),
                    handler: Arc::clone(&self.handler),
                    workers: Arc::clone(&self.workers),
                    drain: self.drain.clone(),
                });
                let (stop, stopped) = watch::channel(false);
                for (worker, acceptor) in acceptors.into_iter().enumerate() {
                    let (shared, stopped) = (Arc::clone(&shared), stopped.clone());
                    let accepting = self.drain.accepting();
                    self.workers.spawn_on(worker, move || async move {
                        accept::run(acceptor, shared, worker, stopped).await;
                        drop(accepting);
                    });
                }
                self.ports.push(Port {
                    name,
                    bind,
                    shared,
                    stop,
                    _listening: listening,
                });
            }
            Err(error) => self.fail(state, error, attempts),
        }
    }

    fn fail(&mut self, state: ListenerState<H::State>, error: BindError, attempts: u32) {
        let wait = (RETRY[0] * 2_u32.saturating_pow(attempts.min(16))).min(RETRY[1]);
        tracing::warn!(
            listener = %state.model.name,
            error = %Chain(&error),
            retry_in = ?wait,
            "listener cannot be opened"
        );
        self.failed.push(Failed {
            state,
            error: Arc::new(error),
            attempts: attempts + 1,
            next: Instant::now() + wait,
        });
    }
}

impl<H: ConnectionHandler> Drop for Listeners<H> {
    fn drop(&mut self) {
        for port in self.ports.drain(..) {
            // Nobody is left to look over its connections.
            let _ = port.close();
        }
    }
}

impl<H: ConnectionHandler> Port<H> {
    /// Whether this is the socket that the listener needs. One of port 0 has an
    /// address of its own and goes by its name.
    fn serves(&self, state: &ListenerState<H::State>) -> bool {
        self.bind == state.model.bind
            && (!is_ephemeral(&self.bind) || self.name == state.model.name)
    }

    /// Takes a new state over; the handle that connections can not follow, if so.
    fn update(
        &mut self,
        state: ListenerState<H::State>,
        metrics: &Metrics,
    ) -> Option<Arc<ListenerHandle<H::State>>> {
        let current = self.shared.current.load_full();
        if current.state().continues(&state) {
            current.swap(state);
            return None;
        }
        self.name = state.model.name.clone();
        let metrics = metrics.listener(self.name.as_str());
        let handle = ListenerHandle::new(state, current.address(), metrics);
        self.shared.current.store(Arc::new(handle));
        current.begin_drain();
        Some(current)
    }

    fn close(self) -> Arc<ListenerHandle<H::State>> {
        self.stop.send_replace(true);
        let current = self.shared.current.load_full();
        current.begin_drain();
        current
    }
}

/// Whether the system chooses the port.
fn is_ephemeral(bind: &Bind) -> bool {
    matches!(bind, Bind::Tcp(address) if address.port() == 0)
}
