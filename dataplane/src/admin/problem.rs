//! Refusals of the admin listener, as RFC 9457 documents.

use bytes::Bytes;
use http::{Response, StatusCode, header};
use http_body_util::Full;

/// A refusal: status and what to do about it.
#[derive(Debug)]
pub(super) struct Problem {
    status: StatusCode,
    detail: String,
    allow: Option<&'static str>,
}

impl Problem {
    pub(super) fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self {
            status,
            detail: detail.into(),
            allow: None,
        }
    }

    /// 405 with the methods that would do.
    pub(super) fn method(allow: &'static str) -> Self {
        Self {
            allow: Some(allow),
            ..Self::new(StatusCode::METHOD_NOT_ALLOWED, format!("use {allow}"))
        }
    }

    pub(super) fn into_response(self) -> Response<Full<Bytes>> {
        // Without `type` the problem is what the status says (RFC 9457, 4.2.1).
        let document = serde_json::json!({
            "title": self.status.canonical_reason(),
            "status": self.status.as_u16(),
            "detail": self.detail,
        });
        let mut response = Response::new(Full::from(format!("{document}\n")));
        *response.status_mut() = self.status;
        let mut set = |name, value| {
            response
                .headers_mut()
                .insert(name, http::HeaderValue::from_static(value));
        };
        set(header::CONTENT_TYPE, "application/problem+json");
        if let Some(allow) = self.allow {
            set(header::ALLOW, allow);
        }
        if self.status == StatusCode::UNAUTHORIZED {
            set(header::WWW_AUTHENTICATE, "Bearer");
        }
        response
    }
}
