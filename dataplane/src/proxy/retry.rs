//! Whether a request is tried again, and after how long: the rules of
//! [`crate::resilience`] applied to one request.

use super::failure::Failure;
use crate::resilience::{Attempt, Breaker, Ending, Permit, backoff, should_retry};
use http::{HeaderMap, Method, StatusCode};
use meridian_model::policy::RetryPolicy;
use std::sync::Arc;
use std::time::Duration;

/// The retries of one request.
pub(crate) struct Retries<'a> {
    policy: Option<&'a RetryPolicy>,
    method: Method,
    count: u32,
    breaker: &'a Arc<Breaker>,
    /// Counts against the budget while the retry goes on.
    permit: Option<Permit>,
}

/// Which responses are not passed on.
pub(crate) struct RetryPlan<'a> {
    policy: &'a RetryPolicy,
    method: &'a Method,
    count: u32,
}

impl RetryPlan<'_> {
    /// Whether a response with this head should be another's.
    pub(crate) fn wants(&self, headers: &HeaderMap, status: StatusCode) -> bool {
        let attempt = Attempt {
            method: self.method,
            ending: response(headers, status),
            bytes_sent: true,
            reused_connection: false,
            replayable: true,
            retries: self.count,
        };
        should_retry(Some(self.policy), &attempt).is_some()
    }
}

/// How a try without a usable response ended.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Failed {
    pub(crate) failure: Failure,
    /// Whether a byte of the request may have reached the application.
    pub(crate) sent: bool,
    /// Whether the connection had carried requests before.
    pub(crate) reused: bool,
    /// Whether the whole body can be sent again.
    pub(crate) replayable: bool,
}

impl<'a> Retries<'a> {
    pub(crate) fn new(
        policy: Option<&'a RetryPolicy>,
        method: &Method,
        breaker: &'a Arc<Breaker>,
    ) -> Self {
        Self {
            policy,
            method: method.clone(),
            count: 0,
            breaker,
            permit: None,
        }
    }

    /// Which responses the next try does not pass on; `None` without a policy.
    pub(crate) fn plan(&self) -> Option<RetryPlan<'_>> {
        Some(RetryPlan {
            policy: self.policy?,
            method: &self.method,
            count: self.count,
        })
    }

    /// After a response that was not passed on: the pause before the next try,
    /// if the budget has room for one.
    pub(crate) fn after_status(&mut self) -> Option<Duration> {
        self.again(true)
    }

    /// After a failure: the pause before the next try, if there may be one.
    pub(crate) fn after_failure(&mut self, failed: Failed) -> Option<Duration> {
        let attempt = Attempt {
            method: &self.method,
            ending: ending(failed.failure)?,
            bytes_sent: failed.sent,
            reused_connection: failed.reused,
            replayable: failed.replayable,
            retries: self.count,
        };
        should_retry(self.policy, &attempt)?;
        // A request that never left, or lost a race for a kept connection, is
        // sent again at once: waiting would help nobody.
        let waits = !matches!(attempt.ending, Ending::ConnectFailed) && !failed.reused;
        self.again(waits)
    }

    fn again(&mut self, waits: bool) -> Option<Duration> {
        self.permit = None;
        self.permit = Some(self.breaker.try_retry()?);
        self.count += 1;
        Some(match self.policy {
            Some(policy) if waits => backoff(policy, self.count, &mut fastrand::Rng::new()),
            _ => Duration::ZERO,
        })
    }
}

fn response(headers: &HeaderMap, status: StatusCode) -> Ending {
    let grpc = headers
        .get("grpc-status")
        .and_then(|value| value.to_str().ok());
    Ending::Response {
        status: status.as_u16(),
        grpc_status: grpc.and_then(|code| code.parse().ok()),
    }
}

/// `None` for failures that no other try would mend.
fn ending(failure: Failure) -> Option<Ending> {
    match failure {
        Failure::ConnectFailed | Failure::ConnectTimeout | Failure::PeerUnverified => {
            Some(Ending::ConnectFailed)
        }
        Failure::UpstreamReset | Failure::BadResponse => Some(Ending::Reset {
            response_bytes: false,
        }),
        Failure::StreamRefused => Some(Ending::Refused),
        Failure::TryTimeout => Some(Ending::TimedOut),
        Failure::Overflow => Some(Ending::Overflow),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use meridian_model::policy::{CircuitLimits, RetryOn};

    fn reset(sent: bool, reused: bool) -> Failed {
        Failed {
            failure: Failure::UpstreamReset,
            sent,
            reused,
            replayable: true,
        }
    }

    #[test]
    fn a_lost_race_for_a_kept_connection_is_tried_once_more_if_idempotent() {
        let breaker = Breaker::new(&CircuitLimits::default());
        let mut get = Retries::new(None, &Method::GET, &breaker);
        assert_eq!(get.after_failure(reset(true, true)), Some(Duration::ZERO));
        assert_eq!(get.after_failure(reset(true, true)), None);
        let mut post = Retries::new(None, &Method::POST, &breaker);
        assert_eq!(post.after_failure(reset(true, true)), None);
    }

    #[test]
    fn without_a_policy_no_response_is_held_back() {
        let breaker = Breaker::new(&CircuitLimits::default());
        assert!(Retries::new(None, &Method::GET, &breaker).plan().is_none());
    }

    #[test]
    fn a_policy_names_the_responses_that_are_held_back() {
        let breaker = Breaker::new(&CircuitLimits::default());
        let policy = RetryPolicy::new(
            1,
            RetryOn {
                gateway_error: true,
                ..RetryOn::default()
            },
        );
        let mut retries = Retries::new(Some(&policy), &Method::GET, &breaker);
        let wants = |retries: &Retries<'_>, status| {
            let plan = retries.plan().unwrap();
            plan.wants(&HeaderMap::new(), StatusCode::from_u16(status).unwrap())
        };
        assert!(wants(&retries, 503));
        assert!(!wants(&retries, 500));
        assert!(retries.after_status().is_some());
        assert!(!wants(&retries, 503), "the last try's answer is passed on");
    }
}
