//! Finished spans on their way to an OTLP collector, off the request path.
//!
//! A span is moved into a bounded queue; when that is full it is dropped and
//! counted. One task takes batches out and posts them as OTLP over HTTP with
//! protobuf. A collector that is away costs spans, never requests.

use std::sync::Arc;
use std::time::Duration;

use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_otlp::{WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkError;
use opentelemetry_sdk::trace::SpanExporter;
use prometheus::IntCounter;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout, timeout_at};

use super::{Sampler, Span, TraceContext};
use crate::error::Chain;

/// Spans that wait at most: half a second's worth of 4000 requests/s with two
/// tries each, some 5 MB when full. The queue grows only as it fills.
const QUEUE: usize = 16_384;

/// Spans in one message, as the OpenTelemetry specification has it by default.
const BATCH: usize = 512;

/// How long a span waits for company, by the same specification.
const INTERVAL: Duration = Duration::from_secs(5);

/// Deadline of one export with its retries (OTLP exporter specification).
const TIMEOUT: Duration = Duration::from_secs(10);

/// Path of the traces endpoint below a collector's base URL (OTLP/HTTP).
const TRACES_PATH: &str = "/v1/traces";

/// Where spans go and which are recorded.
///
/// Headers for the collector, such as a token, come from the environment variable
/// `OTEL_EXPORTER_OTLP_HEADERS`, which the exporter reads by itself.
#[derive(Debug, Clone)]
pub struct SpanExportConfig {
    /// The collector's base URL such as `http://127.0.0.1:4318`, to which
    /// `/v1/traces` is added, or a complete URL when it has a path.
    pub endpoint: String,
    /// `service.name` of the resource: the name that a trace view shows.
    pub service_name: String,
    /// Further resource attributes, such as `service.instance.id`.
    pub resource: Vec<(String, String)>,
    /// Which traces are recorded.
    pub sampler: Sampler,
    /// How long a span waits for others to go with. `None`: 5 s.
    pub interval: Option<Duration>,
}

