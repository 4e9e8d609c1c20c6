//! HTTP/1.1 connections: each carries one request, or is idle.

use super::desk::Desk;
use super::{ConnectError, Origin, PoolKey, WANTED, leave_for_request, leave_to_wait};
use crate::resilience::{Breaker, Permit};
use crate::upstream::UpstreamIo;
use crate::upstream::dial::dial;
use crate::upstream::io::is_quiet;
use crate::upstream::session::Session;
use meridian_telemetry::metrics::ClusterMetrics;
use std::cell::RefCell;
use std::collections::HashMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Idle connections of one key on one worker; one more closes the oldest.
/// As many as a cluster may have unless it says otherwise (Envoy's 1,024): a worker with many
/// clients reads many responses in a row, and what it closed for that it would dial again for the
/// requests behind them. More than were busy at a time there never are, and they age.
const IDLE_PER_KEY: usize = 1024;

/// Requests of all workers that wait for a connection.
static DESK: Desk<PoolKey, Idle> = Desk::new(|key, idle| keep(key, idle.arrived()));

thread_local! {
    /// Idle connections of this worker, the one used last at the end.
    static IDLE: RefCell<HashMap<PoolKey, Vec<Idle>>> = RefCell::default();
}

struct Idle {
    io: Box<UpstreamIo>,
    origin: Origin,
    since: Instant,
}

pub(super) async fn connect(
    key: &PoolKey,
    limit: Duration,
    metrics: &Arc<ClusterMetrics>,
) -> Result<Session, ConnectError> {
    if let Some(idle) = take(key, Instant::now()) {
        return reuse(key, idle);
    }
    // As Envoy counts: a request also waits while its connection is being made.
    let pending = leave_to_wait(key)?;
    match connection_or_leave(key).await {
        Turn::Reuse(idle) => {
            drop(pending);
            reuse(key, idle)
        }
        Turn::Dial(permit) => make(key, permit, limit, metrics).await,
    }
}

/// Waits for one of the connections that an endpoint has, as it takes no more. When one of
/// them was closed it has room again, perhaps.
pub(super) async fn take_over(
    key: &PoolKey,
    limit: Duration,
    metrics: &Arc<ClusterMetrics>,
) -> Result<Session, ConnectError> {
    let pending = leave_to_wait(key)?;
    let mut before = key.connections();
    loop {
        let turn = wait(key, || {
            let now = key.connections();
            if now < before || now == 0 {
                return key.breaker.try_awaited_connection();
            }
            before = now;
            None
        });
        match turn.await {
            Turn::Reuse(idle) => {
                drop(pending);
                return reuse(key, idle);
            }
            Turn::Dial(permit) => match make(key, permit, limit, metrics).await {
                Err(error) if error.turns_away(key) => before = key.connections(),
                made => return made,
            },
        }
    }
}

/// Keeps a connection whose last response was read to its end.
pub(crate) fn give_back(key: PoolKey, origin: Origin, io: Box<UpstreamIo>) {
    let since = Instant::now();
    if key.idle_timeout.is_zero() || !origin.may_carry(since) {
        return;
    }
    keep(key, Idle { io, origin, since });
}

/// Hands over what others wait for, and makes room for those who wait for another endpoint.
pub(super) fn give_wanted() {
    for key in DESK.wanted() {
        match take(&key, Instant::now()) {
            Some(idle) => keep(key, idle),
            None if key.breaker.is_full() => close_one(&key.breaker),
            None => {}
        }
    }
}

/// Closes what is closed already, or was idle for too long.
pub(super) fn sweep(now: Instant) {
    IDLE.with_borrow_mut(|pool| {
        pool.retain(|key, idle| {
            idle.retain_mut(|candidate| candidate.is_good(key.idle_timeout, now));
            !idle.is_empty()
        });
    });
}

/// What a request without a connection gets in its turn.
enum Turn {
    Reuse(Idle),
    Dial(Permit),
}

