//! What a cluster counts: connections to endpoints, and tries.

use std::sync::Arc;
use std::time::Duration;

use prometheus::{Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec};

use super::Open;
use super::family::Families;
use super::scope::Handle;
use super::status::StatusCounters;
use super::word_counters::WordCounters;
use super::words::{RetryReason, TlsResult, TryError};

/// The handles of a cluster's upstream side.
#[derive(Debug)]
pub struct ClusterMetrics {
    cluster: Arc<str>,
    responses: StatusCounters,
    errors: WordCounters<TryError>,
    retries: WordCounters<RetryReason>,
    handshakes: WordCounters<TlsResult>,
    duration: Histogram,
    active: IntGauge,
    open: IntGauge,
    opened: IntCounter,
    families: ClusterFamilies,
}

/// Kept to remove the series again.
#[derive(Debug)]
struct ClusterFamilies {
    duration: HistogramVec,
    gauges: [IntGaugeVec; 2],
    opened: IntCounterVec,
}

impl ClusterMetrics {
    pub(super) fn new(families: &Families, cluster: &Arc<str>) -> Self {
        let name: &str = cluster;
        let alone = [name];
        let handshake_labels = ["client", "", name];
        Self {
            cluster: Arc::clone(cluster),
            responses: StatusCounters::new(&families.client_requests, &alone),
            errors: WordCounters::new(&families.client_errors, &alone),
            retries: WordCounters::new(&families.retries, &alone),
            handshakes: WordCounters::new(&families.tls_handshakes, &handshake_labels),
            duration: families.client_duration.with_label_values(&alone),
            active: families.client_active.with_label_values(&alone),
            open: families.upstream_open.with_label_values(&alone),
            opened: families.upstream_opened.with_label_values(&alone),
            families: ClusterFamilies {
                duration: families.client_duration.clone(),
                gauges: [
                    families.client_active.clone(),
                    families.upstream_open.clone(),
                ],
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
        self.errors.inc(error);
        self.duration.observe(duration.as_secs_f64());
    }

    /// Counts a try that follows another.
    pub fn retried(&self, reason: RetryReason) {
        self.retries.inc(reason);
    }

    /// Counts a TLS handshake with an endpoint.
    pub fn handshake(&self, result: TlsResult) {
        self.handshakes.inc(result);
    }

    /// Counts a new connection to an endpoint, as open until the result is dropped.
    pub fn connected(self: &Arc<Self>) -> Open {
        self.opened.inc();
        Open::new(&self.open, self)
    }
}

impl Handle for ClusterMetrics {
    fn forget(&self) {
        let alone: [&str; 1] = [&self.cluster];
        self.responses.forget();
        self.errors.forget();
        self.retries.forget();
        self.handshakes.forget();
        // Each fails only for a series that is not there, which is what is wanted.
        let _ = self.families.duration.remove_label_values(&alone);
        for family in &self.families.gauges {
            let _ = family.remove_label_values(&alone);
        }
        let _ = self.families.opened.remove_label_values(&alone);
    }
}
