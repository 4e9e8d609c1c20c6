//! Prometheus metrics: one registry, handles that are resolved ahead of time.
//!
//! Names follow the OpenTelemetry semantic conventions for HTTP in their
//! Prometheus form, with `meridian_` in front; [`catalogue`] lists them all.
//! One thing differs: the status code is a label of a counter beside the duration
//! histogram instead of one of the histogram itself, which keeps the number of
//! series a route has from being multiplied by that of its buckets.
//!
//! A handle such as [`RouteMetrics`] is resolved when a snapshot is built and
//! lives in it. On the request path only atomics are touched. The one exception
//! is the first event of its kind: a route's first request, a status code that it has
//! not sent before, a result that a handshake has not had. Its series comes into being then.
//!
//! Series are bounded: past [`MAX_SERIES`] label sets in a scope, and for
//! whatever a peer makes up, every label has the value `other`, and
//! `meridian_metrics_label_overflow_total` says how often. Series go away when
//! no snapshot and no request holds their handle any more, see [`Metrics::sweep`].

mod catalogue;
mod client;
mod family;
mod listener;
mod scope;
mod server;
mod snapshot;
mod source;
mod status;
mod word_counters;
mod words;

pub use catalogue::{MetricDoc, MetricKind, catalogue};
pub use client::ClusterMetrics;
pub use listener::ListenerMetrics;
pub use scope::{MAX_SERIES, RETAIN_UNUSED};
pub use server::{RouteLabels, RouteMetrics};
pub use snapshot::{IdentityMetrics, SnapshotMetrics};
pub use source::{SourceMetrics, WatchMetrics};
pub use words::{
    Direction, Layer, OverRate, RejectReason, RetryReason, TlsResult, TryError, Verdict, Word,
};

use std::any::Any;
use std::sync::Arc;
use std::time::Instant;

use prometheus::{IntGauge, Registry, TextEncoder};

use crate::access_log::{AccessLogMetrics, LogExportMetrics};
use crate::trace::SpanSinkMetrics;
use family::Families;
use scope::Scope;

/// `Content-Type` of [`Metrics::render`].
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What `meridian_build_info` says.
#[derive(Debug, Clone, Copy)]
pub struct BuildInfo {
    /// The program: `gateway`, `meshd` or `meridian`.
    pub program: &'static str,
    /// Its version.
    pub version: &'static str,
}

/// Why metrics can't be registered or rendered. A mistake of this crate's.
#[derive(Debug, thiserror::Error)]
pub enum MetricsError {
    /// Two families with one name, or a name that Prometheus doesn't allow.
    #[error("register metric {name}")]
    Register {
        /// The family's name.
        name: &'static str,
        /// What the registry said.
        #[source]
        source: prometheus::Error,
    },
    /// The text form could not be made.
    #[error("render metrics")]
    Render(#[source] prometheus::Error),
}

/// All metrics of a process. Cheap to clone; made once and passed around.
#[derive(Debug, Clone)]
pub struct Metrics(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    registry: Registry,
    families: Arc<Families>,
    routes: Scope<RouteLabels, RouteMetrics>,
    clusters: Scope<Arc<str>, ClusterMetrics>,
    listeners: Scope<Arc<str>, ListenerMetrics>,
    identities: Scope<Arc<str>, IdentityMetrics>,
    sources: Scope<Arc<str>, SourceMetrics>,
    watches: Scope<(Arc<str>, Arc<str>), WatchMetrics>,
    snapshot: Arc<SnapshotMetrics>,
}

impl Metrics {
    /// Registers every family of the [`catalogue`].
    ///
    /// # Errors
    /// Only when the catalogue contradicts itself, which a test rules out.
    pub fn new(build: BuildInfo) -> Result<Self, MetricsError> {
        Self::with_limit(build, MAX_SERIES)
    }

    /// As [`Metrics::new`], with another number of label sets a scope.
    ///
    /// # Errors
    /// As [`Metrics::new`].
    pub fn with_limit(build: BuildInfo, limit: usize) -> Result<Self, MetricsError> {
        let registry = Registry::new();
        let families = Arc::new(Families::register(&registry, limit)?);
        families
            .build_info
            .with_label_values(&[build.program, build.version])
            .set(1);
        let overflow = |scope: &str| families.label_overflow.with_label_values(&[scope]);
        Ok(Self(Arc::new(Inner {
            routes: Scope::new(limit, overflow("route")),
            clusters: Scope::new(limit, overflow("cluster")),
            listeners: Scope::new(limit, overflow("listener")),
            identities: Scope::new(limit, overflow("identity")),
            sources: Scope::new(limit, overflow("source")),
            watches: Scope::new(limit, overflow("watch")),
            snapshot: Arc::new(SnapshotMetrics::new(&families, Instant::now())),
            registry,
            families,
        })))
    }

