//! What is known about a source: whether it answers, since when, what failed.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use prometheus::{Gauge, GaugeVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec};

use super::family::Families;
use super::scope::Handle;

/// The handles of a source.
#[derive(Debug)]
pub struct SourceMetrics {
    source: Arc<str>,
    connected: IntGauge,
    token_refused: IntGauge,
    staleness: Gauge,
    answered: Mutex<Instant>,
    connected_family: IntGaugeVec,
    token_refused_family: IntGaugeVec,
    staleness_family: GaugeVec,
}

impl SourceMetrics {
    pub(super) fn new(families: &Families, source: &Arc<str>, now: Instant) -> Self {
        let connected_family = families.source_connected.clone();
        let token_refused_family = families.source_token_refused.clone();
        let staleness_family = families.source_staleness.clone();
        Self {
            source: Arc::clone(source),
            connected: connected_family.with_label_values(&[source]),
            token_refused: token_refused_family.with_label_values(&[source]),
            staleness: staleness_family.with_label_values(&[source]),
            answered: Mutex::new(now),
            connected_family,
            token_refused_family,
            staleness_family,
        }
    }

    /// Says that the source has answered, with news or without.
    pub fn answered(&self, now: Instant) {
        self.connected.set(1);
        *self.answered.lock().unwrap_or_else(PoisonError::into_inner) = now;
    }

    /// Says that the source does not answer.
    pub fn lost(&self) {
        self.connected.set(0);
    }

    /// Says whether the source refuses our token.
    pub fn token_refused(&self, refused: bool) {
        self.token_refused.set(refused.into());
    }

    /// Computes the staleness, just before it is read.
    pub(super) fn refresh(&self, now: Instant) {
        let answered = *self.answered.lock().unwrap_or_else(PoisonError::into_inner);
        let staleness = now.saturating_duration_since(answered);
        self.staleness.set(staleness.as_secs_f64());
    }
}

impl Handle for SourceMetrics {
    fn forget(&self) {
        // Each fails only for a series that is not there, which is what is wanted.
        let _ = self.connected_family.remove_label_values(&[&self.source]);
        let _ = self
            .token_refused_family
            .remove_label_values(&[&self.source]);
        let _ = self.staleness_family.remove_label_values(&[&self.source]);
    }
}

/// The handle of one kind of watch of a source.
#[derive(Debug)]
pub struct WatchMetrics {
    source: Arc<str>,
    watch: Arc<str>,
    errors: IntCounter,
    family: IntCounterVec,
}

impl WatchMetrics {
    pub(super) fn new(families: &Families, source: &Arc<str>, watch: &Arc<str>) -> Self {
        let family = families.source_watch_errors.clone();
        Self {
            source: Arc::clone(source),
            watch: Arc::clone(watch),
            errors: family.with_label_values(&[source, watch]),
            family,
        }
    }

    /// Counts a failure of the watch.
    pub fn failed(&self) {
        self.errors.inc();
    }
}

impl Handle for WatchMetrics {
    fn forget(&self) {
        // Fails only for a series that is not there, which is what is wanted.
        let _ = self
            .family
            .remove_label_values(&[&self.source, &self.watch]);
    }
}
