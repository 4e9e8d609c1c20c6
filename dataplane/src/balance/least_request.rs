//! The least busy of some drawn members.
//!
//! Members are drawn in proportion to weight, and the one with the fewest
//! requests under way for its weight is taken. At rest that gives each its
//! share, as Envoy's `weight / (active + 1)` does; under load the draw keeps
//! threads from all running to the same member.

use super::alias::AliasTable;
use super::member::Member;
use super::view::View;
use fastrand::Rng;
use std::sync::Arc;

#[derive(Debug)]
pub(super) struct LeastRequest {
    choices: u32,
    table: AliasTable,
}

impl LeastRequest {
    pub(super) fn new(choices: u32, weights: &[u32]) -> Self {
        Self {
            choices: choices.clamp(1, MAX_CHOICES),
            table: AliasTable::new(weights),
        }
    }

    pub(super) fn pick<'a>(&self, view: &View<'a>, rng: &mut Rng) -> Option<&'a Arc<Member>> {
        let mut best = self.draw(view, rng)?;
        for _ in 1..self.choices {
            let other = self.draw(view, rng)?;
            if load(other) < load(best) {
                best = other;
            }
        }
        Some(best)
    }

    /// A cold member is given back with the chance that it lacks in warmth.
    fn draw<'a>(&self, view: &View<'a>, rng: &mut Rng) -> Option<&'a Arc<Member>> {
        let drawn = view.draw(rng, |rng| self.table.draw(rng))?;
        let warmth = view.warmth(drawn);
        if warmth < 1.0 && rng.f32() >= warmth {
            return view.draw(rng, |rng| self.table.draw(rng));
        }
        Some(drawn)
    }
}

/// Requests under way for each unit of weight.
fn load(member: &Member) -> f64 {
    f64::from(member.stats().active()) / f64::from(member.weight())
}

/// Beyond this a draw costs more than it gains.
const MAX_CHOICES: u32 = 64;
