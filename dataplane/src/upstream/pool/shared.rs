//! HTTP/2 connections: each carries many requests, of other workers too where it must.

use super::desk::Desk;
use super::{ConnectError, Origin, PoolKey, WANTED, leave_for_request, leave_to_wait};
use crate::resilience::Permit;
use crate::upstream::DialError;
use crate::upstream::dial::dial;
use crate::upstream::http2::Connection;
use crate::upstream::session::Session;
use meridian_telemetry::metrics::ClusterMetrics;
use std::cell::RefCell;
use std::collections::HashMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Notify;
use tokio::time::timeout;

/// How long the other workers may take to look whether they have a connection with room:
/// much longer than they need, or than it takes to make one nearby.
const LOOK: Duration = Duration::from_millis(100);

/// Workers that may not make a connection and wait for another's.
static DESK: Desk<PoolKey, Lent> = Desk::new(keep);

thread_local! {
    static SHARED: RefCell<HashMap<PoolKey, Shared>> = RefCell::default();
}

/// What one worker knows of HTTP/2 connections to one endpoint.
#[derive(Default)]
struct Shared {
    connections: Vec<Multiplexed>,
    /// There while one is being made: others wait for it instead of making
    /// one each.
    dialing: Option<Arc<Notify>>,
}

struct Multiplexed {
    lent: Lent,
    last_used: Instant,
}

/// A connection as one of the workers holds it that use it. The bytes are moved by the
/// worker that made it.
#[derive(Clone)]
struct Lent {
    connection: Connection,
    origin: Arc<Origin>,
}

pub(super) async fn connect(
    key: &PoolKey,
    limit: Duration,
    metrics: &Arc<ClusterMetrics>,
) -> Result<Session, ConnectError> {
    let deadline = tokio::time::Instant::now() + limit;
    loop {
        match look(key, Instant::now()) {
            Next::Use(connection) => {
                if let Some(session) = open_stream(key, &connection).await? {
                    return Ok(session.reused());
                }
            }
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
                let _pending = leave_to_wait(key)?;
                let permit = match leave_to_dial(key).await? {
                    Leave::Dial(permit) => permit,
                    Leave::Use(lent) => {
                        keep(key.clone(), lent);
                        continue;
                    }
                };
                let connection = dial_http2(key, deadline, limit).await?;
                let slot = connection.slot().await.map_err(ConnectError::Http2)?;
                let origin = Arc::new(Origin::new(key, metrics, permit));
                let made = Lent { connection, origin };
                keep(key.clone(), made.clone());
                lend(key, &made);
                drop(turn);
                if let Some(slot) = slot {
                    return Ok(Session::http2(slot, leave_for_request(key)?));
                }
            }
        }
    }
}

/// Waits for a connection that another worker has, as the endpoint takes no more.
pub(super) async fn take_over(key: &PoolKey) -> Result<Session, ConnectError> {
    let _pending = leave_to_wait(key)?;
    loop {
        // Asked again and again, as the end of a stream wakes nobody.
        let Ok(lent) = timeout(LOOK, borrow(key)).await else {
            continue;
        };
        keep(key.clone(), lent.clone());
        if let Some(session) = open_stream(key, &lent.connection).await? {
            return Ok(session.reused());
        }
    }
}

/// Lends what other workers wait for.
pub(super) fn lend_wanted() {
    for key in DESK.wanted() {
        let now = Instant::now();
        let free = SHARED.with_borrow_mut(|pool| {
            let free = pool.get_mut(&key)?.free(now)?;
            Some(free.lent.clone())
        });
        if let Some(free) = free {
            lend(&key, &free);
        }
    }
}

/// Closes what nobody has used for too long.
pub(super) fn sweep(now: Instant) {
    SHARED.with_borrow_mut(|pool| {
        pool.retain(|key, shared| {
            shared.connections.retain(|c| {
                let unused = now.saturating_duration_since(c.last_used) >= key.idle_timeout;
                let leaving = unused || !c.lent.origin.may_carry(now);
                let connection = &c.lent.connection;
                !(connection.is_closed() || leaving && connection.is_idle())
            });
            !shared.connections.is_empty() || shared.dialing.is_some()
        });
    });
}

/// A stream on a connection; `None` where it takes no more.
async fn open_stream(
    key: &PoolKey,
    connection: &Connection,
) -> Result<Option<Session>, ConnectError> {
    match connection.slot().await {
        Ok(Some(slot)) => Ok(Some(Session::http2(slot, leave_for_request(key)?))),
        // Full, or leaving: another is looked for, or made.
        Ok(None) | Err(_) => Ok(None),
    }
}

