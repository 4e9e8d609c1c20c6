//! The runtime of the control plane.

use crate::Outcome;
use std::error::Error;
use std::io;

/// Why the control plane did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum ControlError<E: Error + 'static> {
    /// The system refused the runtime.
    #[error("start the control runtime")]
    Runtime(#[source] io::Error),
    /// Its work failed.
    #[error(transparent)]
    Work(E),
}

/// Runs the control plane on this thread; the data plane has threads of its own.
///
/// # Errors
/// When the system refuses the runtime, or `work` fails.
pub fn run<E: Error + 'static>(
    work: impl Future<Output = Result<Outcome, E>>,
) -> Result<Outcome, ControlError<E>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(ControlError::Runtime)?;
    let outcome = runtime.block_on(work).map_err(ControlError::Work)?;
    // A look-up that still waits for the system must not hold up the end.
    runtime.shutdown_background();
    Ok(outcome)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn the_outcome_is_that_of_the_work() {
        let outcome = run(async { Ok::<_, io::Error>(Outcome::Misconfigured) });
        assert_eq!(outcome.unwrap(), Outcome::Misconfigured);
        let failed = run(async { Err(io::Error::other("no luck")) });
        assert_eq!(failed.unwrap_err().to_string(), "no luck");
    }

    #[test]
    fn a_look_up_that_hangs_does_not_hold_up_the_end() {
        let (release, held) = std::sync::mpsc::channel::<()>();
        let outcome = run(async {
            let look_up = move || held.recv_timeout(Duration::from_secs(5));
            drop(tokio::task::spawn_blocking(look_up));
            Ok::<_, io::Error>(Outcome::Done)
        });
        assert_eq!(outcome.unwrap(), Outcome::Done);
        // Had the runtime waited for it, nobody would be there to take this.
        assert!(release.send(()).is_ok(), "the look-up is over already");
    }
}
