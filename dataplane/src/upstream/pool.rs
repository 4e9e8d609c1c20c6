//! Idle HTTP/1.1 connections and shared HTTP/2 connections, by worker.
//!
//! Every worker is one thread with one runtime, and a connection stays on the
//! thread that made it: the pool is thread-local and takes no lock.

use super::dial::{DialError, dial};
use super::io::is_quiet;
use super::profile::TransportProfile;
use super::session::Session;
use crate::balance::{Member, OpenConnection};
use crate::resilience::{Breaker, Permit, Resource};
use meridian_model::{EndpointAddress, UpstreamProtocol};
use meridian_telemetry::metrics::{ClusterMetrics, Open};
use pingora_core::connectors::http::v2::{ConnectionRef, H2HandshakeSettings, handshake};
use pingora_core::protocols::Stream;
use pingora_core::protocols::http::v1::client::HttpSession as Http1;
use pingora_error::Error;
use std::cell::RefCell;
use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// Idle connections of one key on one worker; one more closes the oldest.
/// Enough for a burst, and 1,000 endpoints at that rate are still only memory.
const IDLE_PER_KEY: usize = 128;

/// How often idle connections are looked through. A closed one holds a file
/// descriptor at most this long.
const SWEEP: Duration = Duration::from_secs(5);

/// Streams on one HTTP/2 connection before another is made; the least that
/// RFC 9113 recommends servers to allow.
const STREAMS_PER_CONNECTION: usize = 100;

/// Receive windows, far under pingora's 8 MiB: a slow client may make us hold
/// a whole window for it.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 4 << 20;

/// What a connection must agree in to be reused: how it was protected and
/// proved (the profile's lineage), and where it leads.
#[derive(Clone)]
pub(crate) struct PoolKey {
    profile: Arc<TransportProfile>,
    member: Arc<Member>,
    idle_timeout: Duration,
    breaker: Arc<Breaker>,
}

impl PoolKey {
    pub(crate) fn new(
        profile: Arc<TransportProfile>,
        member: Arc<Member>,
        idle_timeout: Duration,
        breaker: Arc<Breaker>,
    ) -> Self {
        Self {
            profile,
            member,
            idle_timeout,
            breaker,
        }
    }

    fn address(&self) -> &EndpointAddress {
        &self.member.endpoint().address
    }
}

impl PartialEq for PoolKey {
    fn eq(&self, other: &Self) -> bool {
        self.profile.lineage() == other.profile.lineage() && self.address() == other.address()
    }
}

impl Eq for PoolKey {}

impl Hash for PoolKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.profile.lineage().hash(state);
        self.address().hash(state);
    }
}

/// Why there is no connection to send a request on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    /// None could be made.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// One was made, and its HTTP/2 preface failed.
    #[error("HTTP/2 handshake failed")]
    Http2(#[source] Box<Error>),
    /// The cluster has no room for another connection, or for another that waits for one.
    #[error("the cluster's connections are used up")]
    Overflow,
}

/// Finds or makes a connection, and a stream on it. New connections are
/// counted in `metrics`.
pub(crate) async fn connect(
    key: &PoolKey,
    limit: Duration,
    metrics: &Arc<ClusterMetrics>,
) -> Result<Session, ConnectError> {
    match key.profile.protocol() {
        UpstreamProtocol::Http2 => connect_http2(key, limit, metrics).await,
        UpstreamProtocol::Http1 | UpstreamProtocol::Tcp => connect_http1(key, limit, metrics).await,
    }
}

/// What a connection keeps with it from its making to its end.
pub(crate) struct Origin {
    /// With what it was made. The key that finds it later may hold a newer one.
    profile: Arc<TransportProfile>,
    /// Where in a handover it is replaced, so that not all are at once.
    share: f32,
    /// Counts it as open, for the cluster and for the instance.
    _open: (Open, OpenConnection),
    /// Counts it against the cluster's limit.
    _permit: Option<Permit>,
}

