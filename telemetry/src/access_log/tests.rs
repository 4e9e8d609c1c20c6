//! The log as a whole: queue, thread and file.

use std::fs;
use std::io::Write;
use std::sync::{Condvar, Mutex};
use std::time::SystemTime;

use super::*;
use crate::text::Text;

const PATIENCE: Duration = Duration::from_secs(20);

fn counters() -> AccessLogMetrics {
    let counter = |name: &str| IntCounter::new(name, "of a test").unwrap();
    AccessLogMetrics {
        dropped: counter("dropped"),
        write_failed: counter("write_failed"),
    }
}

fn record(path: &'static str) -> AccessRecord {
    let mut record = AccessRecord::new(SystemTime::now(), "public".into(), Protocol::Http11);
    record.path = Some(Text::Static(path));
    record
}

fn to_file(path: &std::path::Path) -> AccessLogConfig {
    AccessLogConfig {
        destination: Destination::File(path.to_owned()),
        ..AccessLogConfig::default()
    }
}

fn paths(file: &std::path::Path) -> Vec<String> {
    fs::read_to_string(file)
        .unwrap()
        .lines()
        .map(|line| {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            line["path"].as_str().unwrap().to_owned()
        })
        .collect()
}

/// A destination that takes nothing until it is opened.
#[derive(Clone, Default)]
struct Gate(Arc<(Mutex<GateState>, Condvar)>);

#[derive(Default)]
struct GateState {
    waiting: bool,
    open: bool,
}

impl Gate {
    fn wait_until_blocked(&self) {
        let (state, changed) = &*self.0;
        let (state, wait) = changed
            .wait_timeout_while(state.lock().unwrap(), PATIENCE, |state| !state.waiting)
            .unwrap();
        assert!(!wait.timed_out() && state.waiting);
    }

    fn open(&self) {
        self.0.0.lock().unwrap().open = true;
        self.0.1.notify_all();
    }
}

impl Write for Gate {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let (state, changed) = &*self.0;
        let mut state = state.lock().unwrap();
        state.waiting = true;
        changed.notify_all();
        let _open = changed.wait_while(state, |state| !state.open).unwrap();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct FullDisk;

impl Write for FullDisk {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::StorageFull.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn to_stream(
    queue: usize,
    stream: impl Write + Send + 'static,
    metrics: &AccessLogMetrics,
) -> AccessLog {
    let formatter = Formatter {
        format: AccessLogFormat::Json,
        query: false,
    };
    let output = Output::Stream(Box::new(stream));
    AccessLog::start(queue, formatter, output, metrics.clone()).unwrap()
}

#[tokio::test]
async fn writes_every_record_before_it_stops() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("access.log");
    let log = AccessLog::new(&to_file(&file), counters()).unwrap();
    for _ in 0..1000 {
        log.record(record("/a"));
    }
    log.shutdown(PATIENCE).await.unwrap();
    assert_eq!(paths(&file).len(), 1000);
}

#[tokio::test]
async fn counts_what_a_full_queue_drops() {
    let (gate, metrics) = (Gate::default(), counters());
    let log = to_stream(2, gate.clone(), &metrics);
    log.record(record("/being-written"));
    gate.wait_until_blocked();
    for _ in 0..5 {
        log.record(record("/waiting"));
    }
    assert_eq!(metrics.dropped.get(), 3);
    gate.open();
    log.shutdown(PATIENCE).await.unwrap();
    assert_eq!(metrics.write_failed.get(), 0);
}

#[tokio::test]
async fn counts_records_after_shutdown_as_dropped() {
    let metrics = counters();
    let log = to_stream(2, io::sink(), &metrics);
    log.shutdown(PATIENCE).await.unwrap();
    log.record(record("/late"));
    assert_eq!(metrics.dropped.get(), 1);
    log.shutdown(PATIENCE).await.unwrap();
}

#[tokio::test]
async fn gives_up_at_the_deadline_when_nothing_is_taken() {
    let gate = Gate::default();
    let log = to_stream(2, gate.clone(), &counters());
    log.record(record("/stuck"));
    let outcome = log.shutdown(Duration::from_millis(50)).await;
    assert!(matches!(outcome, Err(AccessLogError::Deadline)));
    gate.open();
}

#[tokio::test]
async fn counts_what_the_destination_refuses() {
    let metrics = counters();
    let log = to_stream(8, FullDisk, &metrics);
    log.record(record("/a"));
    log.record(record("/b"));
    log.shutdown(PATIENCE).await.unwrap();
    assert_eq!(metrics.write_failed.get(), 2);
}

#[tokio::test]
async fn goes_on_in_a_new_file_after_a_rotation() {
    let folder = tempfile::tempdir().unwrap();
    let (file, moved) = (folder.path().join("log"), folder.path().join("log.1"));
    let log = AccessLog::new(&to_file(&file), counters()).unwrap();
    log.record(record("/before"));
    // A second log flushes nothing of the first; wait for the line itself.
    let deadline = std::time::Instant::now() + PATIENCE;
    while paths(&file).is_empty() {
        assert!(std::time::Instant::now() < deadline, "nothing was written");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    fs::rename(&file, &moved).unwrap();
    log.reopen();
    log.record(record("/after"));
    log.shutdown(PATIENCE).await.unwrap();
    assert_eq!(paths(&moved), ["/before"]);
    assert_eq!(paths(&file), ["/after"]);
}

#[tokio::test]
async fn keeps_the_old_file_when_a_new_one_can_not_be_opened() {
    let folder = tempfile::tempdir().unwrap();
    let inner = folder.path().join("logs");
    let moved = folder.path().join("moved");
    fs::create_dir(&inner).unwrap();
    let log = AccessLog::new(&to_file(&inner.join("log")), counters()).unwrap();
    fs::rename(&inner, &moved).unwrap();
    log.reopen();
    log.record(record("/kept"));
    log.shutdown(PATIENCE).await.unwrap();
    assert_eq!(paths(&moved.join("log")), ["/kept"]);
}

#[test]
fn says_which_file_can_not_be_opened() {
    let error = AccessLog::new(&to_file("/nowhere/at/all".as_ref()), counters()).unwrap_err();
    assert_eq!(error.to_string(), "open access log /nowhere/at/all");
}
