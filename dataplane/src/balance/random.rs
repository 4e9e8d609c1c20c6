//! By chance, in proportion to weight.

use super::alias::AliasTable;
use super::member::Member;
use super::view::View;
use fastrand::Rng;
use std::sync::Arc;

#[derive(Debug)]
pub(super) struct Random(AliasTable);

impl Random {
    pub(super) fn new(weights: &[u32]) -> Self {
        Self(AliasTable::new(weights))
    }

    pub(super) fn pick<'a>(&self, view: &View<'a>, rng: &mut Rng) -> Option<&'a Arc<Member>> {
        view.draw(rng, |rng| self.0.draw(rng))
    }
}
