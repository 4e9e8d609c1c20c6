//! What a cluster counts: connections to endpoints, and tries.

use std::sync::Arc;
use std::time::Duration;

use prometheus::{Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec};

use super::family::Families;
use super::scope::Handle;
use super::status::StatusCounters;
use super::words::{RetryReason, TlsResult, TryError, Word};
use super::{Open, by_word};

/// The handles of a cluster's upstream side.
#[derive(Debug)]
pub struct ClusterMetrics {
    cluster: Arc<str>,
    responses: StatusCounters,
    errors: [IntCounter; TryError::COUNT],
    retries: [IntCounter; RetryReason::COUNT],
    handshakes: [IntCounter; TlsResult::COUNT],
    duration: Histogram,
    active: IntGauge,
    open: IntGauge,
    opened: IntCounter,
    families: ClusterFamilies,
}

/// Kept to remove the series again.
#[derive(Debug)]
struct ClusterFamilies {
    errors: IntCounterVec,
    retries: IntCounterVec,
    handshakes: IntCounterVec,
    duration: HistogramVec,
    active: IntGaugeVec,
    open: IntGaugeVec,
    opened: IntCounterVec,
}

impl ClusterMetrics {
    pub(super) fn new(families: &Families, cluster: &Arc<str>) -> Self {
        let name: &str = cluster;
        let alone = [name];
        Self {
            cluster: Arc::clone(cluster),
            responses: StatusCounters::new(&families.client_requests, &alone),
            errors: by_word::<TryError, _>(|word| {
                families.client_errors.with_label_values(&[name, word])
            }),
            retries: by_word::<RetryReason, _>(|word| {
                families.retries.with_label_values(&[name, word])
            }),
            handshakes: by_word::<TlsResult, _>(|word| {
                families
                    .tls_handshakes
                    .with_label_values(&tls_labels(name, word))
            }),
            duration: families.client_duration.with_label_values(&alone),
            active: families.client_active.with_label_values(&alone),
            open: families.upstream_open.with_label_values(&alone),
            opened: families.upstream_opened.with_label_values(&alone),
            families: ClusterFamilies {
                errors: families.client_errors.clone(),
                retries: families.retries.clone(),
                handshakes: families.tls_handshakes.clone(),
                duration: families.client_duration.clone(),
                active: families.client_active.clone(),
                open: families.upstream_open.clone(),
                opened: families.upstream_opened.clone(),
            },
        }
    }

    /// Counts a try as in flight until the result is dropped.
    pub fn begin_try(self: &Arc<Self>) -> Open {
        Open::new(&self.active, self)
    }

    /// Counts a try that got a response, of this status and after this time.
    pub fn responded(&self, status: u16, duration: Duration) {
        self.responses.of(status).inc();
        self.duration.observe(duration.as_secs_f64());
    }

    /// Counts a try that got none.
    pub fn failed(&self, error: TryError, duration: Duration) {
        self.errors[error as usize].inc();
        self.duration.observe(duration.as_secs_f64());
    }

    /// Counts a try that follows another.
    pub fn retried(&self, reason: RetryReason) {
        self.retries[reason as usize].inc();
    }

    /// Counts a TLS handshake with an endpoint.
    pub fn handshake(&self, result: TlsResult) {
        self.handshakes[result as usize].inc();
    }

    /// Counts a new connection to an endpoint, as open until the result is dropped.
    pub fn connected(self: &Arc<Self>) -> Open {
        self.opened.inc();
        Open::new(&self.open, self)
    }
}

fn tls_labels<'a>(cluster: &'a str, result: &'a str) -> [&'a str; 4] {
    ["client", "", cluster, result]
}

impl Handle for ClusterMetrics {
    fn forget(&self) {
        let name: &str = &self.cluster;
        let families = &self.families;
        self.responses.forget();
        // Each fails only for a series that is not there, which is what is wanted.
        for word in TryError::ALL {
            let _ = families.errors.remove_label_values(&[name, word.as_str()]);
        }
        for word in RetryReason::ALL {
            let _ = families.retries.remove_label_values(&[name, word.as_str()]);
        }
        for word in TlsResult::ALL {
            let labels = tls_labels(name, word.as_str());
            let _ = families.handshakes.remove_label_values(&labels);
        }
        let _ = families.duration.remove_label_values(&[name]);
        let _ = families.active.remove_label_values(&[name]);
        let _ = families.open.remove_label_values(&[name]);
        let _ = families.opened.remove_label_values(&[name]);
    }
}
