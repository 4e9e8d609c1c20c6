//! Limits on the rate of requests (Envoy's local rate limit): token buckets that fill steadily.
//!
//! One atomic a bucket: no request waits for another.

use crate::route::path_holds;
use meridian_model::{RateLimit, TokenBucket};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// A limit at work. What was taken of it counts for the whole process.
#[derive(Debug)]
pub struct Limiter {
    model: RateLimit,
    /// In the order of the model's routes.
    routes: Vec<Option<Bucket>>,
    rest: Option<Bucket>,
}

/// What is done about a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rate {
    /// It is below the limit, or the limit does not look at it.
    Below,
    /// It is above the limit, and goes on because this one is not enforced.
    Spared,
    /// It is above the limit.
    Refused,
}

impl Limiter {
    /// A limit whose buckets are full at `now`.
    pub fn new(model: RateLimit, now: Instant) -> Self {
        let bucket = |model: Option<TokenBucket>| model.map(|model| Bucket::new(&model, now));
        Self {
            routes: model
                .routes
                .iter()
                .map(|route| bucket(route.bucket))
                .collect(),
            rest: bucket(model.bucket),
            model,
        }
    }

    /// What it was made of.
    pub fn model(&self) -> &RateLimit {
        &self.model
    }

    /// Counts a request to a normalized path. `percent` draws a number below 100.
    pub fn admit(&self, path: &str, now: Instant, mut percent: impl FnMut() -> u8) -> Rate {
        let mut falls_under = |share: u8| share >= 100 || percent() < share;
        if !falls_under(self.model.enabled) {
            return Rate::Below;
        }
        match self.bucket(path) {
            Some(bucket) if !bucket.take(now) => match falls_under(self.model.enforced) {
                true => Rate::Refused,
                false => Rate::Spared,
            },
            _ => Rate::Below,
        }
    }

    /// The first route that matches has the say, also where it sets no limit.
    fn bucket(&self, path: &str) -> Option<&Bucket> {
        let routes = self.model.routes.iter().zip(&self.routes);
        for (route, bucket) in routes {
            if path_holds(&route.path, path) {
                return bucket.as_ref();
            }
        }
        self.rest.as_ref()
    }
}

/// A token bucket, remembered as the time at which it will be full again: the further that is
/// away, the emptier it is. Times are nanoseconds since the bucket was made.
#[derive(Debug)]
struct Bucket {
    made: Instant,
    full_at: AtomicU64,
    /// Time in which one token comes.
    token: u64,
    /// Time in which an empty bucket fills.
    whole: u64,
}

impl Bucket {
    fn new(model: &TokenBucket, now: Instant) -> Self {
        let interval = u64::try_from(model.interval.as_nanos()).unwrap_or(u64::MAX);
        // More than one a nanosecond is no limit that anybody meets.
        let token = (interval / u64::from(model.fill.get())).max(1);
        Self {
            made: now,
            full_at: AtomicU64::new(0),
            token,
            whole: token.saturating_mul(u64::from(model.capacity.get())),
        }
    }

    /// Takes a token; `false` where there is none.
    fn take(&self, now: Instant) -> bool {
        let since = now.saturating_duration_since(self.made).as_nanos();
        let now = u64::try_from(since).unwrap_or(u64::MAX);
        let spend = |full_at: u64| {
            let next = full_at.max(now).saturating_add(self.token);
            (next - now <= self.whole).then_some(next)
        };
        // Nothing else is read or written under it.
        self.full_at
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, spend)
            .is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use meridian_model::route::PathMatch;
    use meridian_model::{Pattern, RouteRate};
    use std::num::NonZeroU32;
    use std::time::Duration;

    fn tokens(capacity: u32, fill: u32, interval: Duration) -> TokenBucket {
        let number = |n| NonZeroU32::new(n).unwrap();
        TokenBucket {
            capacity: number(capacity),
            fill: number(fill),
            interval,
        }
    }

    fn always() -> u8 {
        0
    }

