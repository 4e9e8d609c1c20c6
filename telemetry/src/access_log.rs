//! Access logs: one line a request or connection, written off the request path.
//!
//! A record is moved into a bounded queue. A thread of its own formats and
//! writes, because a full disk or a paused terminal may block a write for long.
//! When the queue is full the record is dropped and counted.
//!
//! Privacy: the query, which carries tokens and names of people, is written only
//! when [`AccessLogConfig::query`] says so. No other header than `Host`,
//! `User-Agent` and the request's id is recorded.

mod digits;
mod format;
mod json;
mod pattern;
mod record;
mod words;
mod writer;

pub use pattern::{Field, LinePattern, Piece};
pub use record::{AccessRecord, Protocol};

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use prometheus::IntCounter;
use tokio::sync::{mpsc, oneshot};

use format::Formatter;
use writer::{Output, Writer};

/// Records that wait at most when nothing else is said: half a second's worth of
/// 8000 requests/s, some 2 MB when full. The queue grows only as it fills.
pub const DEFAULT_QUEUE: usize = 4096;

/// How a line looks.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum AccessLogFormat {
    /// One JSON object a line; absent fields are left out. Durations are seconds.
    #[default]
    Json,
    /// One line in the manner of the common log format, then `key=value` pairs.
    Text,
    /// After a pattern, which also says whether queries are written.
    Pattern(Arc<LinePattern>),
}

/// Where lines go.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Destination {
    /// Standard output.
    #[default]
    Stdout,
    /// Standard error, where the program's own log goes too.
    Stderr,
    /// A file that is appended to, and opened anew by [`AccessLog::reopen`].
    File(PathBuf),
}

/// Settings of an access log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessLogConfig {
    /// Form of a line.
    pub format: AccessLogFormat,
    /// Where lines go.
    pub destination: Destination,
    /// Records that wait at most; at least one.
    pub queue: usize,
    /// Whether queries are written. They often hold secrets.
    pub query: bool,
}

impl Default for AccessLogConfig {
    fn default() -> Self {
        Self {
            format: AccessLogFormat::default(),
            destination: Destination::default(),
            queue: DEFAULT_QUEUE,
            query: false,
        }
    }
}

/// Why an access log could not be started or stopped.
#[derive(Debug, thiserror::Error)]
pub enum AccessLogError {
    /// The file can't be opened for appending.
    #[error("open access log {}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The system refused the writer its thread.
    #[error("start the thread of the access log")]
    Thread(#[source] io::Error),
    /// The deadline passed before all records were written.
    #[error("flush the access log before the deadline")]
    Deadline,
}

/// What is counted about an access log.
#[derive(Debug, Clone)]
pub struct AccessLogMetrics {
    /// Records that found the queue full or the log shut down.
    pub dropped: IntCounter,
    /// Records that the destination did not take.
    pub write_failed: IntCounter,
}

/// What is counted about records that are sent to collectors.
#[derive(Debug, Clone)]
pub struct LogExportMetrics {
    /// Taken by a collector.
    pub exported: IntCounter,
    /// Dropped because a queue was full.
    pub queue_full: IntCounter,
    /// Dropped because a collector did not take them.
    pub export_failed: IntCounter,
}

/// Takes records. Cheap to clone; all clones write to the same destination.
#[derive(Debug, Clone)]
pub struct AccessLog {
    queue: mpsc::Sender<Message>,
    reopen: Arc<AtomicBool>,
    metrics: AccessLogMetrics,
}

/// What goes through the queue.
#[expect(
    clippy::large_enum_variant,
    reason = "nearly all are records, and moving one is cheaper than an allocation"
)]
#[derive(Debug)]
enum Message {
    Record(AccessRecord),
    /// Look whether to reopen.
    Wake,
    /// Write what came before, and end.
    Stop(oneshot::Sender<()>),
}

impl AccessLog {
    /// Opens the destination and starts the writing thread.
    /// The thread ends with [`AccessLog::shutdown`], or with the last clone.
    ///
    /// # Errors
    /// When the file can't be opened, or no thread be started.
    pub fn new(
        config: &AccessLogConfig,
        metrics: AccessLogMetrics,
    ) -> Result<Self, AccessLogError> {
        let output = Output::open(&config.destination)?;
        let formatter = Formatter {
            format: config.format.clone(),
            query: config.query,
        };
        Self::start(config.queue, formatter, output, metrics)
    }

    fn start(
        queue: usize,
        formatter: Formatter,
        output: Output,
        metrics: AccessLogMetrics,
    ) -> Result<Self, AccessLogError> {
        let (queue, messages) = mpsc::channel(queue.max(1));
        let reopen = Arc::new(AtomicBool::new(false));
        let writer = Writer::new(
            messages,
            Arc::clone(&reopen),
            formatter,
            output,
            metrics.write_failed.clone(),
        );
        std::thread::Builder::new()
            .name("access-log".to_owned())
            .spawn(move || writer.run())
            .map_err(AccessLogError::Thread)?;
        Ok(Self {
            queue,
            reopen,
            metrics,
        })
    }

    /// Hands a record over. Never waits.
    pub fn record(&self, record: AccessRecord) {
        if self.queue.try_send(Message::Record(record)).is_err() {
            self.metrics.dropped.inc();
        }
    }

    /// Opens the file anew before the next line, for a rotation that has moved it
    /// away. When that fails, the old file is kept and the failure logged.
    pub fn reopen(&self) {
        self.reopen.store(true, Ordering::Release);
        // Full: the writer is awake and sees the flag. Closed: nothing to reopen.
        let _ = self.queue.try_send(Message::Wake);
    }

    /// Writes all records that came before, and ends the writer.
    /// Later records count as dropped.
    ///
    /// # Errors
    /// [`AccessLogError::Deadline`] when the destination takes too long.
    pub async fn shutdown(&self, deadline: Duration) -> Result<(), AccessLogError> {
        let written = async {
            let (done, written) = oneshot::channel();
            // An error in either means that the writer has ended before.
            if self.queue.send(Message::Stop(done)).await.is_ok() {
                let _ = written.await;
            }
        };
        tokio::time::timeout(deadline, written)
            .await
            .map_err(|_| AccessLogError::Deadline)
    }
}

#[cfg(test)]
mod tests;
