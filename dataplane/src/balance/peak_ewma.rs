//! The lower of two drawn members by expected waiting time (Linkerd's balancer).

use super::member::Member;
use super::view::View;
use fastrand::Rng;
use std::sync::Arc;
use std::time::Instant;

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