/// What a worker does that has no connection with room for a stream.
enum Leave {
    Dial(Option<Permit>),
    Use(Lent),
}

/// Leave for another connection. Where the cluster has no room for one, that of another worker
/// is used. If there is none that can be, the first connection of a worker to an endpoint needs no
/// leave, so that no request waits for what can't come (Envoy's rule).
async fn leave_to_dial(key: &PoolKey) -> Result<Leave, ConnectError> {
    if let Some(permit) = key.breaker.try_awaited_connection() {
        return Ok(Leave::Dial(Some(permit)));
    }
    let is_first = SHARED.with_borrow(|pool| {
        let shared = pool.get(key);
        shared.is_none_or(|shared| shared.connections.is_empty())
    });
    if !is_first {
        return Err(ConnectError::Overflow);
    }
    let mut waiting = DESK.wait(key);
    let leave = timeout(LOOK, async {
        loop {
            let mut freed = pin!(key.breaker.freed().notified());
            // From here on no wake-up is missed.
            freed.as_mut().enable();
            if let Some(permit) = key.breaker.try_awaited_connection() {
                return Leave::Dial(Some(permit));
            }
            WANTED.notify_waiters();
            tokio::select! {
                biased;
                lent = waiting.arrived() => return Leave::Use(lent),
                () = freed => {}
            }
        }
    });
    Ok(leave.await.unwrap_or(Leave::Dial(None)))
}

/// Waits for a connection of another worker.
async fn borrow(key: &PoolKey) -> Lent {
    let mut waiting = DESK.wait(key);
    WANTED.notify_waiters();
    waiting.arrived().await
}

/// Lends to all who wait for such a connection.
fn lend(key: &PoolKey, lent: &Lent) {
    while DESK.wants(|wanted| wanted == key) {
        // Who leaves just now needs nothing.
        drop(DESK.hand_over(key, lent.clone()));
    }
}

fn keep(key: PoolKey, lent: Lent) {
    SHARED.with_borrow_mut(|pool| {
        let kept = &mut pool.entry(key).or_default().connections;
        let known = |c: &Multiplexed| Arc::ptr_eq(&c.lent.origin, &lent.origin);
        if !kept.iter().any(known) {
            kept.push(Multiplexed {
                lent,
                last_used: Instant::now(),
            });
        }
    });
}

async fn dial_http2(
    key: &PoolKey,
    deadline: tokio::time::Instant,
    limit: Duration,
) -> Result<Connection, ConnectError> {
    let io = dial(key.address(), &key.profile, limit).await?;
    match tokio::time::timeout_at(deadline, Connection::open(io)).await {
        Ok(result) => result.map_err(ConnectError::Http2),
        Err(_) => Err(DialError::Timeout(limit).into()),
    }
}

/// What to do about an HTTP/2 request.
enum Next {
    Use(Connection),
    Wait(Arc<Notify>),
    Dial(DialTurn),
}

/// The right to make a connection; others wait until it is dropped.
struct DialTurn {
    key: PoolKey,
}

impl Drop for DialTurn {
    fn drop(&mut self) {
        let waiting = SHARED.with_borrow_mut(|pool| {
            let shared = pool.get_mut(&self.key)?;
            shared.dialing.take()
        });
        if let Some(waiting) = waiting {
            waiting.notify_waiters();
        }
    }
}

fn look(key: &PoolKey, now: Instant) -> Next {
    SHARED.with_borrow_mut(|pool| {
        let shared = pool.entry(key.clone()).or_default();
        if let Some(free) = shared.free(now) {
            free.last_used = now;
            return Next::Use(free.lent.connection.clone());
        }
        match &shared.dialing {
            Some(done) => Next::Wait(Arc::clone(done)),
            None => {
                shared.dialing = Some(Arc::new(Notify::new()));
                Next::Dial(DialTurn { key: key.clone() })
            }
        }
    })
}

impl Shared {
    /// A connection with room for a stream. Forgets those that are closed.
    fn free(&mut self, now: Instant) -> Option<&mut Multiplexed> {
        self.connections.retain(|c| !c.lent.connection.is_retired());
        self.connections
            .iter_mut()
            .find(|c| c.lent.connection.has_room() && c.lent.origin.may_carry(now))
    }
}
