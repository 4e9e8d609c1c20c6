//! What a try's failure says of the endpoint, and what it counts as in metrics.

use super::exchange::Outcome;
use super::failure::Failure;
use crate::resilience::Outcome as Health;
use crate::stream::classify;
use crate::upstream::DialError;
use crate::upstream::pool::ConnectError;
use meridian_telemetry::metrics::{RetryReason, TryError};

/// What a connection that was not made means, and what it counts as.
pub(super) fn connect_failure(error: &ConnectError) -> (Failure, TryError) {
    match error {
        ConnectError::Dial(dial) => {
            let failure = match dial {
                DialError::Timeout(_) => Failure::ConnectTimeout,
                DialError::Connect(_) => Failure::ConnectFailed,
                DialError::Tls { .. } => Failure::PeerUnverified,
                DialError::Unusable(_) => Failure::Unroutable(503),
            };
            (failure, classify(dial).0)
        }
        ConnectError::Http2(_) => (Failure::ConnectFailed, TryError::Protocol),
        ConnectError::Overflow => (Failure::Overflow, TryError::Overflow),
    }
}

/// The failure of a try, if it had one.
pub(super) fn failure_of(outcome: Outcome) -> Option<Failure> {
    match outcome {
        Outcome::Failed { failure, .. } | Outcome::Broken(failure) => Some(failure),
        Outcome::Complete | Outcome::Unwanted(_) => None,
    }
}

/// What a failure says against the endpoint; `None` where it is not to blame.
pub(super) fn blame(failure: Failure) -> Option<Health> {
    match failure {
        Failure::ConnectFailed | Failure::ConnectTimeout | Failure::PeerUnverified => {
            Some(Health::Unreachable)
        }
        Failure::UpstreamReset
        | Failure::ResponseCut
        | Failure::BadResponse
        | Failure::Timeout
        | Failure::IdleTimeout
        | Failure::TryTimeout => Some(Health::Failure),
        _ => None,
    }
}

/// Failures of the exchange as metrics count them; those of connecting were
/// counted where they happened.
pub(super) fn try_error(failure: Failure) -> Option<TryError> {
    match failure {
        Failure::UpstreamReset | Failure::ResponseCut | Failure::StreamRefused => {
            Some(TryError::Reset)
        }
        Failure::BadResponse => Some(TryError::Protocol),
        Failure::Timeout | Failure::IdleTimeout | Failure::TryTimeout => Some(TryError::Timeout),
        Failure::ClientGone | Failure::Revoked => Some(TryError::Cancelled),
        _ => None,
    }
}

/// Why another try follows, as metrics count it; a held-back status is no failure.
pub(super) fn retry_reason(failure: Option<Failure>) -> RetryReason {
    match failure {
        None => RetryReason::Status,
        Some(Failure::ConnectFailed | Failure::ConnectTimeout | Failure::PeerUnverified) => {
            RetryReason::ConnectFailure
        }
        Some(Failure::StreamRefused) => RetryReason::RefusedStream,
        Some(Failure::UpstreamReset) => RetryReason::Reset,
        Some(Failure::TryTimeout) => RetryReason::Timeout,
        Some(_) => RetryReason::Other,
    }
}
