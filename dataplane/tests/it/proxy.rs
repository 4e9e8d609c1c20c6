//! A running data plane with its snapshot stream and its metrics.

use crate::until;
use meridian_dataplane::{DataPlane, Settings, Telemetry};
use meridian_model::Snapshot;
use meridian_telemetry::access_log::{AccessLog, AccessLogConfig, Destination};
use meridian_telemetry::metrics::BuildInfo;
use meridian_telemetry::{Metrics, SpanSink};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::watch;

pub(crate) struct Proxy {
    pub(crate) plane: DataPlane,
    pub(crate) metrics: Metrics,
    snapshots: watch::Sender<Arc<Snapshot>>,
}

/// What a proxy writes besides its metrics.
#[derive(Default)]
pub(crate) struct Output {
    pub(crate) access_log: Option<AccessLog>,
    pub(crate) spans: SpanSink,
}

pub(crate) fn metrics() -> Metrics {
    let build = BuildInfo {
        program: "test",
        version: "0",
    };
    Metrics::new(build).unwrap()
}

/// An access log of JSON lines in a file.
pub(crate) fn log_to(path: &Path, metrics: &Metrics) -> AccessLog {
    let config = AccessLogConfig {
        destination: Destination::File(path.to_owned()),
        ..AccessLogConfig::default()
    };
    AccessLog::new(&config, metrics.access_log()).unwrap()
}

impl Proxy {
    /// Starts one worker and waits until every listener is open.
    pub(crate) async fn start(snapshot: Snapshot) -> Self {
        Self::start_on(1, snapshot).await
    }

    /// As [`Proxy::start`], with so many workers.
    pub(crate) async fn start_on(workers: usize, snapshot: Snapshot) -> Self {
        let proxy = Self::launch(workers, snapshot, metrics(), Output::default());
        proxy.ready().await;
        proxy
    }

    pub(crate) fn start_with(snapshot: Snapshot, metrics: Metrics, output: Output) -> Self {
        Self::launch(1, snapshot, metrics, output)
    }

    fn launch(workers: usize, mut snapshot: Snapshot, metrics: Metrics, output: Output) -> Self {
        snapshot.generation = 1;
        let (snapshots, watched) = watch::channel(Arc::new(snapshot));
        let telemetry = Telemetry {
            metrics: metrics.clone(),
            access_log: output.access_log,
            spans: output.spans,
        };
        let plane = DataPlane::start(Settings { workers }, watched, telemetry).unwrap();
        Self {
            plane,
            metrics,
            snapshots,
        }
    }

    pub(crate) async fn ready(&self) {
        let readiness = self.plane.readiness();
        until("readiness", || readiness.borrow().ready).await;
    }

    pub(crate) fn address(&self, listener: &str) -> SocketAddr {
        self.plane.addresses()[listener]
    }

    /// Publishes a changed snapshot and waits until it is served.
    pub(crate) async fn change(&self, change: impl FnOnce(&mut Snapshot)) {
        let before = Arc::clone(&self.snapshots.borrow());
        let mut next = (*before).clone();
        change(&mut next);
        let next = next.succeeding(&before);
        let generation = next.generation;
        self.snapshots.send_replace(Arc::new(next));
        until("the new snapshot", || {
            self.plane.status()["generation"] == generation
        })
        .await;
    }

    /// The sum of the series whose line has all these parts.
    pub(crate) fn metric(&self, parts: &[&str]) -> f64 {
        let text = self.metrics.render(Instant::now()).unwrap();
        text.lines()
            .filter(|line| !line.starts_with('#') && parts.iter().all(|part| line.contains(part)))
            .filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok())
            .sum()
    }

    pub(crate) async fn metric_becomes(&self, parts: &[&str], value: f64) {
        until(&format!("{parts:?} = {value}"), || {
            self.metric(parts) == value
        })
        .await;
    }
}
