//! Every family, registered once from its entry in the catalogue.

use prometheus::core::Collector;
use prometheus::{
    Gauge, GaugeVec, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec,
    Opts, Registry,
};

use super::MetricsError;
use super::catalogue::{self as doc, MetricDoc};
use super::status::StatusFamily;

/// Upper bounds of durations: those that the OpenTelemetry conventions advise for
/// `http.server.request.duration`, two below for a proxy's own share, and two
/// above for what waits long.
const DURATION_BUCKETS: &[f64] = &[
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
    30.0, 60.0,
];

/// Upper bounds of body sizes: powers of 16, from a small JSON value to a large file.
const SIZE_BUCKETS: &[f64] = &[
    256.0,
    4096.0,
    65_536.0,
    1_048_576.0,
    16_777_216.0,
    268_435_456.0,
];

/// The families, each shared with the registry.
#[derive(Debug)]
pub(super) struct Families {
    pub(super) server_requests: StatusFamily,
    pub(super) server_duration: HistogramVec,
    pub(super) server_active: IntGaugeVec,
    pub(super) server_request_size: HistogramVec,
    pub(super) server_response_size: HistogramVec,
    pub(super) server_rejected: IntCounterVec,
    pub(super) server_over_rate: IntCounterVec,
    pub(super) client_requests: StatusFamily,
    pub(super) client_errors: IntCounterVec,
    pub(super) client_duration: HistogramVec,
    pub(super) client_active: IntGaugeVec,
    pub(super) retries: IntCounterVec,
    pub(super) upstream_open: IntGaugeVec,
    pub(super) upstream_opened: IntCounterVec,
    pub(super) downstream_open: IntGaugeVec,
    pub(super) downstream_opened: IntCounterVec,
    pub(super) downstream_limited: IntCounterVec,
    pub(super) tcp_received: IntCounterVec,
    pub(super) tcp_sent: IntCounterVec,
    pub(super) tls_handshakes: IntCounterVec,
    pub(super) authorization: IntCounterVec,
    pub(super) certificate_expiry: IntGaugeVec,
    pub(super) snapshot_generation: IntGauge,
    pub(super) snapshot_age: Gauge,
    pub(super) snapshot_rejected: IntGauge,
    pub(super) source_watch_errors: IntCounterVec,
    pub(super) source_connected: IntGaugeVec,
    pub(super) source_token_refused: IntGaugeVec,
    pub(super) source_staleness: GaugeVec,
    pub(super) access_log_dropped: IntCounter,
    pub(super) access_log_write_failed: IntCounter,
    pub(super) access_log_exported: IntCounter,
    pub(super) access_log_export_dropped: IntCounterVec,
    pub(super) spans_exported: IntCounter,
    pub(super) spans_dropped: IntCounterVec,
    pub(super) label_overflow: IntCounterVec,
    pub(super) build_info: IntGaugeVec,
}

