//! Asking by gRPC: what is known as a `CheckRequest`, and the answer as a decision.

use super::change::{Action, Change, is_untouchable};
use super::message::{
    Address, AttributeContext, CheckRequest, CheckResponse, HeaderValueOption, HttpRequest, Peer,
    Refusal as Written, Request, Response, SocketAddress, Timestamp,
};
use super::{CheckError, Decision, Facts, Refusal, RequestFacts};
use crate::proxy::{authority, percent_encoded_pem};
use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Version};
use meridian_model::ExternalAuthorization;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{SystemTime, UNIX_EPOCH};

/// The method that decides.
pub(super) const PATH: &str = "/envoy.service.auth.v3.Authorization/Check";

/// What is asked.
pub(super) fn question(model: &ExternalAuthorization, facts: &Facts<'_>) -> CheckRequest {
    let connection = facts.connection;
    let peer = connection.peer();
    let certificate = peer
        .filter(|_| model.include_certificate)
        .and_then(|peer| peer.chain.first())
        .map(|leaf| percent_encoded_pem(leaf));
    let source = Peer {
        address: connection.peer_address.map(address),
        principal: peer.map_or_else(String::new, |peer| peer.spiffe.as_str().to_owned()),
        certificate: certificate.unwrap_or_default(),
    };
    let destination = Peer {
        address: connection.local_address.map(address),
        principal: facts
            .own
            .map_or_else(String::new, |own| own.as_str().to_owned()),
        certificate: String::new(),
    };
    let raw = model.body.is_some_and(|body| body.raw);
    let secure = connection.tls.is_some();
    let request = facts.request.as_ref();
    CheckRequest {
        attributes: Some(AttributeContext {
            source: Some(source),
            destination: Some(destination),
            request: request.map(|request| Request {
                time: Some(now()),
                http: Some(http(request, secure, raw)),
            }),
        }),
    }
}

fn address(address: SocketAddr) -> Address {
    Address {
        socket_address: Some(SocketAddress {
            address: address.ip().to_string(),
            port_value: address.port().into(),
        }),
    }
}

fn now() -> Timestamp {
    // A clock before 1970 makes no difference to anybody.
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    Timestamp {
        seconds: i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(since.subsec_nanos()).unwrap_or_default(),
    }
}

fn http(request: &RequestFacts<'_>, secure: bool, raw: bool) -> HttpRequest {
    let head = request.head;
    let path = head
        .uri
        .path_and_query()
        .map_or("/", |target| target.as_str());
    let host = authority::of(head).unwrap_or_default();
    let scheme = if secure { "https" } else { "http" };
    let mut headers = joined(&head.headers);
    headers.remove("host");
    for (name, value) in [
        (":method", head.method.as_str()),
        (":path", path),
        (":authority", host),
        (":scheme", scheme),
    ] {
        headers.insert(name.to_owned(), value.to_owned());
    }
    let (mut body, mut raw_body) = (String::new(), Vec::new());
    if let Some(shown) = &request.body {
        headers.insert(
            "x-envoy-auth-partial-body".to_owned(),
            shown.partial.to_string(),
        );
        match raw {
            true => raw_body = shown.bytes.to_vec(),
            false => body = String::from_utf8_lossy(&shown.bytes).into_owned(),
        }
    }
    let length = head.headers.get(CONTENT_LENGTH);
    let length = length.and_then(|value| value.to_str().ok()?.parse().ok());
    HttpRequest {
        id: text(request.id),
        method: head.method.to_string(),
        headers,
        path: path.to_owned(),
        host: host.to_owned(),
        scheme: scheme.to_owned(),
        size: length.unwrap_or(-1),
        protocol: match head.version {
            Version::HTTP_2 => "HTTP/2",
            Version::HTTP_10 => "HTTP/1.0",
            _ => "HTTP/1.1",
        }
        .to_owned(),
        body,
        raw_body,
    }
}

/// Every header once, several values joined by commas.
fn joined(headers: &HeaderMap) -> BTreeMap<String, String> {
    let mut all: BTreeMap<String, String> = BTreeMap::new();
    for (name, value) in headers {
        let value = text(value);
        all.entry(name.as_str().to_owned())
            .and_modify(|before| {
                before.push(',');
                before.push_str(&value);
            })
            .or_insert(value);
    }
    all
}

/// Protobuf's text is UTF-8; what is not is replaced, so that the rest can be judged.
fn text(value: &HeaderValue) -> String {
    String::from_utf8_lossy(value.as_bytes()).into_owned()
}

/// What the answer says.
pub(super) fn decision(answer: CheckResponse) -> Result<Decision, CheckError> {
    let code = answer.status.map_or(0, |status| status.code);
    match (code, answer.response) {
        (0, Some(Response::Ok(ok))) => {
            if !ok.query_parameters_to_set.is_empty() || !ok.query_parameters_to_remove.is_empty() {
                return Err(CheckError::Unhonoured("a change of the query"));
            }
            let mut request: Vec<_> = ok.headers.into_iter().filter_map(change).collect();
            let removed = ok.headers_to_remove.iter();
            let removed = removed.filter_map(|name| HeaderName::try_from(name.as_str()).ok());
            request.extend(removed.filter_map(|name| Change::new(name, Action::Remove)));
            let response = ok.response_headers_to_add.into_iter();
            Ok(Decision::Pass {
                request,
                response: response.filter_map(change).collect(),
            })
        }
        (0, _) => Ok(Decision::pass()),
        (_, Some(Response::Error(written))) => {
            let status = status(&written);
            let (headers, body) = told(written);
            Err(CheckError::Undecided {
                status,
                headers,
                body,
            })
        }
        (_, Some(Response::Denied(written))) => {
            let status = status(&written).unwrap_or(StatusCode::FORBIDDEN);
            let (headers, body) = told(written);
            Ok(Decision::Refuse(Refusal {
                status,
                headers,
                body,
                unanswered: false,
            }))
        }
        (_, Some(Response::Ok(_)) | None) => {
            Ok(Decision::Refuse(Refusal::of(StatusCode::FORBIDDEN)))
        }
    }
}

fn status(written: &Written) -> Option<StatusCode> {
    let code = written.status.as_ref()?.code;
    u16::try_from(code)
        .ok()
        .and_then(|code| StatusCode::from_u16(code).ok())
}

fn told(written: Written) -> (Vec<(HeaderName, HeaderValue)>, Bytes) {
    let headers = written.headers.into_iter().filter_map(named);
    let headers = headers.filter(|(name, _)| !is_untouchable(name)).collect();
    (headers, written.body.into())
}

fn named(option: HeaderValueOption) -> Option<(HeaderName, HeaderValue)> {
    let header = option.header?;
    let name = HeaderName::try_from(header.key).ok()?;
    let value = match header.value.is_empty() {
        true => HeaderValue::from_bytes(&header.raw_value).ok()?,
        false => HeaderValue::try_from(header.value).ok()?,
    };
    Some((name, value))
}

/// Without a word about it a header replaces the client's own, which could be a lie.
fn change(option: HeaderValueOption) -> Option<Change> {
    let append = option.append.as_ref().map(|append| append.value);
    let action = option.append_action;
    let (name, value) = named(option)?;
    Change::new(
        name,
        match (append, action) {
            (Some(true), _) => Action::Join(value),
            (Some(false), _) | (None, 0 | 2) => Action::Set(value),
            (None, 1) => Action::AddIfAbsent(value),
            (None, 3) => Action::SetIfPresent(value),
            (None, _) => return None,
        },
    )
}
