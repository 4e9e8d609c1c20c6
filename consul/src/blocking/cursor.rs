//! Consul's rules for blocking queries, as a state machine without clock, chance or network.
//!
//! The rules are those of "Blocking Queries" in Consul's API documents, "Implementation Details".

use std::time::{Duration, Instant};

use super::pacing::{Bucket, Pacing};
use crate::query::Meta;

/// From where a blocking query goes on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Position {
    /// Nothing known: the next answer comes at once.
    #[default]
    Start,
    /// After an index (`X-Consul-Index`); never 0.
    Index(u64),
    /// After a content hash (`X-Consul-ContentHash`); opaque.
    Hash(String),
}

/// Where one watch stands, and when it may ask again.
#[derive(Clone, Debug)]
pub struct Cursor {
    pacing: Pacing,
    position: Position,
    changed: Bucket,
    unchanged: Bucket,
    failures: u32,
}

impl Cursor {
    /// A cursor that knows nothing yet.
    #[must_use]
    pub fn new(pacing: Pacing, now: Instant) -> Self {
        Self {
            pacing,
            position: Position::Start,
            changed: Bucket::new(pacing.changed, now),
            unchanged: Bucket::new(pacing.unchanged, now),
            failures: 0,
        }
    }

    /// Where the next query starts.
    #[must_use]
    pub fn position(&self) -> &Position {
        &self.position
    }

    /// How long the next query waits: up to a 16th less than [`Pacing::wait`], by `jitter` in
    /// `0.0..1.0`.
    #[must_use]
    pub fn wait(&self, jitter: f64) -> Duration {
        self.pacing.wait - (self.pacing.wait / 16).mul_f64(jitter.clamp(0.0, 1.0))
    }

    /// Failures since the last answer.
    #[must_use]
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// Takes an answer in; `changed` says whether its content is new. Returns the pause before
    /// the next query.
    pub fn answered(&mut self, now: Instant, meta: &Meta, changed: bool) -> Duration {
        self.failures = 0;
        self.position = match (&meta.content_hash, meta.index) {
            (Some(hash), _) => Position::Hash(hash.clone()),
            (None, Some(index)) => self.after(index),
            // An endpoint that doesn't block: polled at the pace of unchanged answers.
            (None, None) => Position::Start,
        };
        if changed {
            self.changed.take(now)
        } else {
            self.unchanged.take(now)
        }
    }

    /// Takes a failure in. Returns the pause before the next query, which starts from scratch:
    /// an agent that was restarted counts from wherever it likes. `jitter` is in `0.0..1.0`.
    pub fn failed(&mut self, jitter: f64) -> Duration {
        self.failures = self.failures.saturating_add(1);
        self.position = Position::Start;
        self.pacing.backoff.pause(self.failures, jitter)
    }

    fn after(&self, index: u64) -> Position {
        match self.position {
            // Backwards: a snapshot was restored, the newest key deleted, or Consul upgraded.
            Position::Index(before) if index < before => Position::Start,
            // Waiting for an index above 0 returns at once, for ever.
            _ => Position::Index(index.max(1)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cursor() -> (Cursor, Instant) {
        let now = Instant::now();
        (Cursor::new(Pacing::documented(), now), now)
    }

    fn at(index: u64) -> Meta {
        Meta {
            index: Some(index),
            ..Meta::default()
        }
    }

    #[test]
    fn index_is_followed() {
        let (mut cursor, now) = cursor();
        assert_eq!(*cursor.position(), Position::Start);
        cursor.answered(now, &at(7), true);
        assert_eq!(*cursor.position(), Position::Index(7));
        cursor.answered(now, &at(7), false);
        assert_eq!(*cursor.position(), Position::Index(7));
    }

    #[test]
    fn index_going_backwards_starts_over() {
        let (mut cursor, now) = cursor();
        cursor.answered(now, &at(7), true);
        cursor.answered(now, &at(6), true);
        assert_eq!(*cursor.position(), Position::Start);
        cursor.answered(now, &at(6), false);
        assert_eq!(*cursor.position(), Position::Index(6));
    }

    #[test]
    fn index_zero_becomes_one() {
        let (mut cursor, now) = cursor();
        cursor.answered(now, &at(0), true);
        assert_eq!(*cursor.position(), Position::Index(1));
    }

    #[test]
    fn hash_is_followed_when_there_is_one() {
        let (mut cursor, now) = cursor();
        let hash = Some("2879dd28eb1b9d55".to_owned());
        cursor.answered(
            now,
            &Meta {
                content_hash: hash.clone(),
                ..at(9)
            },
            true,
        );
        assert_eq!(Some(cursor.position()), hash.map(Position::Hash).as_ref());
    }

    #[test]
    fn failure_backs_off_and_forgets_the_position() {
        let (mut cursor, now) = cursor();
        cursor.answered(now, &at(7), true);
        let first = cursor.failed(0.5);
        assert!(cursor.failed(0.5) > first);
        assert_eq!(
            (cursor.failures(), cursor.position()),
            (2, &Position::Start)
        );
        cursor.answered(now, &at(3), true);
        assert_eq!(
            (cursor.failures(), cursor.position()),
            (0, &Position::Index(3))
        );
    }

    #[test]
    fn returns_without_news_are_paced_and_news_is_not() {
        let now = Instant::now();
        let mut cursor = Cursor::new(Pacing::default(), now);
        for index in 1..=40 {
            assert_eq!(cursor.answered(now, &at(index), true), Duration::ZERO);
        }
        let pauses: Vec<_> = (41..60)
            .map(|i| cursor.answered(now, &at(i), false))
            .collect();
        assert!(pauses[..16].iter().all(Duration::is_zero));
        assert_eq!(pauses[16], Duration::from_secs(1));
    }

    #[test]
    fn wait_is_jittered_downwards_by_a_sixteenth() {
        let (cursor, _) = cursor();
        assert_eq!(cursor.wait(0.0), Duration::from_secs(300));
        assert_eq!(
            cursor.wait(1.0),
            Duration::from_secs(300) - Duration::from_secs(300) / 16
        );
    }
}
