//! Chance that can be repeated: all of a run follows from one number.

use std::env;

/// Seed of runs that say nothing else.
const SEED: u64 = 20_261_126;

/// Draws from a seed.
#[derive(Debug, Clone)]
pub(crate) struct Draw {
    random: fastrand::Rng,
}

/// The seed of this run: `DIFFERENTIAL_SEED`, or always the same one.
pub(crate) fn seed() -> u64 {
    env::var("DIFFERENTIAL_SEED").map_or(SEED, |text| {
        text.parse().expect("DIFFERENTIAL_SEED is a number")
    })
}

impl Draw {
    /// Draws that follow from the run's seed and a name.
    pub(crate) fn new(seed: u64, name: &str) -> Self {
        let mixed = name.bytes().fold(seed, |mixed, byte| {
            mixed.wrapping_mul(31).wrapping_add(byte.into())
        });
        Self {
            random: fastrand::Rng::with_seed(mixed),
        }
    }

    /// One of several.
    pub(crate) fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.random.usize(..from.len())].clone()
    }

    /// From one to so many of several, each once.
    pub(crate) fn some<T: Clone + PartialEq>(&mut self, from: &[T], most: usize) -> Vec<T> {
        let mut drawn = Vec::new();
        for _ in 0..=self.below(most) {
            let one = self.pick(from);
            if !drawn.contains(&one) {
                drawn.push(one);
            }
        }
        drawn
    }

    /// True so many times in a hundred.
    pub(crate) fn chance(&mut self, percent: u32) -> bool {
        self.random.u32(..100) < percent
    }

    /// A number below a bound.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.random.usize(..bound)
    }
}