impl Origin {
    fn new(key: &PoolKey, metrics: &Arc<ClusterMetrics>, permit: Option<Permit>) -> Self {
        Self {
            profile: Arc::clone(&key.profile),
            share: fastrand::f32(),
            _open: (metrics.connected(), key.member.connect()),
            _permit: permit,
        }
    }

    fn may_carry(&self, now: Instant) -> bool {
        self.profile.may_carry(self.share, now)
    }
}

/// Keeps a connection whose last response was read to its end.
pub(crate) fn give_back(key: PoolKey, origin: Origin, stream: Stream) {
    let now = Instant::now();
    if key.idle_timeout.is_zero() || !origin.may_carry(now) {
        return;
    }
    let breaker = Arc::clone(&key.breaker);
    let surplus = POOL.with_borrow_mut(|pool| {
        // Whoever waits on another worker, or for another endpoint, can't use this one.
        let others_wait = breaker.is_full() && breaker.usage(Resource::Pending).used > 0;
        if others_wait && !pool.is_awaited(&key) {
            return Some(origin);
        }
        let idle = pool.http1.entry(key).or_default();
        let oldest = (idle.len() >= IDLE_PER_KEY).then(|| idle.remove(0).origin);
        idle.push(Idle {
            stream,
            origin,
            since: now,
        });
        oldest
    });
    drop(surplus);
    breaker.freed().notify_waiters();
}

/// Looks through the calling worker's pool, for as long as the worker lives.
pub(crate) async fn sweep_forever() {
    let mut ticks = tokio::time::interval(SWEEP);
    loop {
        let mut wanted = pin!(WANTED.notified());
        // From here on no call is missed.
        wanted.as_mut().enable();
        POOL.with_borrow_mut(Pool::give_up_wanted);
        tokio::select! {
            _ = ticks.tick() => POOL.with_borrow_mut(|pool| pool.sweep(Instant::now())),
            () = wanted => {}
        }
    }
}

/// Asks all workers to give up idle connections of clusters whose limit others wait for.
static WANTED: Notify = Notify::const_new();

thread_local! {
    static POOL: RefCell<Pool> = RefCell::default();
}

#[derive(Default)]
struct Pool {
    http1: HashMap<PoolKey, Vec<Idle>>,
    http2: HashMap<PoolKey, Shared>,
    /// How many requests of this worker wait for an HTTP/1.1 connection.
    awaited: HashMap<PoolKey, usize>,
}

struct Idle {
    stream: Stream,
    origin: Origin,
    since: Instant,
}

/// HTTP/2 connections to one endpoint.
#[derive(Default)]
struct Shared {
    connections: Vec<Multiplexed>,
    /// There while one is being made: others wait for it instead of making
    /// one each.
    dialing: Option<Arc<Notify>>,
}

struct Multiplexed {
    connection: ConnectionRef,
    origin: Origin,
    last_used: Instant,
}

async fn connect_http1(
    key: &PoolKey,
    limit: Duration,
    metrics: &Arc<ClusterMetrics>,
) -> Result<Session, ConnectError> {
    let idle = POOL.with_borrow_mut(|pool| pool.take_idle(key, Instant::now()));
    let idle = match idle {
        Some(idle) => idle,
        None => {
            // As Envoy counts: a request also waits while its connection is being made.
            let _pending = key.breaker.try_pending().ok_or(ConnectError::Overflow)?;
            match connection_or_leave(key).await {
                Turn::Reuse(idle) => idle,
                Turn::Dial(permit) => {
                    let leave = leave_for_request(key)?;
                    let io = dial(key.address(), &key.profile, limit).await?;
                    let origin = Origin::new(key, metrics, Some(permit));
                    let session = Http1::new(Box::new(io.unwaiting()));
                    return Ok(Session::http1(key.clone(), origin, session, leave));
                }
            }
        }
    };
    match leave_for_request(key) {
        Ok(leave) => {
            let session = Http1::new(idle.stream);
            Ok(Session::http1(key.clone(), idle.origin, session, leave).reused())
        }
        Err(error) => {
            give_back(key.clone(), idle.origin, idle.stream);
            Err(error)
        }
    }
}

