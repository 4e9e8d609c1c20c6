//! A timer that is cheap to move: made at the first wait, and kept for all that follow.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use tokio::time::{Instant, Sleep};

/// Wakes no earlier than the deadline that is asked for.
///
/// A deadline that moves away costs nothing: the timer rings at the old one
/// and is wound again only then. So a kept-alive connection under load never
/// touches the runtime's timers.
#[derive(Debug, Default)]
pub(crate) struct Deadline {
    timer: Option<Pin<Box<Sleep>>>,
}

impl Deadline {
    /// Ready once `deadline` has passed.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>, deadline: Instant) -> Poll<()> {
        let timer = self
            .timer
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        if timer.deadline() > deadline {
            timer.as_mut().reset(deadline);
        }
        loop {
            ready!(timer.as_mut().poll(cx));
            if timer.deadline() >= deadline {
                return Poll::Ready(());
            }
            timer.as_mut().reset(deadline);
        }
    }
}

/// Timers of streams that have ended, for those that follow on the connection. Behind a mutex only
/// so that their tasks may be sent: they run on the connection's one thread, so nobody waits for it.
#[derive(Debug, Default)]
pub(crate) struct Spares(Mutex<Vec<Deadline>>);

/// Most that lie ready. A connection that has had many streams at once keeps no more.
const SPARES: usize = 32;

impl Spares {
    /// One that was used before, where there is one.
    pub(crate) fn take(&self) -> Deadline {
        self.lock().pop().unwrap_or_default()
    }

    /// Takes one back.
    pub(crate) fn give_back(&self, deadline: Deadline) {
        let mut spares = self.lock();
        if spares.len() < SPARES {
            spares.push(deadline);
        }
    }

    /// A panic elsewhere leaves nothing half done here.
    fn lock(&self) -> MutexGuard<'_, Vec<Deadline>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::Deadline;
    use std::future::poll_fn;
    use std::time::Duration;
    use tokio::time::Instant;

    #[tokio::test(start_paused = true)]
    async fn rings_at_the_deadline_that_was_asked_for_last() {
        let start = Instant::now();
        let mut deadline = Deadline::default();
        for after in [5, 10, 12] {
            let at = start + Duration::from_secs(after);
            poll_fn(|cx| {
                // Asking for another deadline first must not matter.
                let _ = deadline.poll(cx, at + Duration::from_secs(60));
                deadline.poll(cx, at)
            })
            .await;
            assert_eq!(start.elapsed().as_secs(), after);
        }
    }
}
