//! Whether a request may go on, and where: everything that is decided from its
//! head alone, in a fixed order, without waiting.

use super::authority;
use super::connection::Shared;
use super::failure::Failure;
use super::heads::asks_for_websocket;
use crate::authorize;
use crate::downstream::{Connection, Incoming};
use crate::headers::RequestHeader;
use crate::headers::strip_headers;
use crate::jwt::Tokens;
use crate::normalize::{Normalized, normalize};
use crate::route::{MatchedPath, Origin, RequestFacts, redirect_location, rewrite_path};
use crate::tables::{Action, App, HttpApp};
use http::header::EXPECT;
use http::{HeaderName, Method, StatusCode, Version};
use meridian_model::Verdict;
use meridian_model::listener::HeaderUnderscores;
use meridian_model::route::{Destination, Redirect};
use meridian_telemetry::metrics::{Layer, RejectReason};
use std::sync::Arc;
use std::time::SystemTime;

/// What follows from a request's head.
pub(crate) enum Admission {
    /// It goes on.
    Forward(Admitted),
    /// It is answered here, with an error.
    Refuse(Refusal),
    /// It is answered here, with another place to go to.
    Redirect {
        status: StatusCode,
        location: String,
    },
}

/// A request that goes on.
pub(crate) struct Admitted {
    /// What its route prepared.
    pub(crate) action: Arc<Action>,
    /// Path and query for the upstream, if not those of the client.
    pub(crate) target: Option<String>,
    /// Whether it asks for a WebSocket.
    pub(crate) upgrade: bool,
}

/// A request that does not.
pub(crate) struct Refusal {
    pub(crate) failure: Failure,
    /// More to say.
    pub(crate) detail: Option<String>,
    /// Methods that would have been accepted.
    pub(crate) allow: Option<String>,
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        Self {
            failure,
            detail: None,
            allow: None,
        }
    }
}

/// Decides. Strangers' identity headers are removed from the session's head.
pub(crate) fn admit(
    session: &mut Incoming,
    connection: &Connection<App>,
    app: &HttpApp,
    shared: &Shared,
) -> Admission {
    let admitted = check_protocol(session.head(), connection).and_then(|()| {
        if app.service.trust.is_edge() {
            strip_headers(&shared.edge_headers, session.head_mut());
        }
        treat_underscores(session.head_mut(), app)?;
        normalize_target(session.head_mut(), app)
    });
    match admitted {
        Err(failure) => {
            count_rejection(app, failure);
            Admission::Refuse(failure.into())
        }
        Ok(Some(location)) => Admission::Redirect {
            status: StatusCode::TEMPORARY_REDIRECT,
            location,
        },
        Ok(None) => authorize_and_route(session, connection, app),
    }
}

/// What every request must satisfy, whatever its route.
fn check_protocol(head: &RequestHeader, connection: &Connection<App>) -> Result<(), Failure> {
    if let Some(violation) = connection.violation() {
        return Err(Failure::Violation(violation));
    }
    if head.method == Method::CONNECT || head.method == Method::TRACE {
        return Err(Failure::MethodRefused);
    }
    let limits = connection.listener.state().model.limits;
    if head.headers.len() > usize::from(limits.headers) {
        return Err(Failure::TooManyHeaders);
    }
    if authority::of(head).is_none() && head.version != Version::HTTP_10 {
        return Err(Failure::BadRequest("no valid host"));
    }
    let path = head.raw_path();
    let asterisk = path == b"*" && head.method == Method::OPTIONS;
    if path.first() != Some(&b'/') && !asterisk && head.version == Version::HTTP_2 {
        return Err(Failure::BadRequest("malformed target"));
    }
    let meets = |value: &http::HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"100-continue");
    if !head.headers.get_all(EXPECT).iter().all(meets) {
        return Err(Failure::BadExpectation);
    }
    Ok(())
}

/// Header names with `_` may be another header's in disguise.
fn treat_underscores(head: &mut RequestHeader, app: &HttpApp) -> Result<(), Failure> {
    let action = app.service.normalization.underscores;
    if action == HeaderUnderscores::Allow {
        return Ok(());
    }
    let disguised = |name: &&HeaderName| name.as_str().contains('_');
    let names: Vec<_> = head.headers.keys().filter(disguised).cloned().collect();
    if action == HeaderUnderscores::Reject && !names.is_empty() {
        return Err(Failure::BadRequest("a header name has an underscore"));
    }
    for name in names {
        head.remove_header(&name);
    }
    Ok(())
}

/// Brings the path into its normal form in the head itself, so that everything
/// behind sees one path. `Some` with where to redirect instead.
fn normalize_target(head: &mut RequestHeader, app: &HttpApp) -> Result<Option<String>, Failure> {
    let malformed = |_| Failure::BadRequest("malformed target");
    let target = head
        .uri
        .path_and_query()
        .map_or("/", |target| target.as_str());
    match normalize(target.as_bytes(), &app.service.normalization) {
        Normalized::Unchanged => {
            // Absolute form becomes origin form: the authority is Host's already.
            if head.version != Version::HTTP_2 && head.uri.scheme().is_some() {
                let target = target.to_owned();
                head.set_raw_path(target.as_bytes()).map_err(malformed)?;
            }
            Ok(None)
        }
        Normalized::Changed(target) => {
            replace_target(head, &target).map_err(malformed)?;
            Ok(None)
        }
        Normalized::Redirect(location) => Ok(Some(location)),
        Normalized::Reject(_) => Err(Failure::BadRequest("malformed path")),
    }
}