/// A connection, or leave to make one. The caller's own deadline ends the wait.
async fn connection_or_leave(key: &PoolKey) -> Turn {
    match key.breaker.try_awaited_connection() {
        Some(permit) => Turn::Dial(permit),
        None => wait(key, || key.breaker.try_awaited_connection()).await,
    }
}

/// Waits until a connection is idle, or `leave` allows another.
async fn wait(key: &PoolKey, mut leave: impl FnMut() -> Option<Permit>) -> Turn {
    let mut waiting = DESK.wait(key);
    loop {
        let mut freed = pin!(key.breaker.freed().notified());
        // From here on no wake-up is missed.
        freed.as_mut().enable();
        if let Some(idle) = take(key, Instant::now()) {
            return Turn::Reuse(idle);
        }
        if let Some(permit) = leave() {
            return Turn::Dial(permit);
        }
        WANTED.notify_waiters();
        tokio::select! {
            biased;
            idle = waiting.arrived() => return Turn::Reuse(idle.arrived()),
            () = freed => {}
        }
    }
}

async fn make(
    key: &PoolKey,
    permit: Permit,
    limit: Duration,
    metrics: &Arc<ClusterMetrics>,
) -> Result<Session, ConnectError> {
    let leave = leave_for_request(key)?;
    let io = dial(key.address(), &key.profile, limit).await?;
    let origin = Origin::new(key, metrics, Some(permit));
    let io = Box::new(io.unwaiting());
    Ok(Session::http1(key.clone(), origin, io, leave))
}

fn reuse(key: &PoolKey, idle: Idle) -> Result<Session, ConnectError> {
    match leave_for_request(key) {
        Ok(leave) => {
            let session = Session::http1(key.clone(), idle.origin, idle.io, leave);
            Ok(session.reused())
        }
        Err(error) => {
            keep(key.clone(), idle);
            Err(error)
        }
    }
}

/// The connection used last, if it is still good: the others may then grow
/// old and be closed.
fn take(key: &PoolKey, now: Instant) -> Option<Idle> {
    IDLE.with_borrow_mut(|pool| {
        let idle = pool.get_mut(key)?;
        while let Some(mut candidate) = idle.pop() {
            if candidate.is_good(key.idle_timeout, now) {
                return Some(candidate);
            }
        }
        None
    })
}

/// Gives an idle connection to who waits for it, or keeps it.
fn keep(key: PoolKey, idle: Idle) {
    let Some(idle) = DESK.hand_over(&key, idle) else {
        return;
    };
    // Whoever waits for another endpoint can't use this one, but its place.
    let in_the_way = !DESK.is_empty()
        && key.breaker.is_full()
        && DESK.wants(|wanted| Arc::ptr_eq(&wanted.breaker, &key.breaker));
    if in_the_way {
        return;
    }
    let surplus = IDLE.with_borrow_mut(|pool| {
        let kept = pool.entry(key).or_default();
        let oldest = (kept.len() >= IDLE_PER_KEY).then(|| kept.remove(0));
        kept.push(idle);
        oldest
    });
    drop(surplus);
}

/// Closes an idle connection of a cluster that has no room for one that is waited for.
fn close_one(breaker: &Arc<Breaker>) {
    let closed = IDLE.with_borrow_mut(|pool| {
        let mut kept = pool.iter_mut();
        let (_, kept) =
            kept.find(|(key, kept)| Arc::ptr_eq(&key.breaker, breaker) && !kept.is_empty())?;
        Some(kept.remove(0))
    });
    drop(closed);
}

impl Idle {
    fn is_good(&mut self, idle_timeout: Duration, now: Instant) -> bool {
        now.saturating_duration_since(self.since) < idle_timeout
            && self.origin.may_carry(now)
            && is_quiet(&mut self.io)
    }

    /// The same, on the runtime of the worker that calls.
    fn arrived(mut self) -> Self {
        self.io.settle_here();
        self
    }
}
