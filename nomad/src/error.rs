//! What can go wrong between us and Nomad.

use std::time::Duration;

/// A failed call. Its name says what was tried; [`Error::is_retryable`] whether
/// trying again may help.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address is no `http` or `https` URL. The caller's fault.
    #[error("{address:?} is not an http or https URL")]
    Address {
        /// The address as it was given.
        address: String,
    },
    /// The token can't stand in a header. The caller's fault.
    #[error("the token has characters that no header may have")]
    Token,
    /// The HTTP client could not be made.
    #[error("make the HTTP client")]
    Client(#[source] reqwest::Error),
    /// No answer: refused, reset, or too late.
    #[error("{operation}: no answer")]
    Transport {
        /// What was tried.
        operation: &'static str,
        /// What happened.
        #[source]
        source: reqwest::Error,
    },
    /// Nomad refused. Its errors are plain text, often with status 500 for what
    /// is the caller's fault.
    #[error("{operation}: {status} {message}")]
    Status {
        /// What was tried.
        operation: &'static str,
        /// Status code.
        status: u16,
        /// Nomad's words.
        message: String,
    },
    /// The answer is larger than any that makes sense.
    #[error("{operation}: the answer is over {limit} bytes")]
    TooLarge {
        /// What was tried.
        operation: &'static str,
        /// The limit, in bytes.
        limit: usize,
    },
    /// The answer is not what Nomad's documentation says.
    #[error("{operation}: the answer is not understood")]
    Decode {
        /// What was tried.
        operation: &'static str,
        /// Where it differs.
        #[source]
        source: serde_json::Error,
    },
}

impl Error {
    /// Whether the same call may succeed a little later.
    ///
    /// 429 comes without headers when a client has over 100 connections open
    /// (`http_max_conns_per_client`), so the wait is up to the caller:
    /// [`Error::PAUSE`] at least.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Transport { .. } => true,
            Self::Status { status, .. } => matches!(status, 429 | 502..=504),
            _ => false,
        }
    }

    /// Shortest wait before trying again: longer than an agent's restart takes
    /// to be noticed, shorter than an operator's patience.
    pub const PAUSE: Duration = Duration::from_secs(1);
}
