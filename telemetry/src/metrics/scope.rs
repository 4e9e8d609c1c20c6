//! Handles by label set: made once, bounded in number, removed when unused.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use prometheus::IntCounter;

/// Label sets in one scope. A route costs some 7 kB once it was asked for, so that a full
/// scope costs 70 MB: far above any configuration seen, far below what kills a process.
pub const MAX_SERIES: usize = 10_000;

/// How long series outlive their last use, so that the last scrape before a
/// listener went away is not the last that counts. It is as long as Prometheus
/// itself holds on to a series, and longer than usual scrape intervals.
pub const RETAIN_UNUSED: Duration = Duration::from_secs(300);

/// What every label says when a scope is full.
pub(super) const OTHER: &str = "other";

/// A label set, as the key of a [`Scope`].
pub(super) trait Key: Clone + Eq + Hash {
    /// The key whose every label is [`OTHER`].
    fn other() -> Self;
}

impl Key for Arc<str> {
    fn other() -> Self {
        OTHER.into()
    }
}

impl Key for (Arc<str>, Arc<str>) {
    fn other() -> Self {
        (OTHER.into(), OTHER.into())
    }
}

/// A handle that knows which series it stands for.
pub(super) trait Handle {
    /// Removes the series from their families.
    fn forget(&self);
}

/// All handles of one kind.
#[derive(Debug)]
pub(super) struct Scope<K, H> {
    limit: usize,
    overflow: IntCounter,
    handles: Mutex<HashMap<K, Entry<H>>>,
}

#[derive(Debug)]
struct Entry<H> {
    handle: Arc<H>,
    /// When a sweep first found that nobody else holds the handle.
    unused_since: Option<Instant>,
}

impl<K: Key, H: Handle> Scope<K, H> {
    pub(super) fn new(limit: usize, overflow: IntCounter) -> Self {
        Self {
            limit,
            overflow,
            handles: Mutex::new(HashMap::new()),
        }
    }

    /// The handle of these labels, or that of `other` when the scope is full.
    ///
    /// `make` runs under the scope's lock and must not resolve in the same scope.
    pub(super) fn resolve(&self, key: &K, make: impl FnOnce(&K) -> H) -> Arc<H> {
        let mut handles = self.handles.lock().unwrap_or_else(PoisonError::into_inner);
        let key = if handles.contains_key(key) || handles.len() < self.limit {
            key.clone()
        } else {
            self.overflow.inc();
            K::other()
        };
        let entry = handles.entry(key).or_insert_with_key(|key| Entry {
            handle: Arc::new(make(key)),
            unused_since: None,
        });
        entry.unused_since = None;
        Arc::clone(&entry.handle)
    }

    /// Forgets the handles that nobody has held for [`RETAIN_UNUSED`].
    pub(super) fn sweep(&self, now: Instant) {
        let mut handles = self.handles.lock().unwrap_or_else(PoisonError::into_inner);
        handles.retain(|_, entry| {
            // Others can't appear meanwhile: they would come through `resolve`.
            if Arc::strong_count(&entry.handle) > 1 {
                entry.unused_since = None;
                return true;
            }
            let since = *entry.unused_since.get_or_insert(now);
            let keep = now.saturating_duration_since(since) < RETAIN_UNUSED;
            if !keep {
                entry.handle.forget();
            }
            keep
        });
    }

    pub(super) fn each(&self, mut visit: impl FnMut(&H)) {
        let handles = self.handles.lock().unwrap_or_else(PoisonError::into_inner);
        handles.values().for_each(|entry| visit(&entry.handle));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    struct Counted(Arc<AtomicUsize>);

    impl Handle for Counted {
        fn forget(&self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    struct Fixture {
        scope: Scope<Arc<str>, Counted>,
        overflow: IntCounter,
        forgotten: Arc<AtomicUsize>,
    }

    impl Fixture {
        fn new(limit: usize) -> Self {
            let overflow = IntCounter::new("overflow", "of a test").unwrap();
            Self {
                scope: Scope::new(limit, overflow.clone()),
                overflow,
                forgotten: Arc::default(),
            }
        }

        fn resolve(&self, key: &str) -> Arc<Counted> {
            let forgotten = Arc::clone(&self.forgotten);
            self.scope.resolve(&key.into(), |_| Counted(forgotten))
        }

        fn forgotten(&self) -> usize {
            self.forgotten.load(Ordering::Relaxed)
        }
    }

    #[test]
    fn gives_the_same_handle_for_the_same_labels() {
        let fixture = Fixture::new(2);
        assert!(Arc::ptr_eq(&fixture.resolve("a"), &fixture.resolve("a")));
        assert!(!Arc::ptr_eq(&fixture.resolve("a"), &fixture.resolve("b")));
    }

    #[test]
    fn counts_what_is_too_much_and_gives_it_one_handle() {
        let fixture = Fixture::new(1);
        let first = fixture.resolve("a");
        let (b, c) = (fixture.resolve("b"), fixture.resolve("c"));
        assert!(Arc::ptr_eq(&b, &c) && !Arc::ptr_eq(&first, &b));
        assert!(Arc::ptr_eq(&first, &fixture.resolve("a")));
        assert_eq!(fixture.overflow.get(), 2);
    }

    #[test]
    fn forgets_a_handle_only_after_it_was_unused_for_long() {
        let fixture = Fixture::new(8);
        let held = fixture.resolve("held");
        drop(fixture.resolve("dropped"));
        let start = Instant::now();
        fixture.scope.sweep(start);
        fixture.scope.sweep(start + RETAIN_UNUSED / 2);
        assert_eq!(fixture.forgotten(), 0);
        fixture.scope.sweep(start + RETAIN_UNUSED);
        assert_eq!(fixture.forgotten(), 1);
        drop(held);
        fixture.scope.sweep(start + 2 * RETAIN_UNUSED);
        assert_eq!(fixture.forgotten(), 1);
        fixture.scope.sweep(start + 3 * RETAIN_UNUSED);
        assert_eq!(fixture.forgotten(), 2);
    }

    #[test]
    fn use_in_between_starts_the_wait_anew() {
        let fixture = Fixture::new(8);
        let start = Instant::now();
        drop(fixture.resolve("a"));
        fixture.scope.sweep(start);
        drop(fixture.resolve("a"));
        fixture.scope.sweep(start + RETAIN_UNUSED);
        assert_eq!(fixture.forgotten(), 0);
    }
}