/// Why spans can't be exported.
#[derive(Debug, thiserror::Error)]
pub enum SpanExportError {
    /// The endpoint is not an `http` or `https` URL. The configuration's fault.
    #[error("{endpoint:?} is not an http or https URL of a collector")]
    Endpoint {
        /// The endpoint as it was given.
        endpoint: String,
    },
    /// An `https` endpoint, and the process has installed no rustls provider.
    #[error("an https collector needs the process's TLS provider to be installed first")]
    NoTlsProvider,
    /// The HTTP client could not be made.
    #[error("make the HTTP client of the span exporter")]
    Client(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The exporter could not be made.
    #[error("make the span exporter")]
    Exporter(#[source] opentelemetry_otlp::ExporterBuildError),
    /// The deadline passed before the queue was empty. What was left is lost.
    #[error("flush spans before the deadline")]
    Deadline,
}

/// What is counted about spans.
#[derive(Debug, Clone)]
pub struct SpanSinkMetrics {
    /// Taken by the collector.
    pub exported: IntCounter,
    /// Dropped because the queue was full or closed.
    pub queue_full: IntCounter,
    /// Dropped because the collector did not take them.
    pub export_failed: IntCounter,
}

/// Takes finished spans. Cheap to clone; disabled by default.
#[derive(Debug, Clone, Default)]
pub struct SpanSink(Option<Arc<Sink>>);

#[derive(Debug)]
struct Sink {
    sampler: Sampler,
    spans: mpsc::Sender<Span>,
    stop: mpsc::Sender<oneshot::Sender<()>>,
    metrics: SpanSinkMetrics,
}

impl SpanSink {
    /// Records nothing and costs nothing.
    pub const fn disabled() -> Self {
        Self(None)
    }

    /// Starts the exporting task on `runtime`, which must have I/O and time
    /// enabled: the control plane's, so that no data-plane thread encodes spans.
    ///
    /// # Errors
    /// When the endpoint can't be used. Whether a collector answers there shows
    /// later, in the metrics and the log.
    pub fn start(
        config: &SpanExportConfig,
        metrics: SpanSinkMetrics,
        runtime: &Handle,
    ) -> Result<Self, SpanExportError> {
        let exporter = exporter(config)?;
        let (spans, spans_out) = mpsc::channel(QUEUE);
        let (stop, stop_out) = mpsc::channel(1);
        let worker = Worker {
            exporter,
            scope: InstrumentationScope::builder(env!("CARGO_PKG_NAME"))
                .with_version(env!("CARGO_PKG_VERSION"))
                .build(),
            spans: spans_out,
            stop: stop_out,
            interval: config.interval.unwrap_or(INTERVAL),
            metrics: metrics.clone(),
            failing: false,
        };
        // The task ends with `shutdown` or with the last sink; nobody joins it.
        drop(runtime.spawn(worker.run()));
        Ok(Self(Some(Arc::new(Sink {
            sampler: config.sampler,
            spans,
            stop,
            metrics,
        }))))
    }

    /// Whether spans are wanted at all. When not, trace headers pass untouched.
    pub const fn is_enabled(&self) -> bool {
        self.0.is_some()
    }

    /// The context of a request's own span, or `None` when tracing is off.
    ///
    /// Spans are worth filling in only when it is [`TraceContext::sampled`].
    pub fn begin(&self, incoming: Option<&TraceContext>) -> Option<TraceContext> {
        Some(self.0.as_ref()?.sampler.begin(incoming))
    }

    /// Hands a finished span over. Never waits; unsampled spans are ignored.
    pub fn record(&self, span: Span) {
        let Some(sink) = &self.0 else { return };
        if span.context.sampled && sink.spans.try_send(span).is_err() {
            sink.metrics.queue_full.inc();
        }
    }

    /// Exports what waits and stops; spans recorded later count as dropped.
    ///
    /// # Errors
    /// [`SpanExportError::Deadline`] when that takes longer than `deadline`.
    pub async fn shutdown(&self, deadline: Duration) -> Result<(), SpanExportError> {
        let Some(sink) = &self.0 else { return Ok(()) };
        let flushed = async {
            let (done, flushed) = oneshot::channel();
            // An error in either means that the task has ended before: all flushed.
            if sink.stop.send(done).await.is_ok() {
                let _ = flushed.await;
            }
        };
        timeout(deadline, flushed)
            .await
            .map_err(|_| SpanExportError::Deadline)
    }
}

/// The task between the queue and the collector.
struct Worker {
    exporter: opentelemetry_otlp::SpanExporter,
    scope: InstrumentationScope,
    spans: mpsc::Receiver<Span>,
    stop: mpsc::Receiver<oneshot::Sender<()>>,
    interval: Duration,
    metrics: SpanSinkMetrics,
    /// Whether the last export failed: each outage is logged once.
    failing: bool,
}

impl Worker {
    async fn run(mut self) {
        let mut batch = Vec::with_capacity(BATCH);
        let stop = loop {
            tokio::select! {
                stop = self.stop.recv() => break stop,
                () = collect(&mut self.spans, &mut batch, self.interval) => {
                    self.export(&mut batch).await;
                }
            }
        };
        self.spans.close();
        loop {
            self.export(&mut batch).await;
            if self.spans.recv_many(&mut batch, BATCH).await == 0 {
                break;
            }
        }
        if let Some(done) = stop {
            // The caller may have given up waiting.
            let _ = done.send(());
        }
    }

    async fn export(&mut self, batch: &mut Vec<Span>) {
        if batch.is_empty() {
            return;
        }
        let count = batch.len() as u64;
        let data = batch.drain(..).map(|span| span.into_data(&self.scope));
        match self.exporter.export(data.collect()).await {
            Ok(()) => {
                self.metrics.exported.inc_by(count);
                if std::mem::take(&mut self.failing) {
                    tracing::info!("collector takes spans again");
                }
            }
            Err(error) => {
                self.metrics.export_failed.inc_by(count);
                if !std::mem::replace(&mut self.failing, true) {
                    log_failure(&error);
                }
            }
        }
    }
}

fn log_failure(error: &OTelSdkError) {
    tracing::warn!(error = %Chain(error), "export of spans failed, dropping them until it works");
}

/// Waits for a first span, then until the batch is full or `interval` has passed.
/// May be dropped at any await: what it has stays in `batch`.
async fn collect(spans: &mut mpsc::Receiver<Span>, batch: &mut Vec<Span>, interval: Duration) {
    if batch.is_empty() && spans.recv_many(batch, BATCH).await == 0 {
        // Closed and empty; the stop channel is closed too and ends the task.
        return std::future::pending().await;
    }
    let deadline = Instant::now() + interval;
    while let Some(room @ 1..) = BATCH.checked_sub(batch.len()) {
        match timeout_at(deadline, spans.recv_many(batch, room)).await {
            Ok(1..) => {}
            Ok(0) | Err(_) => return,
        }
    }
}

fn exporter(
    config: &SpanExportConfig,
) -> Result<opentelemetry_otlp::SpanExporter, SpanExportError> {
    let url = traces_url(&config.endpoint).ok_or_else(|| SpanExportError::Endpoint {
        endpoint: config.endpoint.clone(),
    })?;
    let client = client(url.scheme() == "https")?;
    let mut exporter = opentelemetry_otlp::SpanExporter::builder()
        .with_http()
        .with_http_client(client)
        .with_endpoint(url.as_str())
        .with_timeout(TIMEOUT)
        .build()
        .map_err(SpanExportError::Exporter)?;
    let further = config
        .resource
        .iter()
        .map(|(key, value)| KeyValue::new(key.clone(), value.clone()));
    exporter.set_resource(
        &Resource::builder_empty()
            .with_service_name(config.service_name.clone())
            .with_attributes(further)
            .build(),
    );
    Ok(exporter)
}

fn traces_url(endpoint: &str) -> Option<reqwest::Url> {
    let mut url = reqwest::Url::parse(endpoint).ok()?;
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return None;
    }
    if url.path() == "/" {
        url.set_path(TRACES_PATH);
    }
    Some(url)
}

/// reqwest sets up TLS even for plain HTTP, and panics without a provider.
/// A plain client is given an explicit one with no roots at all, which also
/// saves reading the system's.
fn client(https: bool) -> Result<reqwest::Client, SpanExportError> {
    let builder = reqwest::Client::builder()
        .timeout(TIMEOUT)
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none());
    let builder = if https {
        if rustls::crypto::CryptoProvider::get_default().is_none() {
            return Err(SpanExportError::NoTlsProvider);
        }
        builder
    } else {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| SpanExportError::Client(error.into()))?
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth();
        builder.tls_backend_preconfigured(tls)
    };
    builder
        .build()
        .map_err(|error| SpanExportError::Client(error.into()))
}

#[cfg(test)]
mod tests;