    /// The handles of a route, the same for the same labels.
    pub fn route(&self, labels: &RouteLabels) -> Arc<RouteMetrics> {
        self.0
            .routes
            .resolve(labels, |labels| RouteMetrics::new(&self.0.families, labels))
    }

    /// The handles of a cluster's upstream side.
    pub fn cluster(&self, cluster: &str) -> Arc<ClusterMetrics> {
        let families = &self.0.families;
        self.0.clusters.resolve(&cluster.into(), |cluster| {
            ClusterMetrics::new(families, cluster)
        })
    }

    /// The handles of a listener: connections, handshakes, bytes, verdicts.
    pub fn listener(&self, listener: &str) -> Arc<ListenerMetrics> {
        let families = &self.0.families;
        self.0.listeners.resolve(&listener.into(), |listener| {
            ListenerMetrics::new(families, listener)
        })
    }

    /// The handles of an identity that this process presents, by its SPIFFE ID
    /// or the certificate's name in the configuration.
    pub fn identity(&self, identity: &str) -> Arc<IdentityMetrics> {
        let families = &self.0.families;
        self.0.identities.resolve(&identity.into(), |identity| {
            IdentityMetrics::new(families, identity)
        })
    }

    /// The handles of a source, such as `consul` or `file`.
    pub fn source(&self, source: &str) -> Arc<SourceMetrics> {
        let families = &self.0.families;
        self.0.sources.resolve(&source.into(), |source| {
            SourceMetrics::new(families, source, Instant::now())
        })
    }

    /// The handle of one kind of watch of a source, such as `leaf` or `intentions`.
    pub fn watch(&self, source: &str, watch: &str) -> Arc<WatchMetrics> {
        let families = &self.0.families;
        self.0
            .watches
            .resolve(&(source.into(), watch.into()), |(source, watch)| {
                WatchMetrics::new(families, source, watch)
            })
    }

    /// The handles of the snapshot that is served.
    pub fn snapshot(&self) -> Arc<SnapshotMetrics> {
        Arc::clone(&self.0.snapshot)
    }

    /// The counters of the access log.
    pub fn access_log(&self) -> AccessLogMetrics {
        AccessLogMetrics {
            dropped: self.0.families.access_log_dropped.clone(),
            write_failed: self.0.families.access_log_write_failed.clone(),
        }
    }

    /// The counters of access logs that are sent to collectors.
    pub fn log_export(&self) -> LogExportMetrics {
        let dropped = |reason: &str| {
            let family = &self.0.families.access_log_export_dropped;
            family.with_label_values(&[reason])
        };
        LogExportMetrics {
            exported: self.0.families.access_log_exported.clone(),
            queue_full: dropped("queue_full"),
            export_failed: dropped("export_failed"),
        }
    }

    /// The counters of the span exporter.
    pub fn spans(&self) -> SpanSinkMetrics {
        let dropped = |reason: &str| self.0.families.spans_dropped.with_label_values(&[reason]);
        SpanSinkMetrics {
            exported: self.0.families.spans_exported.clone(),
            queue_full: dropped("queue_full"),
            export_failed: dropped("export_failed"),
        }
    }

    /// Removes the series of handles that nobody has held for [`RETAIN_UNUSED`].
    ///
    /// [`Metrics::render`] does this too; a program that nobody scrapes calls it
    /// after publishing a snapshot.
    pub fn sweep(&self, now: Instant) {
        let inner = &*self.0;
        inner.routes.sweep(now);
        inner.clusters.sweep(now);
        inner.listeners.sweep(now);
        inner.identities.sweep(now);
        inner.sources.sweep(now);
        inner.watches.sweep(now);
    }

    /// All metrics in Prometheus' text form 0.0.4, ages computed as of `now`.
    ///
    /// # Errors
    /// [`MetricsError::Render`] when the encoder refuses.
    pub fn render(&self, now: Instant) -> Result<String, MetricsError> {
        self.sweep(now);
        self.0.snapshot.refresh(now);
        self.0.sources.each(|source| source.refresh(now));
        TextEncoder::new()
            .encode_to_string(&self.0.registry.gather())
            .map_err(MetricsError::Render)
    }
}

/// Something that is counted as open until this is dropped.
///
/// It holds the handle too, so that the series of a listener that is gone stay
/// as long as one of its connections does.
#[derive(Debug)]
#[must_use = "counts only while it is held"]
pub struct Open {
    gauge: IntGauge,
    _handle: Arc<dyn Any + Send + Sync>,
}

impl Open {
    fn new<H: Any + Send + Sync>(gauge: &IntGauge, handle: &Arc<H>) -> Self {
        gauge.inc();
        Self {
            gauge: gauge.clone(),
            _handle: Arc::clone(handle) as _,
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.gauge.dec();
    }
}

#[cfg(test)]
mod tests;
