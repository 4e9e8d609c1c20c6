//! Where requests wait for a connection that somebody else holds.
//!
//! A worker's pool is its own, so that an idle connection of one worker is out of
//! reach of a request on another. Mostly that is as well: the request makes one. Where
//! it may not, because the cluster's limit is reached or the endpoint takes no more, it
//! stands in line here, and the worker that has a connection to spare hands it over.
//! Where nobody waits, that is one look at a number.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::oneshot;

/// Who waits for what, first come, first served. `K` names a kind of connection, `T` is one.
pub(super) struct Desk<K, T> {
    /// Length of the line, to be read without the lock.
    waiting: AtomicUsize,
    next: AtomicU64,
    line: Mutex<Vec<Place<K, T>>>,
    /// Takes what came for somebody who had just left.
    unclaimed: fn(K, T),
}

struct Place<K, T> {
    id: u64,
    key: K,
    hand: oneshot::Sender<T>,
}

/// A place in the line, until dropped.
pub(super) struct Waiting<K: Clone + Eq + 'static, T: 'static> {
    desk: &'static Desk<K, T>,
    id: u64,
    key: K,
    arrival: oneshot::Receiver<T>,
}

impl<K: Clone + Eq + 'static, T: 'static> Desk<K, T> {
    pub(super) const fn new(unclaimed: fn(K, T)) -> Self {
        Self {
            waiting: AtomicUsize::new(0),
            next: AtomicU64::new(0),
            line: Mutex::new(Vec::new()),
            unclaimed,
        }
    }

    /// Stands in line.
    pub(super) fn wait(&'static self, key: &K) -> Waiting<K, T> {
        let (hand, arrival) = oneshot::channel();
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        self.change(|line| {
            line.push(Place {
                id,
                key: key.clone(),
                hand,
            });
        });
        Waiting {
            desk: self,
            id,
            key: key.clone(),
            arrival,
        }
    }

    /// Whether nobody waits. Takes no lock.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.load(Ordering::SeqCst) == 0
    }

    /// Gives to the one who has waited longest for `key`; back where nobody does.
    pub(super) fn hand_over(&self, key: &K, thing: T) -> Option<T> {
        if self.is_empty() {
            return Some(thing);
        }
        self.change(|line| {
            let at = line.iter().position(|place| place.key == *key);
            match at.map(|at| line.remove(at)) {
                // It can't fail: who leaves takes the place out of the line first.
                Some(place) => place.hand.send(thing).err(),
                None => Some(thing),
            }
        })
    }

    /// What is waited for, once for each who waits.
    pub(super) fn wanted(&self) -> Vec<K> {
        if self.is_empty() {
            return Vec::new();
        }
        self.locked()
            .iter()
            .map(|place| place.key.clone())
            .collect()
    }

    /// Whether somebody waits for something of this kind.
    pub(super) fn wants(&self, kind: impl Fn(&K) -> bool) -> bool {
        !self.is_empty() && self.locked().iter().any(|place| kind(&place.key))
    }

    fn change<R>(&self, change: impl FnOnce(&mut Vec<Place<K, T>>) -> R) -> R {
        let mut line = self.locked();
        let result = change(&mut line);
        self.waiting.store(line.len(), Ordering::SeqCst);
        result
    }

    fn locked(&self) -> MutexGuard<'_, Vec<Place<K, T>>> {
        // A line is in order after each step of a change.
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Clone + Eq + 'static, T: 'static> Waiting<K, T> {
    /// Waits for what is handed over; once. Dropping the future loses nothing.
    pub(super) async fn arrived(&mut self) -> T {
        match (&mut self.arrival).await {
            Ok(thing) => thing,
            // The other end lies in the line for as long as this place does.
            Err(_) => std::future::pending().await,
        }
    }
}

impl<K: Clone + Eq + 'static, T: 'static> Drop for Waiting<K, T> {
    fn drop(&mut self) {
        self.desk
            .change(|line| line.retain(|place| place.id != self.id));
        // Handed over under the lock: from here on nothing more comes.
        if let Ok(thing) = self.arrival.try_recv() {
            (self.desk.unclaimed)(self.key.clone(), thing);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Desk;
    use std::sync::atomic::{AtomicU32, Ordering};

    fn nobody(_: &str, thing: u32) {
        panic!("{thing} was not claimed");
    }

    #[tokio::test]
    async fn who_waits_longest_for_the_key_is_served_first() {
        static DESK: Desk<&str, u32> = Desk::new(nobody);
        assert_eq!(DESK.hand_over(&"a", 0), Some(0));
        let mut first = DESK.wait(&"a");
        let mut other = DESK.wait(&"b");
        let mut second = DESK.wait(&"a");
        assert_eq!(DESK.wanted(), ["a", "b", "a"]);
        assert_eq!(DESK.hand_over(&"a", 1), None);
        assert_eq!(DESK.hand_over(&"a", 2), None);
        assert_eq!(DESK.hand_over(&"a", 3), Some(3));
        assert_eq!((first.arrived().await, second.arrived().await), (1, 2));
        assert!(DESK.wants(|key| *key == "b") && !DESK.wants(|key| *key == "a"));
        assert_eq!(DESK.hand_over(&"b", 4), None);
        assert_eq!(other.arrived().await, 4);
        assert!(DESK.is_empty());
    }

    #[tokio::test]
    async fn who_leaves_is_forgotten_and_what_came_for_him_is_not_lost() {
        static LEFT: AtomicU32 = AtomicU32::new(0);
        static DESK: Desk<&str, u32> = Desk::new(|_, thing| LEFT.store(thing, Ordering::Relaxed));
        drop(DESK.wait(&"a"));
        assert!(DESK.is_empty());
        assert_eq!(DESK.hand_over(&"a", 1), Some(1));
        let waiting = DESK.wait(&"a");
        assert_eq!(DESK.hand_over(&"a", 2), None);
        drop(waiting);
        assert_eq!(LEFT.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn what_threads_hand_over_arrives_once() {
        const COUNT: u32 = 500;
        static KEPT: AtomicU32 = AtomicU32::new(0);
        static DESK: Desk<u8, u32> = Desk::new(|_, thing| {
            KEPT.fetch_add(thing, Ordering::Relaxed);
        });
        let received = std::thread::scope(|scope| {
            let taker = scope.spawn(|| {
                let mut received = 0;
                while received + KEPT.load(Ordering::Relaxed) < COUNT {
                    let mut waiting = DESK.wait(&0);
                    // The other one's turn is now, also where both share a processor.
                    std::thread::yield_now();
                    if let Ok(thing) = waiting.arrival.try_recv() {
                        received += thing;
                    }
                    drop(waiting);
                }
                received
            });
            scope.spawn(|| {
                for _ in 0..COUNT {
                    while DESK.hand_over(&0, 1).is_some() {
                        std::thread::yield_now();
                    }
                }
            });
            taker.join().unwrap()
        });
        assert_eq!(received + KEPT.load(Ordering::Relaxed), COUNT);
    }
}
