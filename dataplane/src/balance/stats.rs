//! What is measured about one endpoint, shared by all threads.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Counters of one endpoint. They live as long as the endpoint is listed under
/// its address, however often its weight or health changes.
///
/// Every value stands alone and none guards other memory, so relaxed order is enough, but for
/// `connections`: who waits for one to be closed is woken after the count went down.
#[derive(Debug)]
pub struct EndpointStats {
    /// Times below count from here.
    epoch: Instant,
    active: AtomicU32,
    connections: AtomicU32,
    requests: AtomicU64,
    failures: AtomicU64,
    consecutive_failures: AtomicU32,
    /// Nanoseconds after the epoch; 0 where it was never ejected.
    ejected_until: AtomicU64,
    ejections: AtomicU32,
    latency: AtomicU64,
}

impl EndpointStats {
    /// Nothing measured yet.
    pub fn new(now: Instant) -> Self {
        Self {
            epoch: now,
            active: AtomicU32::new(0),
            connections: AtomicU32::new(0),
            requests: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            consecutive_failures: AtomicU32::new(0),
            ejected_until: AtomicU64::new(0),
            ejections: AtomicU32::new(0),
            latency: AtomicU64::new(Average::INITIAL.packed()),
        }
    }

    /// Counts a request as under way until the guard is dropped.
    pub fn begin(self: &Arc<Self>) -> ActiveRequest {
        self.active.fetch_add(1, Ordering::Relaxed);
        self.requests.fetch_add(1, Ordering::Relaxed);
        ActiveRequest(Arc::clone(self))
    }

    /// Counts a connection as open until the guard is dropped.
    pub fn connect(self: &Arc<Self>) -> OpenConnection {
        self.connections.fetch_add(1, Ordering::SeqCst);
        OpenConnection(Arc::clone(self))
    }

    /// Connections that are open, idle ones included, from this process.
    pub fn connections(&self) -> u32 {
        self.connections.load(Ordering::SeqCst)
    }

    /// Requests under way, from this process.
    pub fn active(&self) -> u32 {
        self.active.load(Ordering::Relaxed)
    }

    /// Requests ever sent.
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// Failures ever counted by passive health checking.
    pub fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    /// Failures since the last success or ejection.
    pub fn consecutive_failures(&self) -> u32 {
        self.consecutive_failures.load(Ordering::Relaxed)
    }

    /// Ejections that the next one's length is reckoned by.
    pub fn ejections(&self) -> u32 {
        self.ejections.load(Ordering::Relaxed)
    }

    /// How much longer it is ejected; `None` where it is not.
    pub fn ejected_for(&self, now: Instant) -> Option<Duration> {
        let until = Duration::from_nanos(self.ejected_until.load(Ordering::Relaxed));
        let left = until.checked_sub(self.since_epoch(now))?;
        (!left.is_zero()).then_some(left)
    }

    /// Adds the time a response took to the moving average. A higher value
    /// replaces it at once, a lower one pulls it down over ten seconds.
    pub fn observe(&self, latency: Duration, now: Instant) {
        let at = self.millis_since_epoch(now);
        let updated = |packed| {
            let average = Average::unpacked(packed);
            Some(average.with(latency.as_secs_f32(), at).packed())
        };
        // The closure always answers, so the update cannot fail.
        let _ = self
            .latency
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, updated);
    }

    /// The moving average. It sinks while nothing is measured, so that an
    /// endpoint that was slow once is tried again.
    pub fn latency(&self, now: Instant) -> Duration {
        let average = Average::unpacked(self.latency.load(Ordering::Relaxed));
        Duration::from_secs_f32(average.decayed(self.millis_since_epoch(now)))
    }

    pub(crate) fn count_success(&self) {
        // Read first: successes are the rule, and a write would take the cache
        // line away from the other threads each time.
        if self.consecutive_failures() != 0 {
            self.consecutive_failures.store(0, Ordering::Relaxed);
        }
    }

    /// Returns the failures in a row, this one included.
    pub(crate) fn count_failure(&self) -> u32 {
        self.failures.fetch_add(1, Ordering::Relaxed);
        self.consecutive_failures.fetch_add(1, Ordering::Relaxed) + 1
    }

    pub(crate) fn forget_failures(&self) {
        self.consecutive_failures.store(0, Ordering::Relaxed);
    }

    pub(crate) fn eject(&self, length: Duration, now: Instant) {
        let until = nanos(self.since_epoch(now).saturating_add(length));
        self.ejected_until.store(until, Ordering::Relaxed);
        self.ejections.fetch_add(1, Ordering::Relaxed);
    }

    /// Ends an ejection before its time. It stays counted.
    pub(crate) fn readmit(&self) {
        self.forget_failures();
        self.ejected_until.store(0, Ordering::Relaxed);
    }

    /// Lets one of the counted ejections be forgotten.
    pub(crate) fn forgive(&self) {
        let fewer = |ejections: u32| ejections.checked_sub(1);
        // At zero there is nothing to forgive.
        let _ = self
            .ejections
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, fewer);
    }

    fn since_epoch(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.epoch)
    }

    /// Wraps after 49 days; [`Average`] subtracts with wrapping.
    fn millis_since_epoch(&self, now: Instant) -> u32 {
        let millis = self.since_epoch(now).as_millis() & u128::from(u32::MAX);
        u32::try_from(millis).unwrap_or_default()
    }
}

