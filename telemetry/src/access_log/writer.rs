//! The thread that formats and writes.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use prometheus::IntCounter;
use tokio::sync::mpsc;
use tokio::sync::oneshot;

use super::format::Formatter;
use super::{AccessLogError, Destination, Message};
use crate::error::Chain;

/// Bytes that are gathered before a write, when more records wait: a pipe's
/// usual capacity, and few enough to keep the buffer small.
const BATCH: usize = 64 * 1024;

/// How long records gather after a write. Under load each would otherwise wake this thread, at
/// the request's cost, and be a write of its own.
const GATHER: Duration = Duration::from_millis(5);

/// Where lines go, opened.
pub(super) enum Output {
    /// Something that is never reopened.
    Stream(Box<dyn Write + Send>),
    /// A file, and where to find it again.
    File(File, PathBuf),
}

impl Output {
    pub(super) fn open(destination: &Destination) -> Result<Self, AccessLogError> {
        Ok(match destination {
            Destination::Stdout => Self::Stream(Box::new(io::stdout())),
            Destination::Stderr => Self::Stream(Box::new(io::stderr())),
            Destination::File(path) => Self::File(open_file(path)?, path.clone()),
        })
    }

    fn reopen(&mut self) -> Result<(), AccessLogError> {
        if let Self::File(file, path) = self {
            *file = open_file(path)?;
        }
        Ok(())
    }

    fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        match self {
            Self::Stream(stream) => {
                stream.write_all(lines)?;
                stream.flush()
            }
            // A file has no buffer of its own, so that there is nothing to flush.
            Self::File(file, _) => file.write_all(lines),
        }
    }
}

/// Lets records come.
#[expect(
    clippy::disallowed_methods,
    reason = "nothing is waited for: whatever has come by then is written"
)]
fn gather() {
    std::thread::sleep(GATHER);
}

fn open_file(path: &Path) -> Result<File, AccessLogError> {
    OpenOptions::new()
        .append(true)
        .create(true)
        .open(path)
        .map_err(|source| AccessLogError::Open {
            path: path.to_owned(),
            source,
        })
}

/// The state of the thread.
pub(super) struct Writer {
    messages: mpsc::Receiver<Message>,
    reopen: Arc<AtomicBool>,
    formatter: Formatter,
    output: Output,
    write_failed: IntCounter,
    /// Lines not yet written, and of how many records they are.
    lines: Vec<u8>,
    records: u64,
    /// Whether the last write failed: each outage is logged once.
    failing: bool,
}

impl Writer {
    pub(super) fn new(
        messages: mpsc::Receiver<Message>,
        reopen: Arc<AtomicBool>,
        formatter: Formatter,
        output: Output,
        write_failed: IntCounter,
    ) -> Self {
        Self {
            messages,
            reopen,
            formatter,
            output,
            write_failed,
            lines: Vec::with_capacity(BATCH),
            records: 0,
            failing: false,
        }
    }

    /// Runs until it is told to stop, or until nobody can tell it any more.
    pub(super) fn run(mut self) {
        while let Some(first) = self.messages.blocking_recv() {
            if let Some(done) = self.batch(first) {
                // From here on records are counted as dropped instead of queued.
                self.messages.close();
                // The caller may have given up waiting.
                let _ = done.send(());
                return;
            }
            // What is left was held back by the batch's size alone, and must not wait.
            if self.messages.is_empty() {
                gather();
            }
        }
    }

    /// Writes this message and those that wait, up to a batch.
    fn batch(&mut self, first: Message) -> Option<oneshot::Sender<()>> {
        // A queue that was full had no room for the wake-up.
        self.reopen_if_asked();
        let mut next = Some(first);
        let mut stop = None;
        while let Some(message) = next {
            match message {
                Message::Record(record) => self.append(&record),
                Message::Wake => {
                    self.write();
                    self.reopen_if_asked();
                }
                Message::Stop(done) => {
                    stop = Some(done);
                    break;
                }
            }
            next = (self.lines.len() < BATCH)
                .then(|| self.messages.try_recv().ok())
                .flatten();
        }
        self.write();
        stop
    }

    fn append(&mut self, record: &super::AccessRecord) {
        let before = self.lines.len();
        match self.formatter.append(record, &mut self.lines) {
            Ok(()) => self.records += 1,
            Err(error) => {
                self.lines.truncate(before);
                self.write_failed.inc();
                tracing::error!(error = %Chain(&error), "access record can't be formatted");
            }
        }
    }

    fn write(&mut self) {
        if self.lines.is_empty() {
            return;
        }
        match self.output.write(&self.lines) {
            Ok(()) if self.failing => {
                self.failing = false;
                tracing::info!("access log is being written again");
            }
            Ok(()) => {}
            Err(error) => {
                self.write_failed.inc_by(self.records);
                if !self.failing {
                    self.failing = true;
                    tracing::error!(error = %Chain(&error), "access log can't be written");
                }
            }
        }
        self.lines.clear();
        self.records = 0;
    }

    fn reopen_if_asked(&mut self) {
        if !self.reopen.swap(false, Ordering::Acquire) {
            return;
        }
        match self.output.reopen() {
            Ok(()) => tracing::debug!("access log reopened"),
            Err(error) => {
                tracing::error!(error = %Chain(&error), "access log not reopened, keeping the old file");
            }
        }
    }
}
