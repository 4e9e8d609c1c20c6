//! Whether a request is sent again.
//!
//! Two questions, and both must say yes. May it be replayed without harm? And
//! does the policy, or the nature of the failure, call for it?
//!
//! A request that has a body which is gone, or whose response has begun to
//! reach the client, is never replayed. A request that is not idempotent is
//! replayed only when the upstream cannot have acted on it: nothing was sent,
//! or HTTP/2 refused the stream. There is one exception, and the operator makes
//! it: a complete answer whose status or gRPC code the policy names one by one.
//! Classes such as `5xx` name nothing, and do not replay a POST; gRPC, whose
//! calls are all POST, is retried by its codes.

use http::Method;
use meridian_model::policy::RetryPolicy;

/// One try of a request, after it failed or was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attempt<'a> {
    /// The request's method.
    pub method: &'a Method,
    /// How the try ended.
    pub ending: Ending,
    /// Whether a byte of the request was written to the upstream.
    pub bytes_sent: bool,
    /// Whether the connection had served a request before.
    pub reused_connection: bool,
    /// Whether the whole body, if any, can be sent again.
    pub replayable: bool,
    /// Retries made before this try.
    pub retries: u32,
}

/// How a try ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// No connection: refused, timed out, or its handshake failed.
    ConnectFailed,
    /// The connection or stream broke before the response's head was complete.
    Reset {
        /// Whether a byte of the response had come.
        response_bytes: bool,
    },
    /// HTTP/2 REFUSED_STREAM, or a GOAWAY that leaves the stream out: the
    /// upstream promises that it did nothing (RFC 9113, 8.7).
    Refused,
    /// The per-try timeout passed before the response's head.
    TimedOut,
    /// The response's head came.
    Response {
        /// Its status.
        status: u16,
        /// `grpc-status`, where the head itself carries it.
        grpc_status: Option<u8>,
    },
    /// Our own limits refused the try. Never tried again: that is what they are for.
    Overflow,
}

/// Why a request is sent again; a label of the retry metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryReason {
    /// The policy asks for it.
    Policy,
    /// Without a policy: no connection came about, or the upstream refused the
    /// stream, so nothing was done.
    NeverSent,
    /// Without a policy: an idle connection was closed just as it was reused.
    /// Use a new connection.
    KeepAliveRace,
}

impl RetryReason {
    /// Value of the label `reason`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Policy => "policy",
            Self::NeverSent => "never_sent",
            Self::KeepAliveRace => "keep_alive_race",
        }
    }
}

/// Whether to try again, and why. The caller still asks the retry budget, and
/// for [`RetryReason::KeepAliveRace`] takes a new connection.
pub fn should_retry(policy: Option<&RetryPolicy>, attempt: &Attempt<'_>) -> Option<RetryReason> {
    if !attempt.replayable || !may_replay(policy, attempt) {
        return None;
    }
    if let Some(policy) = policy
        && attempt.retries < policy.retries
        && asks_for_retry(policy, attempt)
    {
        return Some(RetryReason::Policy);
    }
    unasked_retry(attempt)
}

/// What is retried even without a policy, because the client could not tell
/// the difference.
fn unasked_retry(attempt: &Attempt<'_>) -> Option<RetryReason> {
    match attempt.ending {
        Ending::ConnectFailed if attempt.retries < UNASKED_CONNECT_RETRIES => {
            Some(RetryReason::NeverSent)
        }
        Ending::Reset {
            response_bytes: false,
        } if attempt.reused_connection && attempt.retries == 0 => Some(RetryReason::KeepAliveRace),
        // What an upstream that drains says to streams that crossed its GOAWAY.
        Ending::Refused if attempt.retries == 0 => Some(RetryReason::NeverSent),
        _ => None,
    }
}

/// Enough to get past an endpoint that just died and its neighbour.
const UNASKED_CONNECT_RETRIES: u32 = 2;

