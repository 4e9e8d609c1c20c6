//! How a program ended, as its exit code says it.

use std::process::ExitCode;

/// How a program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It did what was asked: it drained, or the file was good. Exit code 0.
    Done,
    /// It could not start, or a second signal cut the drain short. Exit code 1.
    Failed,
    /// Command line or configuration are at fault: a restart won't help. Exit code 2.
    Misconfigured,
}

impl From<Outcome> for ExitCode {
    fn from(outcome: Outcome) -> Self {
        Self::from(match outcome {
            Outcome::Done => 0,
            Outcome::Failed => 1,
            // clap ends with 2 for a bad command line, too.
            Outcome::Misconfigured => 2,
        })
    }
}
