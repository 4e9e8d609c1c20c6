//! What the own clients count, each for itself, and all of them together.

use std::time::Duration;

use super::{Latency, Outcome};

/// Requests of one client, or of several.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// One for each good reply.
    pub(super) latencies: Vec<Duration>,
    /// Everything else.
    pub(super) failed: u64,
    /// Bytes moved.
    pub(super) bytes: u64,
}

impl Tally {
    /// Both.
    #[must_use]
    pub(super) fn and(mut self, other: Self) -> Self {
        self.latencies.extend(other.latencies);
        self.failed += other.failed;
        self.bytes += other.bytes;
        self
    }

    /// What it comes to.
    pub(super) fn outcome(mut self, elapsed: Duration) -> Outcome {
        self.latencies.sort_unstable();
        let at = |percent: usize| {
            let last = self.latencies.len().checked_sub(1)?;
            self.latencies.get(last * percent / 100).copied()
        };
        Outcome {
            good: self.latencies.len() as u64,
            failed: self.failed,
            elapsed,
            bytes: self.bytes,
            latency: at(50).zip(at(99)).map(|(median, ninety_ninth)| Latency {
                median,
                ninety_ninth,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_all_clients() {
        let part = |range: std::ops::Range<u64>| Tally {
            latencies: range.map(Duration::from_millis).collect(),
            ..Tally::default()
        };
        let outcome = part(50..101)
            .and(part(0..50))
            .outcome(Duration::from_secs(1));
        let latency = outcome.latency.unwrap();
        assert_eq!(latency.median, Duration::from_millis(50));
        assert_eq!(latency.ninety_ninth, Duration::from_millis(99));
    }
}
