//! One proxy: telemetry, admin listener and data plane around a source.
//!
//! The order of its life is fixed here. [`Opened`] can already be asked whether
//! it lives, and gives a source somewhere to count; [`Proxy`] serves traffic;
//! [`Proxy::end`] drains and flushes.

use crate::{Counts, Settings, scrape};
use meridian_dataplane::admin::{AdminError, AdminListener, Operations};
use meridian_dataplane::plane::{self, DataPlane, DrainReport};
use meridian_model::{ListenerName, Snapshot};
use meridian_telemetry::access_log::AccessLogError;
use meridian_telemetry::log::LogControl;
use meridian_telemetry::metrics::{BuildInfo, MetricsError};
use meridian_telemetry::trace::SpanExportError;
use meridian_telemetry::{AccessLog, Chain, Metrics, SpanSink};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// How long access log and spans may take to be written once traffic has ended.
/// A collector that is away must not hold up a restart.
const FLUSH: Duration = Duration::from_secs(2);

/// Why a proxy could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The metrics could not be registered. A mistake of ours.
    #[error("register metrics")]
    Metrics(#[source] MetricsError),
    /// The access log could not be opened.
    #[error("start access log")]
    AccessLog(#[source] AccessLogError),
    /// The span exporter could not be made.
    #[error("start span export")]
    Spans(#[source] SpanExportError),
    /// The admin listener could not be opened.
    #[error("start admin listener")]
    Admin(#[source] AdminError),
    /// The data plane could not start its threads.
    #[error("start data plane")]
    DataPlane(#[source] plane::StartError),
}

/// Telemetry and admin listener of a proxy that serves nothing yet.
#[derive(Debug)]
pub struct Opened {
    settings: Settings,
    metrics: Metrics,
    counts: Arc<Counts>,
    access_log: Option<AccessLog>,
    spans: SpanSink,
    admin: AdminListener,
    log: LogControl,
    end: watch::Sender<bool>,
}

impl Opened {
    /// Opens everything but traffic, on the current runtime. `end` is set when
    /// an operator asks for the end.
    pub(crate) async fn open(
        build: BuildInfo,
        settings: Settings,
        log: LogControl,
        end: watch::Sender<bool>,
    ) -> Result<Self, StartError> {
        let metrics = Metrics::new(build).map_err(StartError::Metrics)?;
        let access_log = match &settings.access_log {
            Some(config) => {
                let log = AccessLog::new(config, metrics.access_log());
                Some(log.map_err(StartError::AccessLog)?)
            }
            None => None,
        };
        let spans = match &settings.spans {
            Some(config) => {
                let runtime = tokio::runtime::Handle::current();
                SpanSink::start(config, metrics.spans(), &runtime).map_err(StartError::Spans)?
            }
            None => SpanSink::disabled(),
        };
        let admin = AdminListener::bind(settings.admin.clone())
            .await
            .map_err(StartError::Admin)?;
        tracing::info!(address = %admin.address(), "admin listener open");
        Ok(Self {
            settings,
            counts: Arc::new(Counts::new(metrics.clone())),
            metrics,
            access_log,
            spans,
            admin,
            log,
            end,
        })
    }

    /// Where the proxy's source counts.
    pub fn counts(&self) -> Arc<Counts> {
        Arc::clone(&self.counts)
    }

    /// Starts the data plane on a source's snapshots, and answers operators.
    ///
    /// # Errors
    /// When the system refuses threads.
    pub fn start(self, snapshots: watch::Receiver<Arc<Snapshot>>) -> Result<Proxy, StartError> {
        let plane = DataPlane::start(
            plane::Settings {
                workers: self.settings.workers.get(),
            },
            snapshots.clone(),
            plane::Telemetry {
                metrics: self.metrics.clone(),
                access_log: self.access_log,
                spans: self.spans.clone(),
            },
        )
        .map_err(StartError::DataPlane)?;
        let admin_address = self.admin.address();
        let desk: Arc<dyn Operations> = Arc::new(Desk {
            plane: plane.clone(),
            metrics: self.metrics,
            counts: self.counts,
            log: self.log,
            end: self.end,
        });
        Ok(Proxy {
            plane,
            spans: self.spans,
            admin_address,
            scrape: tokio::spawn(scrape::follow(snapshots, Arc::clone(&desk))),
            admin: tokio::spawn(self.admin.serve(desk)),
            drain: self.settings.drain,
        })
    }
}

/// A running proxy.
pub struct Proxy {
    plane: DataPlane,
    spans: SpanSink,
    admin_address: SocketAddr,
    admin: JoinHandle<()>,
    /// Answers scrapers at an address of their own.
    scrape: JoinHandle<()>,
    drain: Duration,
}

impl Proxy {
    /// Where operators are answered.
    pub fn admin_address(&self) -> SocketAddr {
        self.admin_address
    }

    /// Where the listeners are bound, port 0 resolved.
    pub fn addresses(&self) -> BTreeMap<ListenerName, SocketAddr> {
        self.plane.addresses()
    }

    /// Returns once every listener is open.
    pub async fn ready(&self) {
        let mut readiness = self.plane.readiness();
        // An error would mean that the plane is gone, which this holds.
        let _ = readiness.wait_for(|now| now.ready).await;
    }

    /// Opens log files anew, after a rotation has moved them away.
    pub fn reopen_logs(&self) {
        if let Some(log) = self.plane.access_log() {
            log.reopen();
        }
    }

    /// Drains up to the deadline, then writes what telemetry still holds. The
    /// admin listener answers until the end, so that balancers see why.
    pub async fn end(self) {
        let started = Instant::now();
        let DrainReport { cut } = self.plane.drain(self.drain).await;
        let duration = started.elapsed();
        if cut == 0 {
            tracing::info!(?duration, "drained");
        } else {
            tracing::warn!(
                ?duration,
                cut,
                "drain deadline passed; connections were cut"
            );
        }
        if let Some(log) = self.plane.access_log()
            && let Err(error) = log.shutdown(FLUSH).await
        {
            tracing::warn!(error = %Chain(&error), "access log is incomplete");
        }
        if let Err(error) = self.spans.shutdown(FLUSH).await {
            tracing::warn!(error = %Chain(&error), "spans were lost");
        }
        self.admin.abort();
        self.scrape.abort();
    }
}

/// What the admin listener asks.
struct Desk {
    plane: DataPlane,
    metrics: Metrics,
    counts: Arc<Counts>,
    log: LogControl,
    end: watch::Sender<bool>,
}

impl Operations for Desk {
    fn waiting_for(&self) -> Option<Vec<String>> {
        let readiness = self.plane.readiness();
        let now = readiness.borrow();
        (!now.ready).then(|| now.waiting_for.clone())
    }

    fn metrics(&self) -> String {
        let now = Instant::now();
        self.counts.refresh(now);
        self.metrics.render(now).unwrap_or_else(|error| {
            // A scraper shows this as a failed scrape, with the reason.
            tracing::error!(error = %Chain(&error), "metrics can't be rendered");
            format!("# {}\n", Chain(&error))
        })
    }

    fn snapshot(&self) -> serde_json::Value {
        self.plane.status()
    }

    fn log_filter(&self) -> String {
        self.log.current()
    }

    fn set_log_filter(&self, filter: &str) -> Result<(), String> {
        self.log
            .set(filter)
            .map_err(|error| Chain(&error).to_string())
    }

    fn drain(&self) {
        self.end.send_replace(true);
    }
}