fn may_replay(policy: Option<&RetryPolicy>, attempt: &Attempt<'_>) -> bool {
    // RFC 9110, 9.2.2.
    let idempotent = attempt.method.is_idempotent();
    match attempt.ending {
        Ending::Overflow => false,
        Ending::ConnectFailed | Ending::Refused => true,
        Ending::Reset { .. } | Ending::TimedOut => idempotent || !attempt.bytes_sent,
        Ending::Response {
            status,
            grpc_status,
        } => idempotent || policy.is_some_and(|policy| names(policy, status, grpc_status)),
    }
}

/// Whether the policy names this very answer.
fn names(policy: &RetryPolicy, status: u16, grpc_status: Option<u8>) -> bool {
    let by_status = policy.on.retriable_status_codes && policy.statuses.contains(&status);
    let by_grpc = grpc_status.is_some_and(|code| {
        let bit = 1_u32.checked_shl(u32::from(code)).unwrap_or(0);
        policy.on.grpc_statuses & bit != 0
    });
    by_status || by_grpc
}

/// Envoy's meaning of the conditions: no response at all counts as 5xx.
fn asks_for_retry(policy: &RetryPolicy, attempt: &Attempt<'_>) -> bool {
    let on = policy.on;
    let broken = on.server_error || on.gateway_error || on.reset;
    match attempt.ending {
        Ending::ConnectFailed => broken || on.connect_failure || on.reset_before_request,
        Ending::Reset { .. } => broken || (on.reset_before_request && !attempt.bytes_sent),
        Ending::TimedOut => broken,
        Ending::Refused => broken || on.refused_stream,
        Ending::Response {
            status,
            grpc_status,
        } => {
            (on.server_error && (500..=599).contains(&status))
                || (on.gateway_error && (502..=504).contains(&status))
                || (on.retriable_4xx && status == 409)
                || names(policy, status, grpc_status)
        }
        Ending::Overflow => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use meridian_model::policy::RetryOn;

    const RESET: Ending = Ending::Reset {
        response_bytes: false,
    };

    fn response(status: u16) -> Ending {
        Ending::Response {
            status,
            grpc_status: None,
        }
    }

    fn grpc(code: u8) -> Ending {
        Ending::Response {
            status: 200,
            grpc_status: Some(code),
        }
    }

    fn attempt(method: &Method, ending: Ending) -> Attempt<'_> {
        Attempt {
            method,
            ending,
            bytes_sent: !matches!(ending, Ending::ConnectFailed | Ending::Overflow),
            reused_connection: false,
            replayable: true,
            retries: 0,
        }
    }

    fn policy(change: impl FnOnce(&mut RetryOn)) -> RetryPolicy {
        let mut on = RetryOn::default();
        change(&mut on);
        RetryPolicy::new(3, on)
    }

    fn retries(policy: &RetryPolicy, attempt: Attempt<'_>) -> bool {
        should_retry(Some(policy), &attempt) == Some(RetryReason::Policy)
    }

    #[test]
    fn conditions_cover_what_envoy_says() {
        let unanswered = [
            Ending::ConnectFailed,
            RESET,
            Ending::TimedOut,
            Ending::Refused,
        ];
        let with = |more: &[Ending]| [unanswered.as_slice(), more].concat();
        let codes = RetryPolicy {
            statuses: vec![418],
            ..policy(|on| on.retriable_status_codes = true)
        };
        let cases = [
            (policy(|_| {}), vec![]),
            (
                policy(|on| on.server_error = true),
                with(&[response(500), response(503)]),
            ),
            (policy(|on| on.gateway_error = true), with(&[response(503)])),
            (policy(|on| on.reset = true), with(&[])),
            (
                policy(|on| on.reset_before_request = true),
                vec![Ending::ConnectFailed],
            ),
            (
                policy(|on| on.connect_failure = true),
                vec![Ending::ConnectFailed],
            ),
            (policy(|on| on.retriable_4xx = true), vec![response(409)]),
            (policy(|on| on.refused_stream = true), vec![Ending::Refused]),
            (codes, vec![response(418)]),
            (policy(|on| on.grpc_statuses = 1 << 14), vec![grpc(14)]),
        ];
        let endings = with(&[
            response(200),
            response(404),
            response(409),
            response(418),
            response(500),
            response(503),
            grpc(0),
            grpc(14),
            grpc(200),
            Ending::Overflow,
        ]);
        for (policy, expected) in cases {
            for ending in &endings {
                let actual = retries(&policy, attempt(&Method::GET, *ending));
                let wanted = expected.contains(ending);
                assert_eq!(actual, wanted, "{:?} after {ending:?}", policy.on);
            }
        }
    }

    #[test]
    fn a_post_that_may_have_been_acted_on_is_not_replayed() {
        let everything = RetryPolicy {
            statuses: vec![503],
            ..policy(|on| {
                on.server_error = true;
                on.gateway_error = true;
                on.reset = true;
                on.reset_before_request = true;
                on.connect_failure = true;
                on.refused_stream = true;
                on.retriable_status_codes = true;
                on.grpc_statuses = 1 << 14;
            })
        };
        let cases = [
            (Ending::ConnectFailed, true),
            (Ending::Refused, true),
            (RESET, false),
            (Ending::TimedOut, false),
            (response(500), false),
            (response(502), false),
            // Named by the operator.
            (response(503), true),
            (grpc(14), true),
        ];
        for (ending, expected) in cases {
            let post = retries(&everything, attempt(&Method::POST, ending));
            assert_eq!(post, expected, "{ending:?}");
        }
        let unsent = Attempt {
            bytes_sent: false,
            ..attempt(&Method::POST, RESET)
        };
        assert!(retries(&everything, unsent));
    }

    #[test]
    fn no_retry_without_the_body_or_beyond_the_count() {
        let policy = policy(|on| on.server_error = true);
        let good = attempt(&Method::GET, response(500));
        assert!(retries(&policy, good));
        let gone = Attempt {
            replayable: false,
            ..good
        };
        assert!(!retries(&policy, gone));
        let third = Attempt { retries: 2, ..good };
        assert!(retries(&policy, third));
        let fourth = Attempt { retries: 3, ..good };
        assert!(!retries(&policy, fourth));
    }

    #[test]
    fn without_a_policy_only_the_unnoticeable_is_retried() {
        let connect = |retries| Attempt {
            retries,
            ..attempt(&Method::POST, Ending::ConnectFailed)
        };
        let race = |method, ending| Attempt {
            reused_connection: true,
            ..attempt(method, ending)
        };
        let half = Ending::Reset {
            response_bytes: true,
        };
        let unsent_post = Attempt {
            bytes_sent: false,
            ..race(&Method::POST, RESET)
        };
        let again = Attempt {
            retries: 1,
            ..race(&Method::GET, RESET)
        };
        let cases = [
            (connect(0), Some(RetryReason::NeverSent)),
            (connect(1), Some(RetryReason::NeverSent)),
            (connect(2), None),
            (race(&Method::GET, RESET), Some(RetryReason::KeepAliveRace)),
            (race(&Method::GET, half), None),
            (race(&Method::POST, RESET), None),
            (unsent_post, Some(RetryReason::KeepAliveRace)),
            (again, None),
            (
                attempt(&Method::POST, Ending::Refused),
                Some(RetryReason::NeverSent),
            ),
            (attempt(&Method::GET, RESET), None),
            (attempt(&Method::GET, response(503)), None),
            (attempt(&Method::GET, Ending::TimedOut), None),
            (attempt(&Method::GET, Ending::Overflow), None),
        ];
        for (attempt, expected) in cases {
            assert_eq!(should_retry(None, &attempt), expected, "{attempt:?}");
        }
    }
}
