//! What is known about the snapshot that is served and the identities in it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use prometheus::{Gauge, IntGauge, IntGaugeVec};

use super::family::Families;
use super::scope::Handle;

/// The handles of the snapshot. There is one per process.
#[derive(Debug)]
pub struct SnapshotMetrics {
    generation: IntGauge,
    rejected: IntGauge,
    age: Gauge,
    confirmed: Mutex<Instant>,
}

impl SnapshotMetrics {
    pub(super) fn new(families: &Families, now: Instant) -> Self {
        Self {
            generation: families.snapshot_generation.clone(),
            rejected: families.snapshot_rejected.clone(),
            age: families.snapshot_age.clone(),
            confirmed: Mutex::new(now),
        }
    }

    /// Says that this generation is served now, and how many resources of it are
    /// refused ones whose last good version stands in.
    pub fn published(&self, generation: u64, rejected: usize, now: Instant) {
        self.generation
            .set(i64::try_from(generation).unwrap_or(i64::MAX));
        self.rejected
            .set(i64::try_from(rejected).unwrap_or(i64::MAX));
        self.confirmed(now);
    }

    /// Says that the sources have confirmed the snapshot although nothing changed.
    pub fn confirmed(&self, now: Instant) {
        *self
            .confirmed
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = now;
    }

    /// Computes the age, just before it is read.
    pub(super) fn refresh(&self, now: Instant) {
        let confirmed = *self
            .confirmed
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let age = now.saturating_duration_since(confirmed);
        self.age.set(age.as_secs_f64());
    }
}

/// The handle of an identity that this process presents.
#[derive(Debug)]
pub struct IdentityMetrics {
    identity: Arc<str>,
    expiry: IntGauge,
    family: IntGaugeVec,
}

impl IdentityMetrics {
    pub(super) fn new(families: &Families, identity: &Arc<str>) -> Self {
        let family = families.certificate_expiry.clone();
        Self {
            identity: Arc::clone(identity),
            expiry: family.with_label_values(&[identity]),
            family,
        }
    }

    /// Says when the certificate that is presented from now on expires.
    pub fn expires(&self, at: SystemTime) {
        // Before 1970 is as expired as 1970.
        let since_epoch = at.duration_since(UNIX_EPOCH).unwrap_or_default();
        self.expiry
            .set(i64::try_from(since_epoch.as_secs()).unwrap_or(i64::MAX));
    }
}

impl Handle for IdentityMetrics {
    fn forget(&self) {
        // Fails only for a series that is not there, which is what is wanted.
        let _ = self.family.remove_label_values(&[&self.identity]);
    }
}
