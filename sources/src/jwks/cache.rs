//! How long fetched keys are good, and when to fetch again. Pure: the clock is passed in.

use meridian_model::jwt::{KeySet, VerificationKey};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Keys that could not be fetched anew for a day are forgotten: a key that was withdrawn because
/// it leaked must not count for ever, only because its issuer can't be reached.
const STALE_AT_MOST: Duration = Duration::from_secs(24 * 60 * 60);

/// How fast is fetched.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    /// How long an answer is good.
    pub(super) fresh: Duration,
    /// Pause after the first failure.
    pub(super) first_pause: Duration,
    /// The longest pause.
    pub(super) longest_pause: Duration,
    /// The least time between two fetches that tokens ask for.
    pub(super) cool_down: Duration,
}

/// The last good keys, and how the fetches since went.
#[derive(Debug)]
pub(super) struct Cache {
    pace: Pace,
    /// With the time at which they are forgotten.
    held: Option<(Arc<[VerificationKey]>, Instant)>,
    failures: u32,
}

impl Cache {
    pub(super) fn new(pace: Pace) -> Self {
        Self {
            pace,
            held: None,
            failures: 0,
        }
    }

    /// Takes keys in that were fetched before this process began.
    pub(super) fn remember(&mut self, keys: Arc<[VerificationKey]>, age: Duration, now: Instant) {
        self.held = Some((keys, now + STALE_AT_MOST.saturating_sub(age)));
    }

    /// Takes the outcome of a fetch in. Returns what counts now.
    pub(super) fn take(
        &mut self,
        outcome: Result<Arc<[VerificationKey]>, String>,
        now: Instant,
    ) -> KeySet {
        let reason = match outcome {
            Ok(keys) => {
                self.failures = 0;
                self.held = Some((Arc::clone(&keys), now + STALE_AT_MOST));
                return KeySet::Known(keys);
            }
            Err(reason) => reason,
        };
        self.failures = self.failures.saturating_add(1);
        match &self.held {
            Some((keys, end)) if now < *end => KeySet::Known(Arc::clone(keys)),
            _ => KeySet::Unavailable { reason },
        }
    }

    /// From the beginning of one fetch to the next.
    pub(super) fn pause(&self) -> Duration {
        let Some(doublings) = self.failures.checked_sub(1) else {
            return self.pace.fresh;
        };
        let factor = 2_u32.saturating_pow(doublings.min(16));
        let pause = self.pace.first_pause.saturating_mul(factor);
        pause.min(self.pace.longest_pause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache() -> Cache {
        Cache::new(Pace {
            fresh: Duration::from_secs(600),
            first_pause: Duration::from_secs(1),
            longest_pause: Duration::from_secs(10),
            cool_down: Duration::from_secs(30),
        })
    }

    fn failure() -> Result<Arc<[VerificationKey]>, String> {
        Err("away".to_owned())
    }

    #[test]
    fn keys_stay_while_their_issuer_is_away_but_not_for_ever() {
        let (mut cache, start) = (cache(), Instant::now());
        let unavailable = KeySet::Unavailable {
            reason: "away".to_owned(),
        };
        assert_eq!(cache.take(failure(), start), unavailable);
        let keys: Arc<[VerificationKey]> = Arc::new([]);
        let known = KeySet::Known(Arc::clone(&keys));
        assert_eq!(cache.take(Ok(Arc::clone(&keys)), start), known);
        let later = start + STALE_AT_MOST - Duration::from_secs(1);
        assert_eq!(cache.take(failure(), later), known);
        assert_eq!(cache.take(failure(), start + STALE_AT_MOST), unavailable);
        assert_eq!(cache.take(Ok(keys), start + STALE_AT_MOST), known);
    }

    #[test]
    fn keys_of_another_run_grow_no_younger() {
        let (mut cache, start) = (cache(), Instant::now());
        let keys: Arc<[VerificationKey]> = Arc::new([]);
        let minute = Duration::from_secs(60);
        cache.remember(Arc::clone(&keys), STALE_AT_MOST - minute, start);
        assert_eq!(cache.take(failure(), start), KeySet::Known(keys));
        let unavailable = |set| matches!(set, KeySet::Unavailable { .. });
        assert!(unavailable(cache.take(failure(), start + minute)));
        cache.remember(Arc::new([]), STALE_AT_MOST * 2, start);
        assert!(unavailable(cache.take(failure(), start)));
    }

    #[test]
    fn pauses_double_up_to_the_longest() {
        let (mut cache, now) = (cache(), Instant::now());
        let mut pauses = Vec::new();
        for _ in 0..6 {
            cache.take(failure(), now);
            pauses.push(cache.pause().as_secs());
        }
        assert_eq!(pauses, [1, 2, 4, 8, 10, 10]);
        cache.take(Ok(Arc::new([])), now);
        assert_eq!(cache.pause(), Duration::from_secs(600));
    }
}
