//! In turn, in proportion to weight, interleaved.
//!
//! A shared counter gives each pick a place in the list and a round. In each
//! round the heaviest members are taken, and a member with half their weight
//! in every second one: it is skipped unless its weight, added up over the
//! rounds, passes a whole. That is lock-free, exact over time, and spreads a
//! member's turns evenly. (Envoy's scheduler keeps a heap under each thread.)

use super::member::Member;
use super::view::View;
use std::sync::Arc;
use std::sync::atomic::Ordering;

#[derive(Debug)]
pub(super) struct RoundRobin {
    heaviest: u32,
}

impl RoundRobin {
    pub(super) fn new(weights: &[u32]) -> Self {
        Self {
            heaviest: weights.iter().copied().max().unwrap_or(1),
        }
    }

    pub(super) fn pick<'a>(&self, view: &View<'a>) -> Option<&'a Arc<Member>> {
        let count = u64::try_from(view.members.len()).ok()?;
        let mut misses = 0;
        for _ in 0..view.members.len().saturating_mul(ROUNDS) {
            let turn = view.turn.fetch_add(1, Ordering::Relaxed);
            let round = turn.checked_div(count)?;
            let index = usize::try_from(turn % count).ok()?;
            let member = view.member(index)?;
            if !self.has_turn(view, member, index, round) {
                continue;
            }
            if view.allows(member) {
                return Some(member);
            }
            misses += 1;
            if misses == MISSES {
                return view.any_from(index);
            }
        }
        view.any_from(0)
    }

    fn has_turn(&self, view: &View<'_>, member: &Member, index: usize, round: u64) -> bool {
        let weight = u64::from(member.weight()) * WHOLE / u64::from(self.heaviest);
        let warmth = view.warmth(member);
        let share = if warmth < 1.0 {
            // At most WHOLE, which f32 holds exactly.
            (weight as f32 * warmth) as u64
        } else {
            weight
        };
        // Neighbours of one weight take their turns in different rounds.
        let shift = (index as u64).wrapping_mul(WHOLE / 2);
        round.wrapping_mul(share).wrapping_add(shift) % WHOLE >= WHOLE - share
    }
}

/// Weight of the heaviest member. A power of two, so that the counter may wrap.
const WHOLE: u64 = 1 << 16;

/// Rounds without a turn before a member is just searched for. The lightest
/// weight that counts is 1 of 128.
const ROUNDS: usize = 128;

/// Members that had their turn and may not be chosen, before one is just
/// searched for: keeps a pick short where nearly everyone is ejected.
const MISSES: u32 = 16;
