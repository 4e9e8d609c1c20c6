//! Consistent hashing over a fixed table (Maglev, NSDI 2016, 3.4).
//!
//! Filled as Envoy fills it, weights included, with xxHash64 of the address.

use super::member::Member;
use super::view::View;
use fastrand::Rng;
use std::sync::Arc;
use twox_hash::XxHash64;

#[derive(Debug)]
pub(super) struct Maglev {
    /// Indexes of members; empty where there is none.
    table: Vec<u32>,
}

impl Maglev {
    pub(super) fn new(members: &[Arc<Member>]) -> Self {
        let heaviest = members.iter().map(|member| member.weight()).max();
        let Some(heaviest) = heaviest.map(u64::from) else {
            return Self { table: Vec::new() };
        };
        let mut claims: Vec<_> = members.iter().map(|member| Claim::new(member)).collect();
        let mut table = vec![FREE; PLACES];
        let mut filled = 0;
        for round in 1_u64.. {
            for (claim, index) in claims.iter_mut().zip(0..) {
                // The heaviest claims a place in every round, others in fewer.
                if round * claim.weight < claim.due {
                    continue;
                }
                claim.due += heaviest;
                *claim.next_free(&mut table) = index;
                filled += 1;
                if filled == PLACES {
                    return Self { table };
                }
            }
        }
        Self { table }
    }

    pub(super) fn pick<'a>(&self, view: &View<'a>, rng: &mut Rng) -> Option<&'a Arc<Member>> {
        let hash = view.hash.unwrap_or_else(|| rng.u64(..));
        let start = usize::try_from(hash % PLACES as u64).ok()?;
        let (before, after) = self.table.split_at_checked(start)?;
        // The next place belongs to another member as good as any: places are
        // permuted, so an ejected member's share spreads over all.
        after
            .iter()
            .chain(before)
            .filter_map(|index| view.member(*index as usize))
            .find(|member| view.allows(member))
    }
}

/// Envoy's default. Prime, so that every skip visits every place.
const PLACES: usize = 65_537;
const FREE: u32 = u32::MAX;

/// A member's order of preference among the places.
struct Claim {
    place: usize,
    skip: usize,
    weight: u64,
    due: u64,
}

impl Claim {
    fn new(member: &Member) -> Self {
        let key = member.endpoint().address.to_string();
        let hash = |seed, modulus: usize| {
            let hash = XxHash64::oneshot(seed, key.as_bytes()) % modulus as u64;
            // Smaller than the modulus, which is a usize.
            usize::try_from(hash).unwrap_or_default()
        };
        Self {
            place: hash(0, PLACES),
            skip: hash(1, PLACES - 1) + 1,
            weight: u64::from(member.weight()),
            due: 0,
        }
    }

    /// Called only while a place is free, which the skip then reaches.
    fn next_free<'a>(&mut self, table: &'a mut [u32]) -> &'a mut u32 {
        while table[self.place] != FREE {
            self.place = (self.place + self.skip) % PLACES;
        }
        &mut table[self.place]
    }
}
