//! Access logs on their way to a collector, off the request path.
//!
//! A record is moved into a bounded queue; when that is full it is dropped and counted. One task
//! takes them out and sends them as OTLP over gRPC. A collector that is away costs records,
//! never requests.

mod message;
mod render;

use crate::grpc::{GrpcError, Method};
use crate::tables::ClusterHandle;
use crate::workers::Workers;
use meridian_model::LogExport;
use meridian_telemetry::Chain;
use meridian_telemetry::access_log::{AccessRecord, DEFAULT_QUEUE, LogExportMetrics};
use meridian_telemetry::metrics::Metrics;
use message::{ExportLogs, ExportLogsAnswer, LogRecord};
use prost::Message;
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

/// The collector's method.
const PATH: &str = "/opentelemetry.proto.collector.logs.v1.LogsService/Export";

/// Records in one message at most, as OpenTelemetry's batch processor has it.
const BATCH: usize = 512;

/// The worker that sends. Which one makes no difference.
const WORKER: usize = 0;

/// Takes finished requests of a listener.
#[derive(Debug)]
pub(crate) struct LogSink {
    model: Arc<LogExport>,
    queue: mpsc::Sender<AccessRecord>,
    metrics: LogExportMetrics,
}

impl LogSink {
    /// Starts the sending task. It ends with the sink, once all is sent.
    pub(crate) fn start(
        model: &Arc<LogExport>,
        cluster: Arc<ClusterHandle>,
        workers: &Workers,
        metrics: &Metrics,
    ) -> Self {
        let (queue, records) = mpsc::channel(DEFAULT_QUEUE);
        let metrics = metrics.log_export();
        let authority = model.authority.as_deref();
        let (cluster_name, metadata) = (&model.cluster, &model.metadata);
        let sender = Sender {
            method: Method::new(PATH, authority, cluster_name, metadata, model.timeout),
            model: Arc::clone(model),
            cluster,
            metrics: metrics.clone(),
            failing: false,
        };
        workers.spawn_on(WORKER, move || sender.run(records));
        Self {
            model: Arc::clone(model),
            queue,
            metrics,
        }
    }

    /// What it was made of.
    pub(crate) fn model(&self) -> &Arc<LogExport> {
        &self.model
    }

    /// Hands a record over. Never waits.
    pub(crate) fn record(&self, record: AccessRecord) {
        if self.queue.try_send(record).is_err() {
            self.metrics.queue_full.inc();
        }
    }
}

/// The task between the queue and the collector.
struct Sender {
    model: Arc<LogExport>,
    cluster: Arc<ClusterHandle>,
    /// `None` where authority or metadata can't stand in a head.
    method: Option<Method>,
    metrics: LogExportMetrics,
    /// Whether the last export failed: each outage is logged once.
    failing: bool,
}

impl Sender {
    async fn run(mut self, mut records: mpsc::Receiver<AccessRecord>) {
        while let Some(first) = records.recv().await {
            let mut batch = vec![self.rendered(&first)];
            let mut size = batch[0].encoded_len();
            let deadline = Instant::now() + self.model.interval;
            while batch.len() < BATCH {
                let next = match records.try_recv() {
                    Ok(next) => Some(next),
                    Err(_) if size >= self.model.batch_bytes as usize => None,
                    // An error is the deadline.
                    Err(_) => timeout_at(deadline, records.recv())
                        .await
                        .unwrap_or_default(),
                };
                let Some(next) = next else { break };
                let next = self.rendered(&next);
                size += next.encoded_len();
                batch.push(next);
            }
            self.send(batch).await;
        }
    }

    fn rendered(&self, record: &AccessRecord) -> LogRecord {
        render::record(&self.model, record)
    }

    async fn send(&mut self, batch: Vec<LogRecord>) {
        let count = batch.len() as u64;
        match self.export(batch).await {
            Ok(()) => {
                self.metrics.exported.inc_by(count);
                if std::mem::take(&mut self.failing) {
                    tracing::info!(cluster = %self.model.cluster, "collector takes logs again");
                }
            }
            Err(error) => {
                self.metrics.export_failed.inc_by(count);
                if !std::mem::replace(&mut self.failing, true) {
                    tracing::warn!(
                        cluster = %self.model.cluster,
                        error = %Chain(&error),
                        "export of access logs failed, dropping them until it works"
                    );
                }
            }
        }
    }

    async fn export(&self, batch: Vec<LogRecord>) -> Result<(), GrpcError> {
        let method = self.method.as_ref().ok_or(GrpcError::Metadata)?;
        let cluster = self.cluster.state().ok_or(GrpcError::NoCluster)?;
        let message = ExportLogs::new(render::resource(&self.model), batch);
        let _: ExportLogsAnswer = method.call(&cluster, &message).await?;
        Ok(())
    }
}
