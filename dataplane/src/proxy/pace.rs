//! Finish before you begin: when a worker takes up the next request of HTTP/1.
//!
//! When more is asked than a worker can do, a request waits on every connection. Whoever begins
//! them all, one after the other, comes back to each only after all the others, when the
//! processor's caches hold nothing of it any more. So a worker that has begun many takes up the
//! next ones only behind the responses that have come meanwhile, a few each time it asks the
//! kernel what has happened. The others wait where they are, unread, in the order in which they
//! came; docs/performance.md has the figures.
//!
//! Nothing is refused, and nobody waits for a slow upstream's sake: a worker without anything
//! else to do asks the kernel again at once. What waits is bounded by the connections, of which
//! each has one request here.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::task::{Context, Poll, Waker};

/// Requests that a worker begins at once, whatever else goes on. Twice as many made no
/// difference, and the fewer they are, the smaller the caches that hold them.
const FREE: usize = 32;

/// How many are begun each time the kernel was asked, where that many are under way already.
const STEP: usize = 8;

thread_local! {
    /// The worker's: its requests never leave its thread.
    static PACE: RefCell<Pace> = const { RefCell::new(Pace::new()) };
}

/// Waits until the worker is ready for another request.
pub(super) async fn begin() -> Begun {
    let mut ticket = None;
    poll_fn(|cx| {
        let (passed, first) = PACE.with_borrow_mut(|pace| {
            let first = pace.waiting.is_empty();
            let passed = pace.poll(&mut ticket, cx);
            (passed, first && !pace.waiting.is_empty())
        });
        if first {
            tokio::spawn(usher());
        }
        passed
    })
    .await;
    Begun(())
}

/// A request that was begun, until it is dropped.
pub(super) struct Begun(());

impl Drop for Begun {
    fn drop(&mut self) {
        // A thread that ends counts no more.
        let _ = PACE.try_with(|pace| pace.borrow_mut().begun -= 1);
    }
}

/// Lets pass who waits, a few at a time, each time behind what the kernel had to say: that is
/// when a task goes on that has yielded.
async fn usher() {
    let mut waits = true;
    while waits {
        tokio::task::yield_now().await;
        let (next, left) = PACE.with_borrow_mut(|pace| (pace.step(), !pace.waiting.is_empty()));
        next.into_iter().for_each(Waker::wake);
        waits = left;
    }
}

/// Who has begun, and who waits.
struct Pace {
    begun: usize,
    /// By ticket, the first with the number `passed`.
    waiting: VecDeque<Waker>,
    passed: u64,
}

impl Pace {
    const fn new() -> Self {
        Self {
            begun: 0,
            waiting: VecDeque::new(),
            passed: 0,
        }
    }

    /// Ready once the request may begin, which it has done then. Who must wait gets a ticket.
    fn poll(&mut self, ticket: &mut Option<u64>, cx: &mut Context<'_>) -> Poll<()> {
        let passes = match *ticket {
            None => self.begun < FREE && self.waiting.is_empty(),
            Some(ticket) => ticket < self.passed,
        };
        if passes {
            self.begun += 1;
            return Poll::Ready(());
        }
        if ticket.is_none() {
            *ticket = Some(self.passed + self.waiting.len() as u64);
            self.waiting.push_back(cx.waker().clone());
        }
        Poll::Pending
    }

    /// Lets the next ones pass, to be woken outside: what is dropped then may be a request's task.
    fn step(&mut self) -> Vec<Waker> {
        let room = FREE.saturating_sub(self.begun).max(STEP);
        let count = room.min(self.waiting.len());
        self.passed += count as u64;
        self.waiting.drain(..count).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    /// As many as begin at once, in a row.
    async fn fill(count: usize) -> Vec<Begun> {
        let mut begun = Vec::new();
        for _ in 0..count {
            begun.push(begin().await);
        }
        begun
    }

    /// Those of the tickets that may begin now.
    fn passing(pace: &mut Pace, tickets: &mut [Option<u64>]) -> Vec<usize> {
        let mut cx = Context::from_waker(Waker::noop());
        let mut passing = Vec::new();
        for (number, ticket) in tickets.iter_mut().enumerate() {
            if pace.poll(ticket, &mut cx).is_ready() {
                passing.push(number);
            }
        }
        passing
    }

    #[test]
    fn who_finds_no_room_passes_step_by_step_and_in_order() {
        let mut pace = Pace::new();
        let first = passing(&mut pace, &mut [None; FREE]);
        assert_eq!(first, (0..FREE).collect::<Vec<_>>());
        let mut waiting = [None; STEP + 2];
        assert!(passing(&mut pace, &mut waiting).is_empty());
        assert_eq!(pace.step().len(), STEP);
        let second = passing(&mut pace, &mut waiting);
        assert_eq!(second, (0..STEP).collect::<Vec<_>>());
        // Those that have ended make room, and nobody overtakes who waits for it.
        pace.begun = 0;
        assert!(passing(&mut pace, &mut [None]).is_empty());
        assert_eq!(pace.step().len(), 3);
        let third = passing(&mut pace, &mut waiting[STEP..]);
        assert_eq!(third, [0, 1]);
    }

    #[tokio::test]
    async fn a_request_that_waits_begins_though_none_ends() {
        let begun = fill(FREE).await;
        let order = Arc::new(Mutex::new(Vec::new()));
        let tasks: Vec<_> = (0..3 * STEP)
            .map(|number| {
                let order = Arc::clone(&order);
                tokio::spawn(async move {
                    let begun = begin().await;
                    order.lock().unwrap().push(number);
                    begun
                })
            })
            .collect();
        let waited = futures::future::join_all(tasks).await;
        assert_eq!(*order.lock().unwrap(), (0..3 * STEP).collect::<Vec<_>>());
        drop((begun, waited));
        assert_eq!(PACE.with_borrow(|pace| pace.begun), 0);
    }

    #[tokio::test]
    async fn who_leaves_while_it_waits_holds_nobody_up() {
        let begun = fill(FREE).await;
        let left = tokio::spawn(begin());
        let stays = tokio::spawn(begin());
        tokio::task::yield_now().await;
        left.abort();
        drop(stays.await.unwrap());
        drop(begun);
        assert_eq!(PACE.with_borrow(|pace| pace.begun), 0);
    }
}