/// Leave for a request that has its connection. As in Envoy, requests that wait for one are
/// capped by themselves.
fn leave_for_request(key: &PoolKey) -> Result<Permit, ConnectError> {
    key.breaker.try_request().ok_or(ConnectError::Overflow)
}

/// What a request without a connection gets in its turn.
enum Turn {
    Reuse(Idle),
    Dial(Permit),
}

/// Waits until a connection is idle, or another may be made. The caller's own
/// deadline ends the wait.
async fn connection_or_leave(key: &PoolKey) -> Turn {
    if let Some(permit) = key.breaker.try_connection() {
        return Turn::Dial(permit);
    }
    let _awaiting = Awaiting::new(key);
    loop {
        let mut freed = pin!(key.breaker.freed().notified());
        // From here on no wake-up is missed.
        freed.as_mut().enable();
        let idle = POOL.with_borrow_mut(|pool| pool.take_idle(key, Instant::now()));
        if let Some(idle) = idle {
            return Turn::Reuse(idle);
        }
        if let Some(permit) = key.breaker.try_connection() {
            return Turn::Dial(permit);
        }
        WANTED.notify_waiters();
        freed.await;
    }
}

/// Counts a request that waits for a connection of one key.
struct Awaiting<'a> {
    key: &'a PoolKey,
}

impl<'a> Awaiting<'a> {
    fn new(key: &'a PoolKey) -> Self {
        POOL.with_borrow_mut(|pool| *pool.awaited.entry(key.clone()).or_default() += 1);
        Self { key }
    }
}

impl Drop for Awaiting<'_> {
    fn drop(&mut self) {
        POOL.with_borrow_mut(|pool| {
            if let Some(count) = pool.awaited.get_mut(self.key) {
                *count -= 1;
                if *count == 0 {
                    pool.awaited.remove(self.key);
                }
            }
        });
    }
}

async fn connect_http2(
    key: &PoolKey,
    limit: Duration,
    metrics: &Arc<ClusterMetrics>,
) -> Result<Session, ConnectError> {
    let deadline = tokio::time::Instant::now() + limit;
    loop {
        match POOL.with_borrow_mut(|pool| pool.shared(key, Instant::now())) {
            Next::Use(connection) => match connection.spawn_stream().await {
                Ok(Some(stream)) => {
                    let leave = leave_for_request(key)?;
                    return Ok(Session::http2(stream, leave).reused());
                }
                Ok(None) => {}
                // The next round sees the mark, and makes another connection.
                Err(_) => connection.mark_shutdown(),
            },
            Next::Wait(done) => {
                // Looking and waiting happen without a pause between them, on
                // the only thread that could wake us: no wake-up is missed.
                if tokio::time::timeout_at(deadline, done.notified())
                    .await
                    .is_err()
                {
                    return Err(DialError::Timeout(limit).into());
                }
            }
            Next::Dial(turn) => {
                let _pending = key.breaker.try_pending().ok_or(ConnectError::Overflow)?;
                let permit = leave_for_http2(key)?;
                let connection = dial_http2(key, deadline, limit).await?;
                let stream = connection
                    .spawn_stream()
                    .await
                    .map_err(ConnectError::Http2)?;
                let kept = Multiplexed {
                    connection,
                    origin: Origin::new(key, metrics, permit),
                    last_used: Instant::now(),
                };
                POOL.with_borrow_mut(|pool| {
                    let shared = pool.http2.entry(key.clone()).or_default();
                    shared.connections.push(kept);
                });
                drop(turn);
                if let Some(stream) = stream {
                    return Ok(Session::http2(stream, leave_for_request(key)?));
                }
            }
        }
    }
}

/// Leave for another connection. The first of an endpoint needs none, on each worker: the
/// requests of one worker cannot use a connection of another (Envoy does the same).
fn leave_for_http2(key: &PoolKey) -> Result<Option<Permit>, ConnectError> {
    let permit = key.breaker.try_connection();
    let is_first = POOL.with_borrow(|pool| {
        let shared = pool.http2.get(key);
        shared.is_none_or(|shared| shared.connections.is_empty())
    });
    match permit {
        None if !is_first => Err(ConnectError::Overflow),
        permit => Ok(permit),
    }
}

