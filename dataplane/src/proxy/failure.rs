//! Why a request was not answered by its upstream: whose fault, which status,
//! and whether another try is safe. Everything else (response, metric label,
//! log field, retry) follows from this one enum.

use crate::downstream::Violation;
use http::StatusCode;

/// Envoy's words for an upstream that gave no response.
macro_rules! before_headers {
    ($reason:literal) => {
        concat!(
            "upstream connect error or disconnect/reset before headers. reset reason: ",
            $reason
        )
    };
}

/// Why a request failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failure {
    /// Its bytes break a rule of HTTP/1.1, or a limit.
    Violation(Violation),
    /// The request is malformed in another way.
    BadRequest(&'static str),
    /// It took the client too long to send its body.
    SlowRequest,
    /// More header lines than allowed.
    TooManyHeaders,
    /// An `Expect` that we can't meet.
    BadExpectation,
    /// A method that is never proxied.
    MethodRefused,
    /// Intentions say no.
    Denied,
    /// An external authorization says no.
    ExternalDenied,
    /// An external authorization gives no answer.
    ExternalUnanswered,
    /// There are more requests than the listener takes.
    RateLimited,
    /// No route matches.
    NoRoute,
    /// A route matches but for the method.
    MethodNotAllowed,
    /// The configuration could not be honoured.
    Unroutable(u16),
    /// The cluster has no healthy endpoint.
    NoHealthyUpstream,
    /// A circuit limit is reached.
    Overflow,
    /// No connection could be made.
    ConnectFailed,
    /// Connecting took too long.
    ConnectTimeout,
    /// The peer could not prove who it is, or does not believe who we are.
    PeerUnverified,
    /// The upstream closed or reset before a response.
    UpstreamReset,
    /// The upstream refused the stream without looking at it.
    StreamRefused,
    /// What the upstream sent is no HTTP.
    BadResponse,
    /// The request's time is up.
    Timeout,
    /// Nothing moved for too long.
    IdleTimeout,
    /// A try's time is up.
    TryTimeout,
    /// The response broke off in the middle.
    ResponseCut,
    /// The client went away, or stopped reading or sending.
    ClientGone,
    /// An intention was changed while the exchange went on.
    Revoked,
}

