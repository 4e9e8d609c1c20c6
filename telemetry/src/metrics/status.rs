//! A counter for each status code, found by index.
//!
//! Series come into being with the first response of their code, which is the
//! only time that a label is formatted. Five hundred slots a route would be
//! 8 kB, so that the hundred of a class are made with its first code.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use prometheus::{IntCounter, IntCounterVec};

use super::scope::OTHER;

/// Codes that a label set has on average before the family is full. A route
/// sees about ten; an endpoint that makes up hundreds must not fill the memory.
const CODES: usize = 10;

/// A family whose last label is a status code, and how many series it may have.
#[derive(Debug, Clone)]
pub(super) struct StatusFamily {
    pub(super) counters: IntCounterVec,
    room: Arc<AtomicUsize>,
    overflow: IntCounter,
}

impl StatusFamily {
    /// A family for at most `label_sets` routes or clusters.
    pub(super) fn new(counters: IntCounterVec, label_sets: usize, overflow: IntCounter) -> Self {
        Self {
            counters,
            room: Arc::new(AtomicUsize::new(label_sets.saturating_mul(CODES))),
            overflow,
        }
    }

    /// Takes room for one series, or counts that there is none.
    fn admit(&self) -> bool {
        // The number alone matters: nothing else is published through it.
        let taken = self
            .room
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |room| {
                room.checked_sub(1)
            });
        if taken.is_err() {
            self.overflow.inc();
        }
        taken.is_ok()
    }
}

/// The codes of a class such as 2xx.
type Class = [OnceLock<IntCounter>; 100];

/// Counters of one label set by status code.
#[derive(Debug)]
pub(super) struct StatusCounters {
    family: StatusFamily,
    /// All labels but the last, which is the code.
    labels: Vec<String>,
    /// 1xx to 5xx.
    classes: [OnceLock<Box<Class>>; 5],
    /// Codes outside of 100 to 599, which HTTP does not know, and those for
    /// which the family has no room. Not counted against it: one a label set.
    other: OnceLock<IntCounter>,
}

impl StatusCounters {
    pub(super) fn new(family: &StatusFamily, labels: &[&str]) -> Self {
        Self {
            family: family.clone(),
            labels: labels.iter().map(|label| (*label).to_owned()).collect(),
            classes: std::array::from_fn(|_| OnceLock::new()),
            other: OnceLock::new(),
        }
    }

    /// The counter of a code. Two loads, but for a code's first time.
    pub(super) fn of(&self, code: u16) -> &IntCounter {
        let class = usize::from(code / 100).checked_sub(1);
        let Some(class) = class.and_then(|class| self.classes.get(class)) else {
            return self.other();
        };
        let class = class.get_or_init(|| Box::new(std::array::from_fn(|_| OnceLock::new())));
        class[usize::from(code % 100)].get_or_init(|| {
            if self.family.admit() {
                self.resolve(&code.to_string())
            } else {
                self.other().clone()
            }
        })
    }

    fn other(&self) -> &IntCounter {
        self.other.get_or_init(|| self.resolve(OTHER))
    }

    /// Removes the series that came into being.
    pub(super) fn forget(&self) {
        for (hundreds, class) in (1..).zip(&self.classes) {
            let codes = class
                .get()
                .into_iter()
                .flat_map(|codes| (0..).zip(codes.iter()));
            for (rest, counter) in codes {
                // One that was counted under `other` has no series, and took no room.
                if counter.get().is_some() && self.remove(&(hundreds * 100 + rest).to_string()) {
                    self.family.room.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
        self.remove(OTHER);
    }

    fn with_code<'a>(&'a self, code: &'a str) -> Vec<&'a str> {
        self.labels
            .iter()
            .map(String::as_str)
            .chain([code])
            .collect()
    }

    fn resolve(&self, code: &str) -> IntCounter {
        self.family
            .counters
            .with_label_values(&self.with_code(code))
    }

    /// Whether there was such a series.
    fn remove(&self, code: &str) -> bool {
        let labels = self.with_code(code);
        self.family.counters.remove_label_values(&labels).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prometheus::Opts;
    use prometheus::core::Collector;

    fn family(label_sets: usize) -> StatusFamily {
        let opts = Opts::new("requests", "of a test");
        let counters = IntCounterVec::new(opts, &["route", "code"]).unwrap();
        let overflow = IntCounter::new("overflow", "of a test").unwrap();
        StatusFamily::new(counters, label_sets, overflow)
    }

    fn series(family: &StatusFamily) -> usize {
        family.counters.collect()[0].get_metric().len()
    }

    fn value(family: &StatusFamily, route: &str, code: &str) -> u64 {
        family.counters.with_label_values(&[route, code]).get()
    }

    #[test]
    fn counts_each_code_apart() {
        let family = family(1);
        let counters = StatusCounters::new(&family, &["a"]);
        for code in [100, 200, 200, 299, 599] {
            counters.of(code).inc();
        }
        let values = ["100", "200", "299", "599"].map(|code| value(&family, "a", code));
        assert_eq!(values, [1, 2, 1, 1]);
        assert_eq!(series(&family), 4);
    }

    #[test]
    fn puts_codes_that_http_does_not_know_together() {
        let family = family(1);
        let counters = StatusCounters::new(&family, &["a"]);
        for code in [0, 99, 600, 999, u16::MAX] {
            counters.of(code).inc();
        }
        assert_eq!(value(&family, "a", "other"), 5);
        assert_eq!(series(&family), 1);
    }

    #[test]
    fn forgets_its_own_series_only() {
        let family = family(1);
        let gone = StatusCounters::new(&family, &["gone"]);
        let kept = StatusCounters::new(&family, &["kept"]);
        for code in [200, 404, 999] {
            gone.of(code).inc();
            kept.of(code).inc();
        }
        gone.forget();
        assert_eq!(series(&family), 3);
        assert_eq!(value(&family, "kept", "404"), 1);
    }

    #[test]
    fn puts_codes_under_other_once_the_family_is_full() {
        let family = family(1);
        let first = StatusCounters::new(&family, &["first"]);
        for code in 200..212 {
            first.of(code).inc();
            first.of(code).inc();
        }
        assert_eq!(value(&family, "first", "other"), 4);
        assert_eq!(family.overflow.get(), 2);
        assert_eq!(series(&family), CODES + 1);
        first.forget();
        assert_eq!(series(&family), 0);
        let second = StatusCounters::new(&family, &["second"]);
        (200..200 + CODES as u16).for_each(|code| second.of(code).inc());
        assert_eq!(series(&family), CODES);
        assert_eq!(family.overflow.get(), 2);
    }
}
