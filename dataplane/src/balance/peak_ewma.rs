//! The lower of two drawn members by expected waiting time (Linkerd's balancer).

use super::member::Member;
use super::view::View;
use fastrand::Rng;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The latency to note for an answer: what was measured, or a penalty, because
/// an endpoint that fails fast would otherwise look best of all. 429 and 503
/// count as the time the server asks for, and never as less than other errors.
pub fn penalised_latency(
    measured: Duration,
    status: u16,
    retry_after: Option<Duration>,
) -> Duration {
    match status {
        429 | 503 => retry_after
            .unwrap_or_default()
            .clamp(PENALTY, LONGEST_PENALTY)
            .max(measured),
        500..=599 => measured.max(PENALTY),
        _ => measured,
    }
}

/// Linkerd's values: half of the decay time, and as long as anyone may be
/// kept away by a header.
const PENALTY: Duration = Duration::from_secs(5);
const LONGEST_PENALTY: Duration = Duration::from_secs(300);

#[derive(Debug)]
pub(super) struct PeakEwma;

impl PeakEwma {
    pub(super) fn pick<'a>(&self, view: &View<'a>, rng: &mut Rng) -> Option<&'a Arc<Member>> {
        let count = view.members.len();
        let first = view.draw(rng, |rng| rng.usize(0..count.max(1)))?;
        let second = (0..DRAWS_OF_ANOTHER)
            .filter_map(|_| view.draw(rng, |rng| rng.usize(0..count.max(1))))
            .find(|other| other.id() != first.id());
        match second {
            Some(second) if cost(second, view.now) < cost(first, view.now) => Some(second),
            _ => Some(first),
        }
    }
}

/// Latency times the queue that a new request would join, for each unit of weight.
fn cost(member: &Member, now: Instant) -> f64 {
    let stats = member.stats();
    let queue = f64::from(stats.active()) + 1.0;
    stats.latency(now).as_secs_f64() * queue / f64::from(member.weight())
}

/// Of two members the other is missed this often once in sixteen picks.
const DRAWS_OF_ANOTHER: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failing_fast_does_not_look_good() {
        let seconds = Duration::from_secs;
        let cases = [
            (200, 1, None, 1),
            (404, 1, None, 1),
            (500, 1, None, 5),
            (500, 7, None, 7),
            (503, 1, None, 5),
            (503, 1, Some(1), 5),
            (429, 1, Some(60), 60),
            (429, 1, Some(10_000), 300),
        ];
        for (status, measured, retry_after, expected) in cases {
            let noted = penalised_latency(seconds(measured), status, retry_after.map(seconds));
            assert_eq!(noted, seconds(expected), "{status} {retry_after:?}");
        }
    }
}
