//! Consistent hashing over a ring of points.
//!
//! Points are placed as Envoy places them (xxHash64 of `address_n`), so that a
//! request keeps its endpoint when an Envoy is replaced.

use super::member::Member;
use super::view::View;
use fastrand::Rng;
use std::fmt::Write;
use std::sync::Arc;
use twox_hash::XxHash64;

#[derive(Debug)]
pub(super) struct Ring {
    /// Sorted by hash; with the index of the member.
    points: Vec<(u64, u32)>,
}

impl Ring {
    pub(super) fn new(members: &[Arc<Member>], min_size: u64, max_size: u64) -> Self {
        let total: f64 = members
            .iter()
            .map(|member| f64::from(member.weight()))
            .sum();
        let lightest = members.iter().map(|member| member.weight()).min();
        let scale = scale(f64::from(lightest.unwrap_or(1)) / total, min_size, max_size);
        let mut points = Vec::new();
        let mut key = String::new();
        let (mut placed, mut target) = (0.0, 0.0);
        for (member, index) in members.iter().zip(0..) {
            target += scale * f64::from(member.weight()) / total;
            let mut replica = 0_u64;
            while placed < target {
                key.clear();
                // Writing to a string cannot fail.
                let _ = write!(key, "{}_{replica}", member.endpoint().address);
                points.push((XxHash64::oneshot(0, key.as_bytes()), index));
                replica += 1;
                placed += 1.0;
            }
        }
        points.sort_unstable();
        Self { points }
    }

    pub(super) fn pick<'a>(&self, view: &View<'a>, rng: &mut Rng) -> Option<&'a Arc<Member>> {
        let hash = view.hash.unwrap_or_else(|| rng.u64(..));
        let start = self.points.partition_point(|(point, _)| *point < hash);
        let (before, after) = self.points.split_at_checked(start)?;
        after
            .iter()
            .chain(before)
            .filter_map(|(_, index)| view.member(*index as usize))
            .find(|member| view.allows(member))
    }
}

/// Points on the ring: enough that the lightest member has a whole number of
/// them and all together have `min_size`, but not more than `max_size`.
fn scale(lightest: f64, min_size: u64, max_size: u64) -> f64 {
    // Sizes are at most 8 Mi (Consul's bound), exact in f64.
    let (min_size, max_size) = (min_size as f64, max_size as f64);
    ((lightest * min_size).ceil() / lightest).min(max_size)
}