/// A request under way; dropping it ends it.
#[derive(Debug)]
pub struct ActiveRequest(Arc<EndpointStats>);

impl Drop for ActiveRequest {
    fn drop(&mut self) {
        self.0.active.fetch_sub(1, Ordering::Relaxed);
    }
}

/// An open connection; dropping it ends it.
#[derive(Debug)]
pub struct OpenConnection(Arc<EndpointStats>);

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Over this time an old measurement loses 63 % of its weight (Linkerd's value).
pub(super) const LATENCY_DECAY: Duration = Duration::from_secs(10);

/// Seconds that are assumed before anything is measured (Linkerd's 30 ms):
/// enough to keep a new endpoint from drawing all traffic.
const INITIAL_LATENCY: f32 = 0.03;

/// A moving average with its time, small enough for one atomic.
#[derive(Clone, Copy)]
struct Average {
    seconds: f32,
    at: u32,
}

impl Average {
    const INITIAL: Self = Self {
        seconds: INITIAL_LATENCY,
        at: 0,
    };

    fn packed(self) -> u64 {
        (u64::from(self.seconds.to_bits()) << 32) | u64::from(self.at)
    }

    fn unpacked(packed: u64) -> Self {
        let half = |bits: u64| u32::try_from(bits & u64::from(u32::MAX)).unwrap_or_default();
        Self {
            seconds: f32::from_bits(half(packed >> 32)),
            at: half(packed),
        }
    }

    fn decayed(self, at: u32) -> f32 {
        self.seconds * self.remaining_weight(at)
    }

    fn with(self, sample: f32, at: u32) -> Self {
        let weight = self.remaining_weight(at);
        let seconds = if sample > self.seconds * weight {
            sample
        } else {
            self.seconds * weight + sample * (1.0 - weight)
        };
        Self { seconds, at }
    }

    fn remaining_weight(self, at: u32) -> f32 {
        let elapsed = at.wrapping_sub(self.at);
        // Another thread may have written a slightly later time than ours.
        if elapsed > u32::MAX / 2 {
            return 1.0;
        }
        let elapsed = Duration::from_millis(u64::from(elapsed));
        (-elapsed.as_secs_f32() / LATENCY_DECAY.as_secs_f32()).exp()
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn active_requests_are_counted_while_they_last() {
        let stats = Arc::new(EndpointStats::new(Instant::now()));
        let first = stats.begin();
        let second = stats.begin();
        assert_eq!(stats.active(), 2);
        drop(first);
        assert_eq!(stats.active(), 1);
        drop(second);
        assert_eq!((stats.active(), stats.requests()), (0, 2));
    }

    #[test]
    fn connections_are_counted_while_they_are_open() {
        let stats = Arc::new(EndpointStats::new(Instant::now()));
        let (first, second) = (stats.connect(), stats.connect());
        assert_eq!(stats.connections(), 2);
        drop(first);
        assert_eq!((stats.connections(), stats.requests()), (1, 0));
        drop(second);
        assert_eq!(stats.connections(), 0);
    }

    #[test]
    fn peaks_count_at_once_and_fade() {
        let start = Instant::now();
        let stats = EndpointStats::new(start);
        let millis = |now| (stats.latency(now).as_secs_f32() * 1000.0).round();
        assert_eq!(millis(start), 30.0);
        stats.observe(Duration::from_millis(500), start);
        assert_eq!(millis(start), 500.0);
        let later = start + LATENCY_DECAY;
        assert_eq!(millis(later), 184.0);
        stats.observe(Duration::from_millis(100), later);
        assert_eq!(millis(later), 247.0);
    }

    #[test]
    fn a_steady_stream_of_fast_answers_pulls_the_average_down() {
        let start = Instant::now();
        let stats = EndpointStats::new(start);
        for tenths in 0..600_000_u64 {
            let now = start + Duration::from_micros(tenths * 100);
            stats.observe(Duration::from_millis(1), now);
        }
        let end = start + Duration::from_secs(60);
        let latency = stats.latency(end).as_secs_f32();
        assert!((latency - 0.001).abs() < 0.0002, "{latency}");
    }

    #[test]
    fn an_ejection_ends_by_itself() {
        let start = Instant::now();
        let stats = EndpointStats::new(start);
        assert_eq!(stats.ejected_for(start), None);
        stats.eject(Duration::from_secs(30), start);
        let left = |seconds| stats.ejected_for(start + Duration::from_secs(seconds));
        assert_eq!(left(10), Some(Duration::from_secs(20)));
        assert_eq!(left(30), None);
        assert_eq!(stats.ejections(), 1);
        stats.forgive();
        stats.forgive();
        assert_eq!(stats.ejections(), 0);
    }
}
