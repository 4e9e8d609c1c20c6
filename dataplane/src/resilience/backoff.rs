//! How long to wait before a retry.

use fastrand::Rng;
use meridian_model::policy::RetryPolicy;
use std::time::Duration;

/// Wait before the `retry`-th retry, counted from 1: anywhere between nothing
/// and (2ⁿ − 1) times the base, at most `max_backoff`. Envoy's formula; the full
/// jitter keeps clients that failed together from returning together.
pub fn backoff(policy: &RetryPolicy, retry: u32, rng: &mut Rng) -> Duration {
    let factor = 2_u32.saturating_pow(retry).saturating_sub(1);
    let longest = policy
        .backoff
        .saturating_mul(factor)
        .min(policy.max_backoff);
    longest.mul_f64(rng.f64())
}

#[cfg(test)]
mod tests {
    use super::*;
    use meridian_model::policy::RetryOn;

    #[test]
    fn waits_spread_from_nothing_to_a_growing_limit() {
        let policy = RetryPolicy::new(5, RetryOn::default());
        let mut rng = Rng::with_seed(5);
        for (retry, limit) in [(1, 25), (2, 75), (3, 175), (4, 250), (40, 250)] {
            let limit = Duration::from_millis(limit);
            let waits: Vec<_> = (0..1000)
                .map(|_| backoff(&policy, retry, &mut rng))
                .collect();
            assert!(waits.iter().all(|wait| *wait < limit));
            assert!(waits.iter().any(|wait| *wait > limit.mul_f64(0.9)));
            assert!(waits.iter().any(|wait| *wait < limit.mul_f64(0.1)));
        }
    }
}
