//! The list of every metric: what the families are made from, what the
//! documentation is generated from, and what the tests hold the output against.

/// What a family counts like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricKind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Observations in buckets.
    Histogram,
}

impl MetricKind {
    /// The word in a `# TYPE` line.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// What is promised about a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MetricDoc {
    /// Its name.
    pub name: &'static str,
    /// What it counts like.
    pub kind: MetricKind,
    /// Its labels, in order.
    pub labels: &'static [&'static str],
    /// What it means, also the `# HELP` line.
    pub help: &'static str,
}

/// Every metric, by subject.
pub fn catalogue() -> &'static [MetricDoc] {
    ALL
}

macro_rules! catalogue {
    ($($constant:ident: $kind:ident $name:literal [$($label:literal),*] $help:literal;)*) => {
        $(
            pub(super) const $constant: MetricDoc = MetricDoc {
                name: $name,
                kind: MetricKind::$kind,
                labels: &[$($label),*],
                help: $help,
            };
        )*

        const ALL: &[MetricDoc] = &[$($constant),*];
    };
}

catalogue! {
    SERVER_REQUESTS: Counter "meridian_http_server_requests_total"
        ["direction", "listener", "route", "cluster", "http_response_status_code"]
        "Requests that were answered, by the status sent to the client.";
    SERVER_DURATION: Histogram "meridian_http_server_request_duration_seconds"
        ["direction", "listener", "route", "cluster"]
        "Time from a request's head to the last byte of its response.";
    SERVER_ACTIVE: Gauge "meridian_http_server_active_requests"
        ["direction", "listener", "route", "cluster"]
        "Requests in flight.";
    SERVER_REQUEST_SIZE: Histogram "meridian_http_server_request_body_size_bytes"
        ["direction", "listener", "route", "cluster"]
        "Size of request bodies as they were received.";
    SERVER_RESPONSE_SIZE: Histogram "meridian_http_server_response_body_size_bytes"
        ["direction", "listener", "route", "cluster"]
        "Size of response bodies as they were sent.";
    SERVER_REJECTED: Counter "meridian_http_server_rejected_requests_total"
        ["listener", "reason"]
        "Requests that were refused before they were routed.";
    SERVER_OVER_RATE: Counter "meridian_http_server_over_rate_requests_total"
        ["listener", "outcome"]
        "Requests above a rate limit, by whether they were refused.";

    CLIENT_REQUESTS: Counter "meridian_http_client_requests_total"
        ["cluster", "http_response_status_code"]
        "Tries that got a response, by the endpoint's status.";
    CLIENT_ERRORS: Counter "meridian_http_client_errors_total"
        ["cluster", "error_type"]
        "Tries that got no response, by what went wrong.";
    CLIENT_DURATION: Histogram "meridian_http_client_request_duration_seconds"
        ["cluster"]
        "Time from the start of a try to the end of its response or to its failure.";
    CLIENT_ACTIVE: Gauge "meridian_http_client_active_requests"
        ["cluster"]
        "Tries in flight.";
    RETRIES: Counter "meridian_retries_total"
        ["cluster", "reason"]
        "Tries that followed another, by why the earlier one did not do.";
    UPSTREAM_OPEN: Gauge "meridian_upstream_connections"
        ["cluster"]
        "Connections to endpoints that are open, idle ones included.";
    UPSTREAM_OPENED: Counter "meridian_upstream_connections_total"
        ["cluster"]
        "Connections to endpoints that were established.";

    DOWNSTREAM_OPEN: Gauge "meridian_downstream_connections"
        ["listener"]
        "Connections from clients that are open.";
    DOWNSTREAM_OPENED: Counter "meridian_downstream_connections_total"
        ["listener"]
        "Connections from clients that were accepted.";
    DOWNSTREAM_LIMITED: Counter "meridian_downstream_connections_rejected_total"
        ["listener"]
        "Connections that were closed at once because a connection limit was reached.";
    TCP_RECEIVED: Counter "meridian_tcp_received_bytes_total"
        ["listener"]
        "Bytes of TCP streams from clients.";
    TCP_SENT: Counter "meridian_tcp_sent_bytes_total"
        ["listener"]
        "Bytes of TCP streams to clients.";

    TLS_HANDSHAKES: Counter "meridian_tls_handshakes_total"
        ["side", "listener", "cluster", "result"]
        "TLS handshakes as server of a listener or as client of a cluster, the other label being empty.";
    AUTHORIZATION: Counter "meridian_authorization_verdicts_total"
        ["listener", "layer", "verdict"]
        "Decisions about access, by connection (l4), by request (l7), and by services that are asked (external).";
    CERTIFICATE_EXPIRY: Gauge "meridian_certificate_expiry_timestamp_seconds"
        ["identity"]
        "When the certificate that is presented expires, in Unix time.";

    SNAPSHOT_GENERATION: Gauge "meridian_snapshot_generation"
        []
        "Generation of the snapshot that is served.";
    SNAPSHOT_AGE: Gauge "meridian_snapshot_age_seconds"
        []
        "Time since the sources last confirmed the snapshot that is served, or since the start.";
    SNAPSHOT_REJECTED: Gauge "meridian_snapshot_rejected_resources"
        []
        "Resources that were refused and whose last good version is served instead.";
    SOURCE_WATCH_ERRORS: Counter "meridian_source_watch_errors_total"
        ["source", "watch"]
        "Failures of a source's watches.";
    SOURCE_CONNECTED: Gauge "meridian_source_connected"
        ["source"]
        "Whether a source answers: 1 or 0.";
    SOURCE_TOKEN_REFUSED: Gauge "meridian_source_token_refused"
        ["source"]
        "Whether a source refuses our token, because it is unknown, revoked or expired: 1 or 0.";
    SOURCE_STALENESS: Gauge "meridian_source_staleness_seconds"
        ["source"]
        "Time since a source last answered, or since it was first asked.";

    ACCESS_LOG_DROPPED: Counter "meridian_access_log_dropped_total"
        []
        "Access records that found the queue full.";
    ACCESS_LOG_WRITE_FAILED: Counter "meridian_access_log_write_failed_total"
        []
        "Access records that their destination did not take.";
    ACCESS_LOG_EXPORTED: Counter "meridian_access_log_exported_total"
        []
        "Access records that collectors took.";
    ACCESS_LOG_EXPORT_DROPPED: Counter "meridian_access_log_export_dropped_total"
        ["reason"]
        "Access records for collectors that found the queue full or that the collector did not take.";
    SPANS_EXPORTED: Counter "meridian_trace_spans_exported_total"
        []
        "Spans that the collector took.";
    SPANS_DROPPED: Counter "meridian_trace_spans_dropped_total"
        ["reason"]
        "Spans that found the queue full or that the collector did not take.";
    LABEL_OVERFLOW: Counter "meridian_metrics_label_overflow_total"
        ["scope"]
        "Label sets and status codes that were counted under `other` because their scope is full.";
    BUILD_INFO: Gauge "meridian_build_info"
        ["program", "version"]
        "Always 1; the labels say what runs.";
}
