//! The fuzzers' seeds, and mutations of them, for tests that run on stable Rust.
//!
//! No coverage leads these mutations, as it does under `cargo fuzz`; they show in
//! every run that the decoders stand bytes which nobody meant.

use std::panic::{self, AssertUnwindSafe};

use crate::workspace;

/// Mutations of a whole corpus in one test: a second or so.
pub const ROUNDS: usize = 3000;

/// Changes to one seed.
const MOST_CHANGES: usize = 8;

/// What makes decoders think: structure, escapes, ends of ranges.
const TOKENS: [&[u8]; 22] = [
    b"null", b"true", b"-1", b"1e999", b"{}", b"[]", b"\"\"", b"\"", b"%", b"%00", b"%2F", b"%2e",
    b"//", b"/..", b";", b",", b"=", b"\\", b"\x00", b"\xff", b"*", b"(((",
];

/// Inputs of one fuzz target, from `fuzz/corpus/<target>/`.
#[derive(Debug)]
pub struct Corpus {
    target: String,
    seeds: Vec<Vec<u8>>,
}

impl Corpus {
    /// Reads the seeds of a target.
    ///
    /// # Panics
    /// Without a seed.
    pub fn read(target: &str) -> Self {
        let folder = workspace::root().join("fuzz/corpus").join(target);
        let entries = std::fs::read_dir(&folder)
            .unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        let mut paths: Vec<_> = entries
            .map(|entry| entry.expect("an entry of the corpus").path())
            .collect();
        paths.sort();
        let seeds: Vec<_> = paths
            .iter()
            .map(|path| std::fs::read(path).expect("a seed"))
            .collect();
        assert!(!seeds.is_empty(), "no seed in {}", folder.display());
        Self {
            target: target.to_owned(),
            seeds,
        }
    }

    /// Runs a target over every seed, and over so many mutations.
    ///
    /// # Panics
    /// When the target does, with the input that made it.
    pub fn mutated(&self, rounds: usize, run: impl Fn(&[u8])) {
        for seed in &self.seeds {
            self.checked(seed, &run);
        }
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..rounds {
            let seed = &self.seeds[random.usize(..self.seeds.len())];
            self.checked(&mutate(seed, &self.seeds, &mut random), &run);
        }
    }

    fn checked(&self, input: &[u8], run: &impl Fn(&[u8])) {
        let outcome = panic::catch_unwind(AssertUnwindSafe(|| run(input)));
        assert!(
            outcome.is_ok(),
            "{} breaks on {}",
            self.target,
            input.escape_ascii()
        );
    }
}

fn mutate(seed: &[u8], seeds: &[Vec<u8>], random: &mut fastrand::Rng) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    for _ in 0..random.usize(1..=MOST_CHANGES) {
        let at = random.usize(..=bytes.len());
        match random.u8(..6) {
            0 if at < bytes.len() => bytes[at] = random.u8(..),
            1 if at < bytes.len() => bytes[at] ^= 1 << random.u8(..8),
            2 => {
                let end = (at + random.usize(..16)).min(bytes.len());
                bytes.drain(at..end);
            }
            3 => {
                let token = TOKENS[random.usize(..TOKENS.len())];
                bytes.splice(at..at, token.iter().copied());
            }
            4 => {
                let other = &seeds[random.usize(..seeds.len())];
                let start = random.usize(..=other.len());
                let end = (start + random.usize(..64)).min(other.len());
                bytes.splice(at..at, other[start..end].iter().copied());
            }
            _ => bytes.truncate(at.max(1)),
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn corpus() -> Corpus {
        Corpus {
            target: "test".to_owned(),
            seeds: vec![b"hello".to_vec()],
        }
    }

    #[test]
    fn mutations_differ_and_repeat() {
        let collect = || {
            let seen = std::cell::RefCell::new(Vec::new());
            corpus().mutated(50, |input| seen.borrow_mut().push(input.to_vec()));
            seen.into_inner()
        };
        let seen = collect();
        assert_eq!(seen[0], b"hello");
        assert!(seen.iter().filter(|input| *input != b"hello").count() > 40);
        assert_eq!(seen, collect());
    }

    #[test]
    #[should_panic(expected = "test breaks on hello")]
    fn an_input_that_breaks_is_named() {
        corpus().mutated(0, |input| assert!(input.is_empty()));
    }
}
