//! Responses that we make ourselves: the one place where a failure becomes bytes.

use super::failure::Failure;
use crate::downstream::Incoming;
use crate::headers::{RequestHeader, ResponseHeader};
use bytes::Bytes;
use http::header::{ALLOW, CONTENT_LENGTH, CONTENT_TYPE, LOCATION, RETRY_AFTER};
use http::{HeaderName, HeaderValue, StatusCode, Version};
use pingora_error::Result;

/// Header that carries the request's ID, in and out.
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Tells a client that a circuit limit, and not the upstream, refused its request.
const OVERLOADED: HeaderName = HeaderName::from_static("x-meridian-overloaded");
/// The same in Envoy's words.
const ENVOY_OVERLOADED: HeaderName = HeaderName::from_static("x-envoy-overloaded");

/// A response of our own.
pub(crate) struct Reply<'a> {
    /// What happened.
    pub(crate) cause: Cause<'a>,
    /// ID of the request, repeated to the client.
    pub(crate) request_id: &'a HeaderValue,
}

/// What is answered.
pub(crate) enum Cause<'a> {
    /// An error.
    Failure {
        failure: Failure,
        /// More to say, such as the configuration's own reason.
        detail: Option<&'a str>,
        /// Methods that would have been accepted, for 405.
        allow: Option<&'a str>,
        /// Whether the client expects Envoy's words.
        envoy: bool,
    },
    /// A redirect.
    Redirect {
        status: StatusCode,
        location: &'a str,
    },
    /// The words of an external authorization.
    External {
        status: StatusCode,
        headers: &'a [(HeaderName, HeaderValue)],
        body: &'a Bytes,
    },
}

/// What was written.
pub(crate) struct Written {
    pub(crate) status: StatusCode,
    pub(crate) body_bytes: u64,
}

/// Answers, in the form that the client reads: gRPC status, Envoy's 403, or a
/// problem document (RFC 9457).
pub(crate) async fn reply(session: &mut Incoming, reply: &Reply<'_>) -> Result<Written> {
    let grpc = is_grpc(session.head());
    let head_only = session.head().method == http::Method::HEAD;
    let (mut head, body) = match &reply.cause {
        Cause::Redirect { status, location } => redirect(*status, location)?,
        Cause::External {
            status,
            headers,
            body,
        } => external(*status, headers, body, grpc)?,
        Cause::Failure {
            failure,
            detail,
            envoy,
            ..
        } if grpc => {
            let words = failure.as_envoy().filter(|_| *envoy).map(|(_, text)| text);
            let status = match envoy {
                true => failure.grpc_status_as_envoy(),
                false => failure.grpc_status(),
            };
            let message = words.or(*detail).unwrap_or_else(|| failure.title());
            grpc_status(status, message)?
        }
        Cause::Failure {
            failure,
            detail,
            allow,
            envoy,
        } => match failure.as_envoy().filter(|_| *envoy) {
            Some((status, text)) => plain(status, text)?,
            None => problem(*failure, *detail, *allow, reply.request_id)?,
        },
    };
    hint(&mut head, &reply.cause)?;
    head.insert_header(REQUEST_ID, reply.request_id.clone())?;
    let status = head.status;
    let end = body.is_empty() || head_only;
    if body.is_empty() && session.head().version != Version::HTTP_2 {
        // Without a length the next proxy could not tell that a gRPC client is sent no more.
        head.insert_header(CONTENT_LENGTH, "0")?;
    }
    session.write_head(Box::new(head), end).await?;
    let body_bytes = if end { 0 } else { body.len() as u64 };
    if !end {
        session.write_body(body, true).await?;
    }
    Ok(Written { status, body_bytes })
}

/// Says when it may be worth while to ask again, and that it was too much.
fn hint(head: &mut ResponseHeader, cause: &Cause<'_>) -> Result<()> {
    let Cause::Failure { failure, envoy, .. } = cause else {
        return Ok(());
    };
    if matches!(failure, Failure::Overflow | Failure::NoHealthyUpstream) {
        head.insert_header(RETRY_AFTER, "1")?;
    }
    if *failure == Failure::Overflow {
        head.insert_header(if *envoy { ENVOY_OVERLOADED } else { OVERLOADED }, "true")?;
    }
    Ok(())
}

/// Tells a client that waits for leave to send its body to go on.
pub(crate) async fn give_leave(session: &mut Incoming) -> Result<()> {
    let head = ResponseHeader::build(StatusCode::CONTINUE, Some(0))?;
    session.write_interim(Box::new(head)).await
}

/// Whether a request's sender reads its answer from trailers: `application/grpc`, alone or with a
/// format, but not `application/grpc-web`.
pub(crate) fn is_grpc(head: &RequestHeader) -> bool {
    let kind = head.headers.get(CONTENT_TYPE).map(|kind| kind.as_bytes());
    kind.and_then(|kind| kind.strip_prefix(b"application/grpc"))
        .is_some_and(|rest| matches!(rest, [] | [b'+' | b';', ..]))
}

fn redirect(status: StatusCode, location: &str) -> Result<(ResponseHeader, Bytes)> {
    let mut head = ResponseHeader::build(status, Some(4))?;
    head.insert_header(LOCATION, location)?;
    head.insert_header(CONTENT_LENGTH, "0")?;
    Ok((head, Bytes::new()))
}

fn grpc_status(status: u8, message: &str) -> Result<(ResponseHeader, Bytes)> {
    let mut head = ResponseHeader::build(StatusCode::OK, Some(4))?;
    head.insert_header(CONTENT_TYPE, "application/grpc")?;
    head.insert_header("grpc-status", status.to_string())?;
    head.insert_header("grpc-message", percent_encode(message))?;
    Ok((head, Bytes::new()))
}