impl Families {
    /// `label_sets` is how many routes, or clusters, there may be.
    pub(super) fn register(registry: &Registry, label_sets: usize) -> Result<Self, MetricsError> {
        let r = registry;
        let label_overflow = add(r, &doc::LABEL_OVERFLOW, counters)?;
        let by_status = |doc: &MetricDoc, scope: &str| {
            let overflow = label_overflow.with_label_values(&[scope]);
            add(r, doc, counters).map(|family| StatusFamily::new(family, label_sets, overflow))
        };
        Ok(Self {
            server_requests: by_status(&doc::SERVER_REQUESTS, "route")?,
            server_duration: add(r, &doc::SERVER_DURATION, durations)?,
            server_active: add(r, &doc::SERVER_ACTIVE, gauges)?,
            server_request_size: add(r, &doc::SERVER_REQUEST_SIZE, sizes)?,
            server_response_size: add(r, &doc::SERVER_RESPONSE_SIZE, sizes)?,
            server_rejected: add(r, &doc::SERVER_REJECTED, counters)?,
            server_over_rate: add(r, &doc::SERVER_OVER_RATE, counters)?,
            client_requests: by_status(&doc::CLIENT_REQUESTS, "cluster")?,
            client_errors: add(r, &doc::CLIENT_ERRORS, counters)?,
            client_duration: add(r, &doc::CLIENT_DURATION, durations)?,
            client_active: add(r, &doc::CLIENT_ACTIVE, gauges)?,
            retries: add(r, &doc::RETRIES, counters)?,
            upstream_open: add(r, &doc::UPSTREAM_OPEN, gauges)?,
            upstream_opened: add(r, &doc::UPSTREAM_OPENED, counters)?,
            downstream_open: add(r, &doc::DOWNSTREAM_OPEN, gauges)?,
            downstream_opened: add(r, &doc::DOWNSTREAM_OPENED, counters)?,
            downstream_limited: add(r, &doc::DOWNSTREAM_LIMITED, counters)?,
            tcp_received: add(r, &doc::TCP_RECEIVED, counters)?,
            tcp_sent: add(r, &doc::TCP_SENT, counters)?,
            tls_handshakes: add(r, &doc::TLS_HANDSHAKES, counters)?,
            authorization: add(r, &doc::AUTHORIZATION, counters)?,
            certificate_expiry: add(r, &doc::CERTIFICATE_EXPIRY, gauges)?,
            snapshot_generation: add(r, &doc::SNAPSHOT_GENERATION, gauge)?,
            snapshot_age: add(r, &doc::SNAPSHOT_AGE, float_gauge)?,
            snapshot_rejected: add(r, &doc::SNAPSHOT_REJECTED, gauge)?,
            source_watch_errors: add(r, &doc::SOURCE_WATCH_ERRORS, counters)?,
            source_connected: add(r, &doc::SOURCE_CONNECTED, gauges)?,
            source_token_refused: add(r, &doc::SOURCE_TOKEN_REFUSED, gauges)?,
            source_staleness: add(r, &doc::SOURCE_STALENESS, float_gauges)?,
            access_log_dropped: add(r, &doc::ACCESS_LOG_DROPPED, counter)?,
            access_log_write_failed: add(r, &doc::ACCESS_LOG_WRITE_FAILED, counter)?,
            access_log_exported: add(r, &doc::ACCESS_LOG_EXPORTED, counter)?,
            access_log_export_dropped: add(r, &doc::ACCESS_LOG_EXPORT_DROPPED, counters)?,
            spans_exported: add(r, &doc::SPANS_EXPORTED, counter)?,
            spans_dropped: add(r, &doc::SPANS_DROPPED, counters)?,
            build_info: add(r, &doc::BUILD_INFO, gauges)?,
            label_overflow,
        })
    }
}

/// Makes a family from its entry and registers it.
fn add<F: Collector + Clone + 'static>(
    registry: &Registry,
    doc: &MetricDoc,
    make: impl FnOnce(&MetricDoc) -> prometheus::Result<F>,
) -> Result<F, MetricsError> {
    make(doc)
        .and_then(|family| {
            registry.register(Box::new(family.clone()))?;
            Ok(family)
        })
        .map_err(|source| MetricsError::Register {
            name: doc.name,
            source,
        })
}

fn counters(doc: &MetricDoc) -> prometheus::Result<IntCounterVec> {
    IntCounterVec::new(Opts::new(doc.name, doc.help), doc.labels)
}

fn counter(doc: &MetricDoc) -> prometheus::Result<IntCounter> {
    IntCounter::new(doc.name, doc.help)
}

fn gauges(doc: &MetricDoc) -> prometheus::Result<IntGaugeVec> {
    IntGaugeVec::new(Opts::new(doc.name, doc.help), doc.labels)
}

fn gauge(doc: &MetricDoc) -> prometheus::Result<IntGauge> {
    IntGauge::new(doc.name, doc.help)
}

fn float_gauges(doc: &MetricDoc) -> prometheus::Result<GaugeVec> {
    GaugeVec::new(Opts::new(doc.name, doc.help), doc.labels)
}

fn float_gauge(doc: &MetricDoc) -> prometheus::Result<Gauge> {
    Gauge::new(doc.name, doc.help)
}

fn durations(doc: &MetricDoc) -> prometheus::Result<HistogramVec> {
    let opts = HistogramOpts::new(doc.name, doc.help).buckets(DURATION_BUCKETS.to_vec());
    HistogramVec::new(opts, doc.labels)
}

fn sizes(doc: &MetricDoc) -> prometheus::Result<HistogramVec> {
    let opts = HistogramOpts::new(doc.name, doc.help).buckets(SIZE_BUCKETS.to_vec());
    HistogramVec::new(opts, doc.labels)
}
