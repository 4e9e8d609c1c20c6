//! What one pick sees: members, and which of them may be chosen now.

use super::member::{EndpointId, Member};
use super::slow_start::SlowStart;
use fastrand::Rng;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Instant;

pub(super) struct View<'a> {
    pub(super) members: &'a [Arc<Member>],
    pub(super) now: Instant,
    pub(super) hash: Option<u64>,
    /// Counts picks over all threads and updates, for taking turns.
    pub(super) turn: &'a AtomicU64,
    pub(super) slow_start: Option<SlowStart>,
    /// Endpoints that were tried before.
    pub(super) exclude: &'a [EndpointId],
    /// Whether ejected endpoints are taken too.
    pub(super) ejected_too: bool,
}

impl<'a> View<'a> {
    pub(super) fn member(&self, index: usize) -> Option<&'a Arc<Member>> {
        self.members.get(index)
    }

    /// Whether the member may be chosen now.
    pub(super) fn allows(&self, member: &Member) -> bool {
        (self.ejected_too || member.stats().ejected_for(self.now).is_none())
            && !self.exclude.contains(&member.id())
    }

    /// The first allowed member from `start` on, around the list.
    pub(super) fn any_from(&self, start: usize) -> Option<&'a Arc<Member>> {
        let (before, after) = self.members.split_at_checked(start)?;
        after
            .iter()
            .chain(before)
            .find(|member| self.allows(member))
    }

    /// An allowed member out of what `draw` offers.
    pub(super) fn draw(
        &self,
        rng: &mut Rng,
        mut draw: impl FnMut(&mut Rng) -> usize,
    ) -> Option<&'a Arc<Member>> {
        for _ in 0..DRAWS {
            let member = self.member(draw(rng))?;
            if self.allows(member) {
                return Some(member);
            }
        }
        self.any_from(rng.usize(0..self.members.len().max(1)))
    }

    /// The share of its weight that a member has earned so far, 0 to 1.
    pub(super) fn warmth(&self, member: &Member) -> f32 {
        match (self.slow_start, member.since) {
            (Some(slow_start), Some(since)) => {
                slow_start.factor(self.now.saturating_duration_since(since))
            }
            _ => 1.0,
        }
    }
}

/// Draws before the list is walked. With the usual cap of 10 % ejected all of
/// them miss once in a hundred million picks.
const DRAWS: usize = 8;
