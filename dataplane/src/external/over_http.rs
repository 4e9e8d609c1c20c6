//! Asking by HTTP: a request like the client's own, of which 200 lets the client's pass.

use super::change::{Action, Change, is_untouchable};
use super::{CheckError, Decision, Refusal, RequestFacts};
use crate::call::{self, Answer, CallError};
use crate::headers::RequestHeader;
use crate::proxy::authority;
use crate::tables::ClusterState;
use bytes::Bytes;
use http::header::{
    AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, DATE, HOST, LOCATION, SERVER, WWW_AUTHENTICATE,
};
use http::{HeaderName, HeaderValue, StatusCode};
use meridian_model::external::HttpCheck;
use meridian_model::route::ValueMatch;
use std::sync::Arc;
use std::time::Duration;

/// Tells the service whether it sees the whole body.
const PARTIAL_BODY: HeaderName = HeaderName::from_static("x-envoy-auth-partial-body");
/// By this header of its answer a service has headers of the request removed.
const REMOVE: &str = "x-envoy-auth-headers-to-remove";

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum HttpError {
    #[error(transparent)]
    Call(#[from] CallError),
    #[error("it answered with HTTP status {0}")]
    Status(StatusCode),
    #[error("the request can't be sent along")]
    Request(#[source] Box<pingora_error::Error>),
}

pub(super) async fn ask(
    check: &HttpCheck,
    limit: Duration,
    cluster: &Arc<ClusterState>,
    request: &RequestFacts<'_>,
) -> Result<Decision, CheckError> {
    let head = head(check, request).map_err(HttpError::Request)?;
    let body = match &request.body {
        Some(shown) => shown.bytes.clone(),
        None => Bytes::new(),
    };
    let answer = call::call(cluster, &head, &body, limit)
        .await
        .map_err(HttpError::Call)?;
    decision(check, answer)
}

fn head(check: &HttpCheck, request: &RequestFacts<'_>) -> pingora_error::Result<RequestHeader> {
    let client = request.head;
    let target = client
        .uri
        .path_and_query()
        .map_or("/", |target| target.as_str());
    let path = format!("{}{target}", check.path_prefix);
    let mut head = RequestHeader::build(client.method.clone(), path.as_bytes(), Some(8))?;
    head.insert_header(HOST, authority::of(client).unwrap_or_default())?;
    for (name, value) in &client.headers {
        let shown = *name == AUTHORIZATION || matches(&check.shown, name);
        if shown && !is_untouchable(name) {
            head.append_header(name.clone(), value.clone())?;
        }
    }
    let length = request.body.as_ref().map_or(0, |shown| shown.bytes.len());
    head.insert_header(CONTENT_LENGTH, length)?;
    if let Some(shown) = &request.body {
        let partial = if shown.partial { "true" } else { "false" };
        head.insert_header(PARTIAL_BODY, partial)?;
    }
    for (name, value) in &check.added {
        head.insert_header(name.clone(), value.clone())?;
    }
    Ok(head)
}

fn decision(check: &HttpCheck, answer: Answer) -> Result<Decision, CheckError> {
    let status = answer.head.status;
    if status == StatusCode::OK {
        return Ok(pass(check, &answer));
    }
    // Measured: also a 204 is none of the answers that Envoy knows.
    if status.is_success() || status.is_server_error() || status.is_informational() {
        return Err(HttpError::Status(status).into());
    }
    Ok(Decision::Refuse(Refusal {
        status,
        headers: shown_to_refused(check, &answer),
        body: answer.body,
        unanswered: false,
    }))
}

fn pass(check: &HttpCheck, answer: &Answer) -> Decision {
    let (mut request, mut response) = (Vec::new(), Vec::new());
    for (name, value) in &answer.head.headers {
        let change =
            |action: fn(HeaderValue) -> Action| Change::new(name.clone(), action(value.clone()));
        if matches(&check.to_upstream, name) {
            request.extend(change(Action::Set));
        }
        if matches(&check.joined_upstream, name) {
            request.extend(change(Action::JoinIfPresent));
        }
        if matches(&check.to_client, name) {
            response.extend(change(Action::Add));
        }
    }
    for value in answer.head.headers.get_all(REMOVE) {
        let names = value.to_str().unwrap_or_default().split(',');
        let names = names.filter_map(|name| HeaderName::try_from(name.trim()).ok());
        request.extend(names.filter_map(|name| Change::new(name, Action::Remove)));
    }
    Decision::Pass { request, response }
}

/// What of a refusal's head the client is shown. Date and server are ours to say.
fn shown_to_refused(check: &HttpCheck, answer: &Answer) -> Vec<(HeaderName, HeaderValue)> {
    let always = [LOCATION, WWW_AUTHENTICATE, CONTENT_TYPE];
    let is_shown = |name: &HeaderName| {
        let listed = check.refused_client.is_empty() || matches(&check.refused_client, name);
        let ours = is_untouchable(name) || [DATE, SERVER].contains(name);
        (listed || always.contains(name)) && !ours
    };
    let shown = answer
        .head
        .headers
        .iter()
        .filter(|(name, _)| is_shown(name));
    shown
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

fn matches(matchers: &[ValueMatch], name: &HeaderName) -> bool {
    matchers
        .iter()
        .any(|matcher| matcher.accepts(name.as_str()))
}
