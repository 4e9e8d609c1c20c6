//! How long a request may take, and how often it is tried.

use super::Context;
use crate::file::{Retry, Timeouts};
use crate::path::Path;
use meridian_model::policy::{RetryOn, RetryPolicy, RouteTimeouts};
use std::time::Duration;

/// How long a request may take; the file writes no limit as `0s`.
pub(super) fn timeouts(written: &Timeouts, cx: &mut Context<'_>, path: &Path) -> RouteTimeouts {
    let defaults = RouteTimeouts::default();
    let limit = |duration: Duration| Some(duration).filter(|duration| !duration.is_zero());
    let request = match &written.request {
        Some(duration) => limit(duration.0),
        None => defaults.request,
    };
    let per_try = written.backend_request.as_ref().and_then(|d| limit(d.0));
    if let (Some(request), Some(per_try)) = (request, per_try)
        && per_try > request
    {
        let message = format!("expected at most {request:?}, the timeout of the whole request");
        cx.error(&path.key("backendRequest"), message);
    }
    RouteTimeouts {
        request,
        per_try,
        ..defaults
    }
}

/// What surely did not reach a backend is tried again, and the codes asked for.
pub(super) fn retry(written: &Retry) -> RetryPolicy {
    let on = RetryOn {
        connect_failure: true,
        reset_before_request: true,
        refused_stream: true,
        retriable_status_codes: !written.codes.is_empty(),
        ..RetryOn::default()
    };
    let mut policy = RetryPolicy::new(written.attempts, on);
    policy.statuses.clone_from(&written.codes);
    if let Some(backoff) = &written.backoff {
        policy.backoff = backoff.0;
        policy.max_backoff = backoff.0 * MAX_BACKOFF_FACTOR;
    }
    policy
}

/// Envoy's.
const MAX_BACKOFF_FACTOR: u32 = 10;
