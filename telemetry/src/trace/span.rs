//! A finished span, and its translation to OpenTelemetry's terms.
//!
//! The request path fills in a [`Span`] by moving what it has. Attributes get
//! their names (OpenTelemetry semantic conventions for HTTP spans) in the
//! exporting task.

use std::borrow::Cow;
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::{Method, Version};
use opentelemetry::trace::{self as otel, SpanContext, Status, TraceFlags};
use opentelemetry::{InstrumentationScope, KeyValue, StringValue};
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};

use super::{SpanId, TraceContext, TraceState};
use crate::text::Text;

/// Which side of an exchange a span describes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpanKind {
    /// A request that was received: one span a request.
    Server,
    /// A request that was sent on: one span a try.
    Client,
}

/// The span above.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parent {
    /// Its identifier, in the same trace.
    pub span_id: SpanId,
    /// Whether another process recorded it: the caller's, from `traceparent`.
    pub remote: bool,
}

/// A finished request or try.
///
/// The query is left out on purpose: it carries tokens and names of people.
#[derive(Debug, Clone)]
pub struct Span {
    /// Received or sent.
    pub kind: SpanKind,
    /// This span's own place in the trace.
    pub context: TraceContext,
    /// The span above, unless this one began the trace.
    pub parent: Option<Parent>,
    /// What other tracing systems attached.
    pub state: TraceState,
    /// When it began.
    pub start: SystemTime,
    /// How long it took, by a monotonic clock.
    pub duration: Duration,
    /// The request's method.
    pub method: Method,
    /// The path after normalization.
    pub path: Text,
    /// `http` or `https`.
    pub scheme: &'static str,
    /// The authority's host, or the target's name for a try.
    pub host: Option<Text>,
    /// The authority's port, where it is known.
    pub port: Option<u16>,
    /// Version of the protocol on this side.
    pub version: Version,
    /// The status, unless there was no response.
    pub status: Option<u16>,
    /// Why there was no proper response, one of a small set of words.
    pub error: Option<&'static str>,
    /// The route's name.
    pub route: Option<Arc<str>>,
    /// The cluster that a try went to.
    pub cluster: Option<Arc<str>>,
    /// The other end of the connection: the client, or the endpoint of a try.
    pub peer: Option<Text>,
    /// How many tries went before this one.
    pub resend_count: u32,
}

impl Span {
    /// A span with the fields that every span has; the rest is empty.
    pub fn new(kind: SpanKind, context: TraceContext, start: SystemTime, method: Method) -> Self {
        Self {
            kind,
            context,
            parent: None,
            state: TraceState::default(),
            start,
            duration: Duration::ZERO,
            method,
            path: Text::Static("/"),
            scheme: "http",
            host: None,
            port: None,
            version: Version::HTTP_11,
            status: None,
            error: None,
            route: None,
            cluster: None,
            peer: None,
            resend_count: 0,
        }
    }

    /// Translates to what the OTLP exporter takes.
    pub(super) fn into_data(self, scope: &InstrumentationScope) -> SpanData {
        let status = self.otel_status();
        let name = self.name();
        let parent_span_id = self.parent.map_or(otel::SpanId::INVALID, |parent| {
            otel::SpanId::from_bytes(parent.span_id)
        });
        // A list that passed our grammar but not theirs is dropped: it is a passenger.
        let state = self
            .state
            .as_str()
            .and_then(|list| otel::TraceState::from_str(list).ok())
            .unwrap_or_default();
        let flags = TraceFlags::default().with_sampled(self.context.sampled);
        SpanData {
            span_context: SpanContext::new(
                otel::TraceId::from_bytes(self.context.trace_id),
                otel::SpanId::from_bytes(self.context.span_id),
                flags,
                false,
                state,
            ),
            parent_span_id,
            parent_span_is_remote: self.parent.is_some_and(|parent| parent.remote),
            span_kind: match self.kind {
                SpanKind::Server => otel::SpanKind::Server,
                SpanKind::Client => otel::SpanKind::Client,
            },
            name,
            start_time: self.start,
            end_time: self.start + self.duration,
            attributes: self.attributes(),
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status,
            instrumentation_scope: scope.clone(),
        }
    }