/// Passes on what an external authorization wants its client to read. gRPC reads the status of
/// its own that comes nearest, and the body as its message, as from Envoy.
fn external(
    status: StatusCode,
    headers: &[(HeaderName, HeaderValue)],
    body: &Bytes,
    grpc: bool,
) -> Result<(ResponseHeader, Bytes)> {
    let sent = if grpc { StatusCode::OK } else { status };
    let mut head = ResponseHeader::build(sent, Some(headers.len() + 4))?;
    for (name, value) in headers {
        head.append_header(name.clone(), value.clone())?;
    }
    if grpc {
        head.insert_header(CONTENT_TYPE, "application/grpc")?;
        head.insert_header("grpc-status", grpc_of_http(status).to_string())?;
        if !body.is_empty() {
            let message = percent_encode(&String::from_utf8_lossy(body));
            head.insert_header("grpc-message", message)?;
        }
        return Ok((head, Bytes::new()));
    }
    if !body.is_empty() && !head.headers.contains_key(CONTENT_TYPE) {
        head.insert_header(CONTENT_TYPE, "text/plain")?;
    }
    head.insert_header(CONTENT_LENGTH, body.len())?;
    Ok((head, body.clone()))
}

/// gRPC's own mapping of HTTP statuses (doc/http-grpc-status-mapping.md).
fn grpc_of_http(status: StatusCode) -> u8 {
    match status.as_u16() {
        400 => 13,
        401 => 16,
        403 => 7,
        404 => 12,
        429 | 502..=504 => 14,
        _ => 2,
    }
}

/// Clients of Consul's proxies know Envoy's words.
fn plain(status: u16, text: &'static str) -> Result<(ResponseHeader, Bytes)> {
    let mut head = ResponseHeader::build(status, Some(4))?;
    if !text.is_empty() {
        head.insert_header(CONTENT_TYPE, "text/plain")?;
    }
    head.insert_header(CONTENT_LENGTH, text.len())?;
    Ok((head, Bytes::from_static(text.as_bytes())))
}

fn problem(
    failure: Failure,
    detail: Option<&str>,
    allow: Option<&str>,
    request_id: &HeaderValue,
) -> Result<(ResponseHeader, Bytes)> {
    let status = failure.status();
    let mut document = serde_json::json!({
        "type": "about:blank",
        "title": failure.title(),
        "status": status.as_u16(),
        "error": failure.as_str(),
        "requestId": String::from_utf8_lossy(request_id.as_bytes()),
    });
    if let Some(detail) = detail {
        document["detail"] = detail.into();
    }
    let body = Bytes::from(document.to_string());
    let mut head = ResponseHeader::build(status, Some(6))?;
    head.insert_header(CONTENT_TYPE, "application/problem+json")?;
    head.insert_header(CONTENT_LENGTH, body.len())?;
    if let Some(allow) = allow {
        head.insert_header(ALLOW, allow)?;
    }
    Ok((head, body))
}

/// `grpc-message` is percent-encoded outside of printable ASCII (gRPC over HTTP/2, Responses).
fn percent_encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'%' => out.push_str("%25"),
            b' '..=b'~' => out.push(byte as char),
            other => out.push_str(&format!("%{other:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn problem_documents_are_json_whatever_the_request_id() {
        let id = HeaderValue::from_bytes(b"a\"b\\c").unwrap();
        let (head, body) = problem(Failure::NoRoute, Some("x \"y\""), None, &id).unwrap();
        let document: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(document["status"], 404);
        assert_eq!(document["requestId"], "a\"b\\c");
        assert_eq!(document["detail"], "x \"y\"");
        assert_eq!(
            head.headers[CONTENT_LENGTH].to_str().unwrap(),
            body.len().to_string()
        );
    }

    #[test]
    fn grpc_failures_are_a_head_alone() {
        let status = Failure::Timeout.grpc_status();
        let (head, body) = grpc_status(status, "50% späte").unwrap();
        assert!(body.is_empty());
        assert_eq!(head.status, 200);
        assert_eq!(head.headers["grpc-status"], "4");
        assert_eq!(head.headers["grpc-message"], "50%25 sp%C3%A4te");
    }

    #[test]
    fn grpc_is_told_by_its_content_type() {
        for (kind, expected) in [
            ("application/grpc", true),
            ("application/grpc+proto", true),
            ("application/grpc;charset=utf-8", true),
            ("application/grpc-web", false),
            ("application/json", false),
        ] {
            let mut head = RequestHeader::build("POST", b"/", None).unwrap();
            head.insert_header(CONTENT_TYPE, kind).unwrap();
            assert_eq!(is_grpc(&head), expected, "{kind}");
        }
    }

    #[test]
    fn mesh_clients_read_envoys_words() {
        let (status, text) = Failure::Denied.as_envoy().unwrap();
        let (head, body) = plain(status, text).unwrap();
        assert_eq!(
            (head.status.as_u16(), &*body),
            (403, &b"RBAC: access denied"[..])
        );
        assert_eq!(head.headers[CONTENT_TYPE], "text/plain");
        let (head, body) = plain(404, "").unwrap();
        assert!(body.is_empty());
        assert_eq!(head.headers[CONTENT_LENGTH], "0");
        assert_eq!(
            Failure::Unroutable(500).as_envoy(),
            None,
            "it has a reason to give"
        );
    }
}
