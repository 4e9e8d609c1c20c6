//! Where sources count: their vocabulary on this side, the metrics on that.

use meridian_telemetry::Metrics;
use meridian_telemetry::metrics::{SnapshotMetrics, SourceMetrics, WatchMetrics};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

/// Counts what the sources of one proxy report. Only the control plane comes here.
#[derive(Debug)]
pub struct Counts {
    metrics: Metrics,
    snapshot: Arc<SnapshotMetrics>,
    known: Mutex<Known>,
}

/// Handles of what was reported. Held, since series without a holder are swept away.
#[derive(Debug, Default)]
struct Known {
    sources: BTreeMap<&'static str, Reported>,
    watches: BTreeMap<&'static str, Arc<WatchMetrics>>,
}

#[derive(Debug)]
struct Reported {
    handle: Arc<SourceMetrics>,
    current: bool,
}

impl Counts {
    /// Counts in `metrics`.
    pub fn new(metrics: Metrics) -> Self {
        Self {
            snapshot: metrics.snapshot(),
            metrics,
            known: Mutex::default(),
        }
    }

    /// Brings ages up to date, before somebody reads them: a source that is
    /// current has answered just now, though it said nothing new.
    pub fn refresh(&self, now: Instant) {
        let known = self.known();
        for source in known.sources.values().filter(|source| source.current) {
            source.handle.answered(now);
        }
        if known.sources.values().all(|source| source.current) {
            self.snapshot.confirmed(now);
        }
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Known> {
        // A panic elsewhere leaves whole entries behind.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl meridian_sources::SourceMetrics for Counts {
    fn watch_failed(&self, watch: &'static str) {
        let mut known = self.known();
        known
            .watches
            .entry(watch)
            .or_insert_with(|| self.metrics.watch(source_of(watch), watch))
            .failed();
    }

    fn current(&self, source: &'static str, current: bool) {
        let mut known = self.known();
        let reported = known.sources.entry(source).or_insert_with(|| Reported {
            handle: self.metrics.source(source),
            current,
        });
        reported.current = current;
        if current {
            reported.handle.answered(Instant::now());
        } else {
            reported.handle.lost();
        }
    }

    fn token_refused(&self, source: &'static str, refused: bool) {
        // What is not known yet gets its state with the same news, just before.
        if let Some(reported) = self.known().sources.get(source) {
            reported.handle.token_refused(refused);
        }
    }

    fn published(&self, generation: u64, rejected: usize) {
        self.snapshot
            .published(generation, rejected, Instant::now());
    }
}

/// Watches of files and names say so; all others are Consul's.
fn source_of(watch: &'static str) -> &'static str {
    match watch {
        "file" | "dns" => watch,
        _ => "consul",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use meridian_sources::SourceMetrics as _;
    use meridian_telemetry::metrics::BuildInfo;
    use std::time::Duration;

    fn rendered(metrics: &Metrics, now: Instant) -> String {
        metrics.render(now).unwrap()
    }

    #[test]
    fn a_current_source_does_not_age_and_a_lost_one_does() {
        let build = BuildInfo {
            program: "meshd",
            version: "0",
        };
        let metrics = Metrics::new(build).unwrap();
        let counts = Counts::new(metrics.clone());
        let later = Instant::now() + Duration::from_secs(1000);
        counts.current("consul", true);
        counts.refresh(later);
        let text = rendered(&metrics, later);
        assert!(
            text.contains("meridian_source_connected{source=\"consul\"} 1"),
            "{text}"
        );
        assert!(
            text.contains("meridian_source_staleness_seconds{source=\"consul\"} 0\n"),
            "{text}"
        );

        counts.current("consul", false);
        let much_later = later + Duration::from_secs(1000);
        counts.refresh(much_later);
        let text = rendered(&metrics, much_later);
        assert!(
            text.contains("meridian_source_connected{source=\"consul\"} 0"),
            "{text}"
        );
        assert!(
            text.contains("meridian_source_staleness_seconds{source=\"consul\"} 1000\n"),
            "{text}"
        );
    }

    #[test]
    fn failures_count_by_watch() {
        let build = BuildInfo {
            program: "meshd",
            version: "0",
        };
        let metrics = Metrics::new(build).unwrap();
        let counts = Counts::new(metrics.clone());
        counts.watch_failed("leaf");
        counts.watch_failed("leaf");
        counts.watch_failed("file");
        counts.published(7, 2);
        let text = rendered(&metrics, Instant::now());
        let labels = "{source=\"consul\",watch=\"leaf\"} 2";
        assert!(text.contains(labels), "{text}");
        assert!(
            text.contains("{source=\"file\",watch=\"file\"} 1"),
            "{text}"
        );
        assert!(text.contains("meridian_snapshot_generation 7"), "{text}");
    }
}