async fn dial_http2(
    key: &PoolKey,
    deadline: tokio::time::Instant,
    limit: Duration,
) -> Result<ConnectionRef, ConnectError> {
    let io = dial(key.address(), &key.profile, limit).await?;
    let mut settings = H2HandshakeSettings::new();
    settings.max_streams = STREAMS_PER_CONNECTION;
    settings.stream_window_size = Some(STREAM_WINDOW);
    settings.connection_window_size = Some(CONNECTION_WINDOW);
    match tokio::time::timeout_at(deadline, handshake(Box::new(io), settings)).await {
        Ok(result) => result.map_err(ConnectError::Http2),
        Err(_) => Err(DialError::Timeout(limit).into()),
    }
}

/// What to do about an HTTP/2 request.
enum Next {
    Use(ConnectionRef),
    Wait(Arc<Notify>),
    Dial(DialTurn),
}

/// The right to make a connection; others wait until it is dropped.
struct DialTurn {
    key: PoolKey,
}

impl Drop for DialTurn {
    fn drop(&mut self) {
        let waiting = POOL.with_borrow_mut(|pool| {
            let shared = pool.http2.get_mut(&self.key)?;
            shared.dialing.take()
        });
        if let Some(waiting) = waiting {
            waiting.notify_waiters();
        }
    }
}

impl Pool {
    /// The connection used last, if it is still good: the others may then grow
    /// old and be closed.
    fn take_idle(&mut self, key: &PoolKey, now: Instant) -> Option<Idle> {
        let idle = self.http1.get_mut(key)?;
        while let Some(mut candidate) = idle.pop() {
            if candidate.is_good(key.idle_timeout, now) {
                return Some(candidate);
            }
        }
        None
    }

    /// Whether a request of this worker waits for a connection of this key.
    fn is_awaited(&self, key: &PoolKey) -> bool {
        self.awaited.contains_key(key)
    }

    /// Closes idle connections that hold back others of their cluster: one for
    /// each request that waits.
    fn give_up_wanted(&mut self) {
        self.http1.retain(|key, idle| {
            let waiting = key.breaker.usage(Resource::Pending).used as usize;
            if waiting > 0 && !self.awaited.contains_key(key) && key.breaker.is_full() {
                idle.drain(..waiting.min(idle.len()));
            }
            !idle.is_empty()
        });
    }

    fn shared(&mut self, key: &PoolKey, now: Instant) -> Next {
        let shared = self.http2.entry(key.clone()).or_default();
        shared
            .connections
            .retain(|c| !c.connection.is_closed() && !c.connection.is_shutting_down());
        if let Some(free) = shared
            .connections
            .iter_mut()
            .find(|c| c.connection.more_streams_allowed() && c.origin.may_carry(now))
        {
            free.last_used = now;
            return Next::Use(free.connection.clone());
        }
        match &shared.dialing {
            Some(done) => Next::Wait(Arc::clone(done)),
            None => {
                shared.dialing = Some(Arc::new(Notify::new()));
                Next::Dial(DialTurn { key: key.clone() })
            }
        }
    }

    fn sweep(&mut self, now: Instant) {
        self.http1.retain(|key, idle| {
            idle.retain_mut(|candidate| candidate.is_good(key.idle_timeout, now));
            !idle.is_empty()
        });
        self.http2.retain(|key, shared| {
            shared.connections.retain(|c| {
                let unused = now.duration_since(c.last_used) >= key.idle_timeout;
                let leaving = unused || !c.origin.may_carry(now);
                !(c.connection.is_closed() || leaving && c.connection.is_idle())
            });
            !shared.connections.is_empty() || shared.dialing.is_some()
        });
    }
}

impl Idle {
    fn is_good(&mut self, idle_timeout: Duration, now: Instant) -> bool {
        now.duration_since(self.since) < idle_timeout
            && self.origin.may_carry(now)
            && is_quiet(&mut self.stream)
    }
}