impl Failure {
    /// The response's status. 499 is never sent: there is nobody to read it.
    pub(crate) fn status(self) -> StatusCode {
        let code = match self {
            Self::Violation(violation) => return violation.status(),
            Self::BadRequest(_) => 400,
            Self::Denied | Self::Revoked | Self::ExternalDenied | Self::ExternalUnanswered => 403,
            Self::NoRoute => 404,
            Self::MethodRefused | Self::MethodNotAllowed => 405,
            Self::SlowRequest => 408,
            Self::BadExpectation => 417,
            Self::RateLimited => 429,
            Self::TooManyHeaders => 431,
            Self::ClientGone => 499,
            Self::Unroutable(status) => status,
            Self::BadResponse | Self::PeerUnverified => 502,
            Self::NoHealthyUpstream
            | Self::Overflow
            | Self::ConnectFailed
            | Self::ConnectTimeout
            | Self::UpstreamReset
            | Self::StreamRefused
            | Self::ResponseCut => 503,
            Self::Timeout | Self::IdleTimeout | Self::TryTimeout => 504,
        };
        StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// Value of `error.type` in metrics, logs and problem documents.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Violation(violation) => violation.as_str(),
            Self::BadRequest(_) => "bad_request",
            Self::SlowRequest => "slow_request",
            Self::TooManyHeaders => "too_many_headers",
            Self::BadExpectation => "bad_expectation",
            Self::MethodRefused => "method_refused",
            Self::Denied => "denied",
            Self::ExternalDenied => "external_denied",
            Self::ExternalUnanswered => "external_unanswered",
            Self::RateLimited => "rate_limited",
            Self::NoRoute => "no_route",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::Unroutable(_) => "unroutable",
            Self::NoHealthyUpstream => "no_healthy_upstream",
            Self::Overflow => "overflow",
            Self::ConnectFailed => "connect_failed",
            Self::ConnectTimeout => "connect_timeout",
            Self::PeerUnverified => "peer_unverified",
            Self::UpstreamReset => "upstream_reset",
            Self::StreamRefused => "stream_refused",
            Self::BadResponse => "bad_response",
            Self::Timeout => "timeout",
            Self::IdleTimeout => "idle_timeout",
            Self::TryTimeout => "try_timeout",
            Self::ResponseCut => "response_cut",
            Self::ClientGone => "client_gone",
            Self::Revoked => "revoked",
        }
    }

    /// What a person should read. Says nothing of addresses or names behind us.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Violation(_) => "the request is malformed, too large or too slow",
            Self::BadRequest(what) => what,
            Self::SlowRequest => "the request's body took too long",
            Self::TooManyHeaders => "the request has too many headers",
            Self::BadExpectation => "this expectation cannot be met",
            Self::MethodRefused => "this method is not proxied",
            Self::Denied | Self::Revoked | Self::ExternalDenied => "access denied",
            Self::ExternalUnanswered => "access could not be decided",
            Self::RateLimited => "too many requests",
            Self::NoRoute => "no route matches",
            Self::MethodNotAllowed => "this route does not take that method",
            Self::Unroutable(_) => "the route's configuration cannot be honoured",
            Self::NoHealthyUpstream => "no healthy upstream",
            Self::Overflow => "upstream is at its limit",
            Self::ConnectFailed => "upstream connection failed",
            Self::ConnectTimeout => "upstream connection timed out",
            Self::PeerUnverified => "upstream could not prove its identity",
            Self::UpstreamReset => "upstream closed before it answered",
            Self::StreamRefused => "upstream refused the request",
            Self::BadResponse => "upstream's response is malformed",
            Self::Timeout => "upstream request timed out",
            Self::IdleTimeout => "nothing moved for too long",
            Self::TryTimeout => "upstream did not answer in time",
            Self::ResponseCut => "upstream's response broke off",
            Self::ClientGone => "client closed the request",
        }
    }

    /// What a mesh peer, which knows Envoy, is told instead: status and text. `None` where
    /// Envoy has no such answer.
    pub(crate) fn as_envoy(self) -> Option<(u16, &'static str)> {
        Some(match self {
            Self::Violation(
                Violation::TargetBytes | Violation::HeadBytes | Violation::HeaderCount,
            )
            | Self::TooManyHeaders => (431, "Request Header Fields Too Large"),
            Self::Denied | Self::Revoked => (403, "RBAC: access denied"),
            Self::ExternalDenied | Self::ExternalUnanswered => (403, ""),
            Self::RateLimited => (429, "local_rate_limited"),
            Self::NoRoute | Self::MethodNotAllowed => (404, ""),
            Self::NoHealthyUpstream => (503, "no healthy upstream"),
            Self::Timeout | Self::TryTimeout => (504, "upstream request timeout"),
            Self::IdleTimeout => (504, "stream timeout"),
            Self::Overflow => (503, before_headers!("overflow")),
            Self::ConnectFailed | Self::PeerUnverified => {
                (503, before_headers!("remote connection failure"))
            }
            Self::ConnectTimeout => (503, before_headers!("connection timeout")),
            Self::UpstreamReset => (503, before_headers!("connection termination")),
            Self::StreamRefused => (503, before_headers!("remote refused stream reset")),
            Self::BadResponse => (502, before_headers!("protocol error")),
            _ => return None,
        })
    }

    /// The gRPC status that Envoy gives: to it a request whose time is up is one that may be sent
    /// again, and clients' retry policies are written for that.
    pub(crate) fn grpc_status_as_envoy(self) -> u8 {
        match self {
            Self::Timeout | Self::IdleTimeout | Self::TryTimeout => 14,
            other => other.grpc_status(),
        }
    }

    /// The gRPC status that says the same (gRPC's HTTP mapping, refined where we know more).
    pub(crate) fn grpc_status(self) -> u8 {
        match self {
            Self::ClientGone => 1,
            Self::Violation(_)
            | Self::BadRequest(_)
            | Self::SlowRequest
            | Self::TooManyHeaders
            | Self::BadExpectation
            | Self::MethodRefused => 13,
            Self::Timeout | Self::IdleTimeout | Self::TryTimeout => 4,
            Self::Denied | Self::Revoked | Self::ExternalDenied | Self::ExternalUnanswered => 7,
            Self::NoRoute | Self::MethodNotAllowed | Self::Unroutable(_) => 12,
            Self::RateLimited
            | Self::Overflow
            | Self::NoHealthyUpstream
            | Self::ConnectFailed
            | Self::ConnectTimeout
            | Self::PeerUnverified
            | Self::UpstreamReset
            | Self::StreamRefused
            | Self::BadResponse
            | Self::ResponseCut => 14,
        }
    }
}