/// Another path and query, under the same authority.
fn replace_target(head: &mut RequestHeader, target: &str) -> pingora_error::Result<()> {
    let mut parts = head.uri.clone().into_parts();
    match target.parse() {
        Ok(path_and_query) if parts.authority.is_some() => {
            parts.path_and_query = Some(path_and_query);
            if let Ok(uri) = http::Uri::from_parts(parts) {
                head.set_uri(uri);
                return Ok(());
            }
            head.set_raw_path(target.as_bytes())
        }
        _ => head.set_raw_path(target.as_bytes()),
    }
}

/// Verifies the request's tokens. Those that the application must not see leave the head, so
/// that neither rules nor routes nor logs see them.
fn take_tokens<'a>(head: &mut RequestHeader, app: &'a HttpApp) -> Result<Tokens<'a>, Failure> {
    let Some(providers) = &app.jwt else {
        return Ok(Tokens::default());
    };
    let mut tokens = providers.take_in(head, SystemTime::now());
    if let Some(target) = tokens.target.take() {
        replace_target(head, &target).map_err(|_| Failure::BadRequest("malformed target"))?;
    }
    Ok(tokens)
}

fn authorize_and_route(
    session: &mut Incoming,
    connection: &Connection<App>,
    app: &HttpApp,
) -> Admission {
    let tokens = match take_tokens(session.head_mut(), app) {
        Ok(tokens) => tokens,
        Err(failure) => return Admission::Refuse(failure.into()),
    };
    let head = session.head();
    let authority = authority::of(head).unwrap_or_default();
    let facts = RequestFacts {
        host: app.router.host_of(authority),
        path: head.uri.path(),
        query: head.uri.query(),
        method: &head.method,
        headers: &head.headers,
    };
    if let Some(rules) = &app.service.authorization {
        let verdict = authorize::request(rules, connection.peer(), &facts, &tokens);
        app.metrics.verdict(Layer::L7, authorize::label(verdict));
        if verdict == Verdict::Deny {
            return Admission::Refuse(Failure::Denied.into());
        }
    }
    if app.is_over_rate(facts.path) {
        return Admission::Refuse(Refusal {
            failure: Failure::RateLimited,
            // What Envoy's gRPC clients read.
            detail: Some("local_rate_limited".to_owned()),
            allow: None,
        });
    }
    let Some(found) = app.router.find(&facts) else {
        return Admission::Refuse(unrouted(app, &facts));
    };
    match &found.action.model.destination {
        Destination::Clusters(_) => forward(found.action, found.path, head, &facts),
        Destination::Redirect(to) => redirect(to, connection, found.path, &facts),
        Destination::Unroutable { status, reason } => Admission::Refuse(Refusal {
            failure: Failure::Unroutable(*status),
            detail: Some(reason.clone()),
            allow: None,
        }),
    }
}

fn forward(
    action: &Arc<Action>,
    matched: MatchedPath,
    head: &RequestHeader,
    facts: &RequestFacts<'_>,
) -> Admission {
    let target = match &action.model.rewrite {
        None => None,
        Some(rewrite) => match rewrite_path(rewrite, matched, facts.path, facts.query) {
            Ok(target) => Some(target),
            Err(_) => return Admission::Refuse(Failure::BadRequest("malformed path").into()),
        },
    };
    Admission::Forward(Admitted {
        action: Arc::clone(action),
        target,
        upgrade: asks_for_websocket(head),
    })
}

fn redirect(
    redirect: &Redirect,
    connection: &Connection<App>,
    matched: MatchedPath,
    facts: &RequestFacts<'_>,
) -> Admission {
    let origin = Origin {
        scheme: if connection.tls.is_some() {
            "https"
        } else {
            "http"
        },
        host: facts.host,
        port: connection
            .local_address
            .map_or(80, |address| address.port()),
    };
    match redirect_location(redirect, origin, matched, facts.path, facts.query) {
        Ok(location) => Admission::Redirect {
            status: StatusCode::from_u16(redirect.status).unwrap_or(StatusCode::FOUND),
            location,
        },
        Err(_) => Admission::Refuse(Failure::BadRequest("malformed path").into()),
    }
}

fn unrouted(app: &HttpApp, facts: &RequestFacts<'_>) -> Refusal {
    let methods = app.router.allowed_methods(facts);
    // Envoy doesn't tell what another method would have come to.
    if methods.is_empty() || app.service.trust.reads_envoy() {
        return Failure::NoRoute.into();
    }
    let names: Vec<&str> = methods.iter().map(Method::as_str).collect();
    Refusal {
        failure: Failure::MethodNotAllowed,
        detail: None,
        allow: Some(names.join(", ")),
    }
}

fn count_rejection(app: &HttpApp, failure: Failure) {
    app.metrics.rejected(match failure {
        Failure::Violation(violation) => violation.metric(),
        Failure::TooManyHeaders => RejectReason::HeaderTooLarge,
        _ => RejectReason::BadRequest,
    });
}