    fn passing(limiter: &Limiter, path: &str, now: Instant, requests: u32) -> u32 {
        let below = |_: &u32| limiter.admit(path, now, always) == Rate::Below;
        u32::try_from((0..requests).filter(below).count()).unwrap()
    }

    #[test]
    fn gives_a_burst_and_then_what_has_come_since() {
        let start = Instant::now();
        let limit = RateLimit::of(tokens(5, 2, Duration::from_secs(1)));
        let limiter = Limiter::new(limit, start);
        assert_eq!(passing(&limiter, "/", start, 9), 5);
        let at = |millis| start + Duration::from_millis(millis);
        assert_eq!(passing(&limiter, "/", at(499), 9), 0);
        assert_eq!(passing(&limiter, "/", at(500), 9), 1);
        assert_eq!(passing(&limiter, "/", at(1_500), 9), 2);
        // A long pause fills it to the brim and no further.
        assert_eq!(passing(&limiter, "/", at(3_600_000), 99), 5);
    }

    #[test]
    fn the_first_matching_route_has_the_say() {
        let start = Instant::now();
        let second = Duration::from_secs(1);
        let route = |path, bucket| RouteRate { path, bucket };
        let limit = RateLimit {
            routes: vec![
                route(PathMatch::Exact("/a/free".into()), None),
                route(PathMatch::Prefix("/a".into()), Some(tokens(2, 1, second))),
                route(
                    PathMatch::Regex(Pattern::new("/[ab]/x").unwrap()),
                    Some(tokens(3, 1, second)),
                ),
            ],
            ..RateLimit::of(tokens(1, 1, second))
        };
        let limiter = Limiter::new(limit, start);
        assert_eq!(passing(&limiter, "/a/free", start, 9), 9);
        assert_eq!(passing(&limiter, "/a/x", start, 9), 2);
        assert_eq!(passing(&limiter, "/b/x", start, 9), 3);
        assert_eq!(passing(&limiter, "/", start, 9), 1);
        assert_eq!(
            passing(&limiter, "/c", start, 9),
            0,
            "one bucket for the rest"
        );
    }

    #[test]
    fn shares_decide_who_is_counted_and_who_is_refused() {
        let start = Instant::now();
        let one = tokens(1, 1, Duration::from_secs(60));
        let with = |enabled, enforced| {
            let limit = RateLimit {
                enabled,
                enforced,
                ..RateLimit::of(one)
            };
            Limiter::new(limit, start)
        };
        let off = with(0, 100);
        assert_eq!(passing(&off, "/", start, 9), 9);
        let watched = with(100, 0);
        assert_eq!(watched.admit("/", start, always), Rate::Below);
        assert_eq!(watched.admit("/", start, always), Rate::Spared);
        let half = with(100, 50);
        assert_eq!(half.admit("/", start, always), Rate::Below);
        assert_eq!(half.admit("/", start, || 49), Rate::Refused);
        assert_eq!(half.admit("/", start, || 50), Rate::Spared);
    }

    #[test]
    fn threads_together_get_no_more_than_there_is() {
        let start = Instant::now();
        let limit = RateLimit::of(tokens(1_000, 1, Duration::from_secs(3600)));
        let limiter = Limiter::new(limit, start);
        let taken: u32 = std::thread::scope(|scope| {
            let thread = || passing(&limiter, "/", start, 800);
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(thread)).collect();
            threads.into_iter().map(|one| one.join().unwrap()).sum()
        });
        assert_eq!(taken, 1_000);
    }

    #[test]
    fn extreme_numbers_neither_overflow_nor_refuse_everything() {
        let start = Instant::now();
        let slow = tokens(u32::MAX, 1, Duration::MAX);
        let fast = tokens(u32::MAX, u32::MAX, Duration::from_nanos(1));
        for bucket in [slow, fast] {
            let limiter = Limiter::new(RateLimit::of(bucket), start);
            assert_eq!(passing(&limiter, "/", start, 1), 1, "{bucket:?}");
        }
        let late = start + Duration::from_secs(u64::from(u32::MAX));
        let limiter = Limiter::new(RateLimit::of(fast), start);
        assert_eq!(passing(&limiter, "/", late, 1), 1);
    }
}
