//! Connections to endpoints, found or made.
//!
//! Every worker is one thread with one runtime, and a connection stays on the
//! thread that made it: its pool is thread-local and takes no lock. Only a request
//! that may not make a connection waits for one of another worker.
//!
//! | module | what |
//! |---|---|
//! | `exclusive` | HTTP/1.1: a connection carries one request at a time, or is idle |
//! | `shared` | HTTP/2: a connection carries many |
//! | `desk` | where requests wait for what another worker has |

mod desk;
mod exclusive;
mod shared;

pub(crate) use exclusive::give_back;

use super::dial::DialError;
use super::profile::TransportProfile;
use super::session::Session;
use crate::balance::{Member, OpenConnection};
use crate::resilience::{Breaker, Permit};
use meridian_model::{EndpointAddress, UpstreamProtocol};
use meridian_telemetry::metrics::{ClusterMetrics, Open};
use std::hash::{Hash, Hasher};
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Notify;
use tokio::time::timeout;

/// How often idle connections are looked through. A closed one holds a file
/// descriptor at most this long.
const SWEEP: Duration = Duration::from_secs(5);

/// How long a request waits for a connection of an endpoint that takes no more, where it
/// could go to another. The other workers need microseconds to hand over an idle one.
const ELSEWHERE: Duration = Duration::from_millis(20);

/// Asks all workers to look whether they have what is waited for.
static WANTED: Notify = Notify::const_new();

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

    /// Open connections to the endpoint, of all workers.
    fn connections(&self) -> u32 {
        self.member.stats().connections()
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
        let lineage = self.profile.lineage();
        match self.address() {
            // The usual kind in one number: it is hashed twice for each request.
            EndpointAddress::Tcp(SocketAddr::V4(address)) => {
                let place = u64::from(address.ip().to_bits()) << 16 | u64::from(address.port());
                state.write_u64(lineage.rotate_right(16) ^ place);
            }
            other => {
                state.write_u64(lineage);
                other.hash(state);
            }
        }
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
    Http2(#[source] h2::Error),
    /// The cluster has no room for another connection, or for another that waits for one.
    #[error("the cluster's connections are used up")]
    Overflow,
}

impl ConnectError {
    /// Whether an endpoint that keeps connections of ours took no other.
    fn turns_away(&self, key: &PoolKey) -> bool {
        matches!(self, Self::Dial(error) if error.turns_away()) && key.connections() > 0
    }
}

/// Finds or makes a connection, and a stream on it. New connections are
/// counted in `metrics`.
///
/// An endpoint that keeps the connections that it has, and takes no other, is at its own
/// limit: then the request waits for one of those. `elsewhere` is asked whether it could go
/// to another endpoint instead; it does not wait for long then.
pub(crate) async fn connect(
    key: &PoolKey,
    limit: Duration,
    metrics: &Arc<ClusterMetrics>,
    elsewhere: impl FnOnce() -> bool,
) -> Result<Session, ConnectError> {
    let is_shared = key.profile.protocol() == UpstreamProtocol::Http2;
    let connected = match is_shared {
        true => shared::connect(key, limit, metrics).await,
        false => exclusive::connect(key, limit, metrics).await,
    };
    let refusal = match connected {
        Err(error) if error.turns_away(key) => error,
        connected => return connected,
    };
    let patience = if elsewhere() { ELSEWHERE } else { limit };
    tracing::debug!(endpoint = %key.address(), "no further connection is taken, waiting for one");
    let taken = timeout(patience, async {
        match is_shared {
            true => shared::take_over(key).await,
            false => exclusive::take_over(key, limit, metrics).await,
        }
    });
    let Ok(taken) = taken.await else {
        return Err(refusal);
    };
    // Nobody else hears of it now.
    if let ConnectError::Dial(DialError::Tls { failure, .. }) = refusal {
        metrics.handshake(failure.metric());
    }
    taken
}

/// Looks through the calling worker's pool, for as long as the worker lives.
pub(crate) async fn sweep_forever() {
    let mut ticks = tokio::time::interval(SWEEP);
    loop {
        let mut wanted = pin!(WANTED.notified());
        // From here on no call is missed.
        wanted.as_mut().enable();
        exclusive::give_wanted();
        shared::lend_wanted();
        tokio::select! {
            _ = ticks.tick() => {
                let now = Instant::now();
                exclusive::sweep(now);
                shared::sweep(now);
            }
            () = wanted => {}
        }
    }
}

/// What a connection keeps with it from its making to its end.
pub(crate) struct Origin {
    /// With what it was made. The key that finds it later may hold a newer one.
    profile: Arc<TransportProfile>,
    /// Where in a handover it is replaced, so that not all are at once.
    share: f32,
    /// Counts it as open, for the cluster.
    _open: Open,
    /// And for the instance. Dropped before the permit, whose end wakes
    /// those who look at the count.
    _connection: OpenConnection,
    /// Counts it against the cluster's limit.
    _permit: Option<Permit>,
}

impl Origin {
    fn new(key: &PoolKey, metrics: &Arc<ClusterMetrics>, permit: Option<Permit>) -> Self {
        Self {
            profile: Arc::clone(&key.profile),
            share: fastrand::f32(),
            _open: metrics.connected(),
            _connection: key.member.connect(),
            _permit: permit,
        }
    }

    fn may_carry(&self, now: Instant) -> bool {
        self.profile.may_carry(self.share, now)
    }
}

/// Leave for a request that has its connection. As in Envoy, requests that wait for one are
/// capped by themselves.
fn leave_for_request(key: &PoolKey) -> Result<Permit, ConnectError> {
    key.breaker.try_request().ok_or(ConnectError::Overflow)
}

/// Leave for a request to wait for a connection, its making included.
fn leave_to_wait(key: &PoolKey) -> Result<Permit, ConnectError> {
    key.breaker.try_pending().ok_or(ConnectError::Overflow)
}
