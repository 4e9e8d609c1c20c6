//! Signals of the operating system, as the wishes that they stand for.

use std::io;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// What an operator wants of a running program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// SIGTERM or SIGINT: drain and end; a second one ends at once.
    End,
    /// SIGHUP: read the configuration again and reopen log files.
    Reload,
}

/// The system refused to hand over a signal.
#[derive(Debug, thiserror::Error)]
#[error("listen to {name}")]
pub struct SignalError {
    /// Which one.
    pub name: &'static str,
    /// What the system said.
    #[source]
    pub source: io::Error,
}

/// The signals that a program listens to. None of them ends it by itself any more.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

impl Signals {
    /// Takes the signals over. Call it early: until then they kill.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn listen() -> Result<Self, SignalError> {
        let take = |kind, name| signal(kind).map_err(|source| SignalError { name, source });
        Ok(Self {
            terminate: take(SignalKind::terminate(), "SIGTERM")?,
            interrupt: take(SignalKind::interrupt(), "SIGINT")?,
            hang_up: take(SignalKind::hangup(), "SIGHUP")?,
        })
    }

    /// The next wish. Cancelling loses none.
    pub async fn next(&mut self) -> Wish {
        tokio::select! {
            _ = self.terminate.recv() => Wish::End,
            _ = self.interrupt.recv() => Wish::End,
            _ = self.hang_up.recv() => Wish::Reload,
        }
    }
}
