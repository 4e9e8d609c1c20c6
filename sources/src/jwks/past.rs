//! Keys of the last run, for a start while their issuer is away.
//!
//! They are kept with the time at which they were fetched, and count as old from then on: a restart
//! makes no key younger. Only what is served is kept, so that whatever else an issuer publishes by
//! mistake does not reach the disk.

use super::parse::{accepted, parse};
use crate::causes::chain_of;
use crate::memory::{Kept, Shelf};
use consul::Raw;
use meridian_model::jwt::VerificationKey;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// Their age is known to half a minute, like that of everything else in memory.
const CONFIRM: Duration = Duration::from_secs(30);

/// What is kept of a key set, and what was.
#[derive(Debug)]
pub(super) struct Past {
    shelf: Option<Shelf>,
    /// What was kept last, and when.
    kept: Option<(Vec<u8>, SystemTime)>,
    /// Whether this run has keys of its own, or has asked for the last one's.
    settled: bool,
    /// When the last run's keys were fetched, while they are used.
    since: Option<SystemTime>,
}

impl Past {
    pub(super) fn new(shelf: Option<Shelf>) -> Self {
        Self {
            shelf,
            kept: None,
            settled: false,
            since: None,
        }
    }

    /// Keeps what was fetched just now.
    pub(super) fn keep(&mut self, body: &[u8], now: SystemTime) {
        (self.settled, self.since) = (true, None);
        let Some(shelf) = &self.shelf else { return };
        let keys = accepted(body);
        let is_kept = self.kept.as_ref().is_some_and(|(before, at)| {
            *before == keys && now.duration_since(*at).is_ok_and(|age| age < CONFIRM)
        });
        if !is_kept {
            shelf.keep_of(&Raw::Body(keys.clone()), now);
            self.kept = Some((keys, now));
        }
    }

    /// The last run's keys and their age, once.
    pub(super) fn recall(&mut self, now: SystemTime) -> Option<(Arc<[VerificationKey]>, Duration)> {
        if std::mem::replace(&mut self.settled, true) {
            return None;
        }
        let Kept::Answer(Raw::Body(body), at) = self.shelf.as_ref()?.recall()? else {
            return None;
        };
        match parse(&body) {
            Ok(parsed) => {
                self.since = Some(at);
                let age = now.duration_since(at).unwrap_or_default();
                Some((parsed.keys.into(), age))
            }
            Err(error) => {
                tracing::warn!(error = %chain_of(&error), "keys of the last run are not used");
                None
            }
        }
    }

    /// When the keys that are used were fetched, if not by this run.
    pub(super) fn since(&self) -> Option<SystemTime> {
        self.since
    }
}
