//! Waiting on levels: ask again until it holds, fail at a deadline.

use std::fmt::Display;
use std::time::{Duration, Instant};

/// Time for what takes a moment on an idle machine and long on a busy one.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Between two questions: short against what is waited for, long against its cost.
const PAUSE: Duration = Duration::from_millis(20);

/// Asks `probe` until it answers with a value, and returns that.
///
/// # Panics
/// At the deadline, with the last refusal.
pub async fn until<T, E: Display>(
    what: &str,
    limit: Duration,
    mut probe: impl AsyncFnMut() -> Result<T, E>,
) -> T {
    let deadline = Instant::now() + limit;
    loop {
        match probe().await {
            Ok(value) => return value,
            Err(refusal) if Instant::now() >= deadline => {
                panic!("{what}: not within {limit:?}: {refusal}")
            }
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}

/// Asks until the answer is `true`.
///
/// # Panics
/// At the deadline.
pub async fn holds(what: &str, limit: Duration, mut probe: impl AsyncFnMut() -> bool) {
    until(what, limit, async || {
        if probe().await {
            Ok(())
        } else {
            Err("still false")
        }
    })
    .await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn returns_the_first_value() {
        let mut asked = 0;
        let value = until("third answer", PATIENCE, async || {
            asked += 1;
            if asked == 3 {
                Ok(asked)
            } else {
                Err("too early")
            }
        })
        .await;
        assert_eq!(value, 3);
    }

    #[tokio::test]
    #[should_panic(expected = "a miracle: not within 0ns: never")]
    async fn names_what_did_not_happen() {
        until("a miracle", Duration::ZERO, async || Err::<(), _>("never")).await;
    }
}
