//! How fast a watch may ask: token buckets for answers, backoff for failures.

use std::time::{Duration, Instant};

/// The speed of one watch.
///
/// Consul's documents ask for a token bucket of 2 with one more about every 15 s, so that a query
/// which returns at once, again and again, doesn't hurt the servers. Applied to every return that
/// would also hold back real changes: the third of three rotations would be seen 15 s late. So
/// returns are told apart. One that brought news was worth asking for and is only kept from
/// running wild; one that brought nothing (index moved by another object, a blocking query that
/// doesn't block) is what the guidance is about.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pacing {
    /// How long a blocking query waits, at most 10 min (Consul's bound). Up to a 16th is taken
    /// off at random, so that watches begun together don't return together.
    pub wait: Duration,
    /// Returns that brought a new value.
    pub changed: Rate,
    /// Returns that brought nothing new.
    pub unchanged: Rate,
    /// Pauses after failures.
    pub backoff: Backoff,
}

/// A token bucket: `burst` at once, then one each `interval`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// How many pass without a pause.
    pub burst: u32,
    /// How long it takes until one more may pass.
    pub interval: Duration,
}

/// Pauses that double from `first` to `most`; half of each is random.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// The first pause.
    pub first: Duration,
    /// The longest pause.
    pub most: Duration,
}

impl Default for Pacing {
    /// For queries that the local agent answers from its own state or cache: registration, leaf,
    /// roots, intentions, chain, health.
    ///
    /// - Wait 60 s (Consul: 5 min), so that an agent which hangs without closing the connection
    ///   is found out after 94 s at most.
    /// - News: 64 at once, then 20 a second. No rotation or intention change comes later than
    ///   50 ms, and a service flapping under a large list costs no more than 20 lists a second.
    /// - No news: 16 at once, then one a second. Intentions and chains share one index with all
    ///   configuration entries, so an operator's script that writes a dozen of them must not
    ///   delay the one that matters; after that, a second is the most it waits.
    fn default() -> Self {
        Self {
            wait: Duration::from_secs(60),
            changed: Rate {
                burst: 64,
                interval: Duration::from_millis(50),
            },
            unchanged: Rate {
                burst: 16,
                interval: Duration::from_secs(1),
            },
            backoff: Backoff::default(),
        }
    }
}

impl Pacing {
    /// Consul's documented numbers for every return, changed or not: wait 5 min, 2 at once, then
    /// one each 15 s. For queries that reach the servers and whose changes may be seen late.
    #[must_use]
    pub fn documented() -> Self {
        let rate = Rate {
            burst: 2,
            interval: Duration::from_secs(15),
        };
        Self {
            wait: Duration::from_secs(300),
            changed: rate,
            unchanged: rate,
            backoff: Backoff::default(),
        }
    }
}

impl Default for Backoff {
    /// 250 ms, doubling to 10 s: an agent restarts within a second or two, and one that was away
    /// for long is found again within 10 s.
    fn default() -> Self {
        Self {
            first: Duration::from_millis(250),
            most: Duration::from_secs(10),
        }
    }
}

impl Backoff {
    /// The pause after the `consecutive`-th failure (1 is the first); `jitter` in `0.0..1.0`.
    #[must_use]
    pub fn pause(&self, consecutive: u32, jitter: f64) -> Duration {
        let doublings = consecutive.saturating_sub(1).min(31);
        let whole = self.first.saturating_mul(1 << doublings).min(self.most);
        whole / 2 + (whole / 2).mul_f64(jitter.clamp(0.0, 1.0))
    }
}

/// A token bucket, kept as the time at which it will be full again.
#[derive(Clone, Debug)]
pub(super) struct Bucket {
    rate: Rate,
    full_at: Instant,
}

impl Bucket {
    pub(super) fn new(rate: Rate, now: Instant) -> Self {
        Self { rate, full_at: now }
    }

    /// Takes one token; how long to wait for it.
    pub(super) fn take(&mut self, now: Instant) -> Duration {
        self.full_at = self.full_at.max(now) + self.rate.interval;
        let allowance = self.rate.interval.saturating_mul(self.rate.burst);
        self.full_at.duration_since(now).saturating_sub(allowance)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bucket_of_two_passes_two_then_one_each_interval() {
        let start = Instant::now();
        let interval = Duration::from_secs(15);
        let mut bucket = Bucket::new(Rate { burst: 2, interval }, start);
        assert_eq!(bucket.take(start), Duration::ZERO);
        assert_eq!(bucket.take(start), Duration::ZERO);
        assert_eq!(bucket.take(start), interval);
        assert_eq!(bucket.take(start + interval), interval);
        let rested = start + interval * 20;
        assert_eq!(bucket.take(rested), Duration::ZERO);
        assert_eq!(bucket.take(rested), Duration::ZERO);
        assert_eq!(bucket.take(rested), interval);
    }

    #[test]
    fn backoff_doubles_to_its_bound() {
        let backoff = Backoff::default();
        assert_eq!(backoff.pause(1, 1.0), Duration::from_millis(250));
        assert_eq!(backoff.pause(1, 0.0), Duration::from_millis(125));
        assert_eq!(backoff.pause(3, 1.0), Duration::from_secs(1));
        assert_eq!(backoff.pause(u32::MAX, 1.0), Duration::from_secs(10));
    }
}