    /// `{method} {route}`: paths would make a name for every customer number.
    fn name(&self) -> Cow<'static, str> {
        let method = known_method(&self.method).unwrap_or("HTTP");
        match (self.kind, &self.route) {
            (SpanKind::Server, Some(route)) => Cow::Owned(format!("{method} {route}")),
            _ => Cow::Borrowed(method),
        }
    }

    /// A client's span fails from 400 on, a server's from 500 on: a bad request
    /// is not the server's failure.
    fn otel_status(&self) -> Status {
        let failing = match self.kind {
            SpanKind::Server => 500,
            SpanKind::Client => 400,
        };
        if self.error.is_some() || self.status.is_some_and(|status| status >= failing) {
            Status::error(self.error.unwrap_or_default())
        } else {
            Status::Unset
        }
    }

    fn attributes(self) -> Vec<KeyValue> {
        let failed = matches!(self.otel_status(), Status::Error { .. });
        let mut attributes = Vec::with_capacity(14);
        let mut add = |key: &'static str, value: opentelemetry::Value| {
            attributes.push(KeyValue::new(key, value));
        };
        match known_method(&self.method) {
            Some(method) => add("http.request.method", method.into()),
            None => {
                add("http.request.method", "_OTHER".into());
                add(
                    "http.request.method_original",
                    self.method.as_str().to_owned().into(),
                );
            }
        }
        add("url.path", string(self.path));
        add("url.scheme", self.scheme.into());
        if let Some(version) = version_word(self.version) {
            add("network.protocol.version", version.into());
        }
        if let Some(host) = self.host {
            add("server.address", string(host));
        }
        if let Some(port) = self.port {
            add("server.port", i64::from(port).into());
        }
        if let Some(status) = self.status {
            add("http.response.status_code", i64::from(status).into());
        }
        match (self.error, self.status) {
            (Some(error), _) => add("error.type", error.into()),
            (None, Some(status)) if failed => add("error.type", status.to_string().into()),
            _ => {}
        }
        if let Some(route) = self.route {
            add("http.route", route.into());
        }
        if let Some(cluster) = self.cluster {
            add("peer.service", cluster.into());
        }
        if let Some(peer) = self.peer {
            let key = match self.kind {
                SpanKind::Server => "client.address",
                SpanKind::Client => "network.peer.address",
            };
            add(key, string(peer));
        }
        if self.resend_count > 0 {
            add(
                "http.request.resend_count",
                i64::from(self.resend_count).into(),
            );
        }
        attributes
    }
}

fn string(text: Text) -> opentelemetry::Value {
    let string: StringValue = match text {
        Text::Static(text) => text.into(),
        Text::Shared(text) => text.into(),
        other => other.render().into_owned().into(),
    };
    opentelemetry::Value::String(string)
}

/// The methods that the conventions know; a client may send any word.
fn known_method(method: &Method) -> Option<&'static str> {
    const KNOWN: [&str; 9] = [
        "GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH",
    ];
    KNOWN.into_iter().find(|known| *known == method.as_str())
}

fn version_word(version: Version) -> Option<&'static str> {
    match version {
        Version::HTTP_10 => Some("1.0"),
        Version::HTTP_11 => Some("1.1"),
        Version::HTTP_2 => Some("2"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(kind: SpanKind, method: &str) -> Span {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        Span::new(
            kind,
            TraceContext::root(true),
            SystemTime::UNIX_EPOCH,
            method,
        )
    }

    fn attribute(data: &SpanData, key: &str) -> Option<String> {
        data.attributes
            .iter()
            .find(|pair| pair.key.as_str() == key)
            .map(|pair| pair.value.to_string())
    }

    fn data(span: Span) -> SpanData {
        span.into_data(&InstrumentationScope::default())
    }

    #[test]
    fn blames_a_server_for_500_and_a_client_for_400() {
        let status = |kind, status| {
            let mut span = span(kind, "GET");
            span.status = Some(status);
            let data = data(span);
            let failed = matches!(data.status, Status::Error { .. });
            assert_eq!(attribute(&data, "error.type").is_some(), failed);
            failed
        };
        assert!(!status(SpanKind::Server, 404));
        assert!(status(SpanKind::Server, 503));
        assert!(status(SpanKind::Client, 404));
        assert!(!status(SpanKind::Client, 302));
    }

    #[test]
    fn names_stay_few_whatever_the_client_sends() {
        let mut odd = span(SpanKind::Server, "BREW");
        odd.path = Text::Static("/pots/17");
        odd.route = Some("coffee".into());
        let data = data(odd);
        assert_eq!(data.name, "HTTP coffee");
        assert_eq!(attribute(&data, "http.request.method").unwrap(), "_OTHER");
        assert_eq!(
            attribute(&data, "http.request.method_original").unwrap(),
            "BREW"
        );
    }

    #[test]
    fn a_word_for_the_error_goes_before_the_status() {
        let mut failed = span(SpanKind::Client, "GET");
        failed.error = Some("connect_timeout");
        failed.resend_count = 2;
        let data = data(failed);
        assert_eq!(attribute(&data, "error.type").unwrap(), "connect_timeout");
        assert_eq!(attribute(&data, "http.request.resend_count").unwrap(), "2");
        assert_eq!(data.status, Status::error("connect_timeout"));
    }
}
