//! The data plane as a program sees it: started with a stream of snapshots,
//! asked for its state, drained at the end.
//!
//! The caller's runtime is the control side: here snapshots become tables and
//! listeners open and close. Bytes move on the workers' threads.

mod entrance;
mod follow;
mod handler;
mod report;

pub use report::{DrainReport, Readiness};

use crate::access_log::LogSwitch;
use crate::drain::{Drain, Drained};
use crate::headers::HeaderNames;
use crate::proxy::Shared;
use crate::tls;
use crate::upstream::pool;
use crate::workers::Workers;
use follow::Follower;
use handler::Handler;
use meridian_model::{ListenerName, Snapshot};
use meridian_telemetry::access_log::AccessLog;
use meridian_telemetry::metrics::Metrics;
use meridian_telemetry::trace::SpanSink;
use report::Report;
use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// How a data plane is run.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// Threads that move bytes; at least one is started.
    pub workers: usize,
}

/// Where a data plane tells what happens.
pub struct Telemetry {
    /// Counters.
    pub metrics: Metrics,
    /// Finished requests; `None` for no log.
    pub access_log: Option<AccessLog>,
    /// Finished spans.
    pub spans: SpanSink,
}

/// Why a data plane could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The system refused a thread.
    #[error("cannot start the data-plane threads")]
    Workers(#[source] io::Error),
}

/// A running data plane. Cheap to clone; it stops with the last one.
#[derive(Clone)]
pub struct DataPlane {
    drain: Drain,
    report: watch::Receiver<Arc<Report>>,
    readiness: watch::Receiver<Readiness>,
    workers: Arc<Workers>,
    access_log: Arc<LogSwitch>,
}

impl DataPlane {
    /// Starts the workers and follows the snapshots; returns at once. Must be
    /// called on a tokio runtime, which becomes the control side.
    ///
    /// # Errors
    /// When the system refuses a thread.
    pub fn start(
        settings: Settings,
        snapshots: watch::Receiver<Arc<Snapshot>>,
        telemetry: Telemetry,
    ) -> Result<Self, StartError> {
        tls::provider();
        let workers = Workers::start(settings.workers).map_err(StartError::Workers)?;
        for worker in 0..workers.count() {
            workers.spawn_on(worker, pool::sweep_forever);
        }
        let drain = Drain::default();
        let access_log = Arc::new(LogSwitch::new(telemetry.access_log));
        let shared = Shared {
            spans: telemetry.spans,
            access_log: Arc::clone(&access_log),
            edge_headers: HeaderNames::edge(),
        };
        let handler = Arc::new(Handler::new(Arc::new(shared)));
        let (tell_report, report) = watch::channel(Arc::new(Report::default()));
        let (tell_readiness, readiness) = watch::channel(Readiness::default());
        let follower = Follower::new(
            handler,
            Arc::clone(&workers),
            telemetry.metrics,
            Arc::clone(&access_log),
            drain.clone(),
            tell_report,
            tell_readiness,
        );
        // It ends with the snapshots' sender, or with the drain.
        drop(tokio::spawn(follower.run(snapshots)));
        Ok(Self {
            drain,
            report,
            readiness,
            workers,
            access_log,
        })
    }

    /// Whether traffic may be sent here, and what is waited for if not.
    pub fn readiness(&self) -> watch::Receiver<Readiness> {
        self.readiness.clone()
    }

    /// Addresses of the open TCP listeners, with the real port where 0 was wanted.
    pub fn addresses(&self) -> BTreeMap<ListenerName, SocketAddr> {
        self.report.borrow().addresses()
    }

    /// The access log of the moment: the one it was started with, or that of the newest snapshot.
    pub fn access_log(&self) -> Option<Arc<AccessLog>> {
        self.access_log.current()
    }

    /// The document of `GET /snapshot`.
    pub fn status(&self) -> serde_json::Value {
        let report = self.report.borrow().clone();
        report.document(self.drain.in_flight(), &self.workers.connections())
    }

    /// Ends in good order: readiness fails, listeners close, clients are told to
    /// go elsewhere, and requests under way finish until `deadline` from now.
    pub async fn drain(&self, deadline: Duration) -> DrainReport {
        self.drain.begin(Instant::now() + deadline);
        let cut = match self.drain.finished().await {
            Drained::Complete => 0,
            Drained::Abandoned(cut) => cut,
        };
        DrainReport { cut }
    }
}

impl fmt::Debug for DataPlane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DataPlane")
            .field("readiness", &*self.readiness.borrow())
            .field("workers", &self.workers.count())
            .finish_non_exhaustive()
    }
}
