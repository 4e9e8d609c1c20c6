//! Distributed traces: W3C context in and out, spans to an OTLP collector.
//!
//! Without a collector nothing here runs: a disabled [`SpanSink`] answers
//! [`SpanSink::is_enabled`] with no, the incoming headers pass through as they
//! came (a forwarder that takes no part leaves them alone, W3C Trace Context
//! 3.4), and no identifier is made.

mod context;
mod export;
mod sampler;
mod span;
mod state;

pub use context::{ContextError, SpanId, TraceContext, TraceId};
pub use export::{SpanExportConfig, SpanExportError, SpanSink, SpanSinkMetrics};
pub use sampler::Sampler;
pub use span::{Parent, Span, SpanKind};
pub use state::TraceState;

use http::{HeaderMap, HeaderName};

/// The header that carries a [`TraceContext`].
pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// The header that carries a [`TraceState`].
pub const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// The caller's context, if it sent exactly one valid `traceparent`.
///
/// A `tracestate` without a valid `traceparent` is dropped, and a bad
/// `tracestate` leaves the context standing (W3C Trace Context 3.3.1 and 4.3).
pub fn extract(headers: &HeaderMap) -> Option<(TraceContext, TraceState)> {
    let mut parents = headers.get_all(&TRACEPARENT).iter();
    let parent = parents.next()?;
    if parents.next().is_some() {
        return None;
    }
    // Nothing follows from which rule a stranger's header broke.
    let context = TraceContext::parse(parent.as_bytes()).ok()?;
    let values = headers.get_all(&TRACESTATE).iter();
    Some((
        context,
        TraceState::parse(values.map(http::HeaderValue::as_bytes)),
    ))
}

/// Replaces the trace headers with this context.
///
/// Unlisted members of an earlier `tracestate` go away with it.
pub fn inject(context: &TraceContext, state: &TraceState, headers: &mut HeaderMap) {
    headers.insert(TRACEPARENT, context.header_value());
    match state.header_value() {
        Some(value) => headers.insert(TRACESTATE, value),
        None => headers.remove(TRACESTATE),
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn headers(lines: &[(HeaderName, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(name, HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn carries_a_context_through() {
        let incoming = headers(&[
            (TRACEPARENT, PARENT),
            (TRACESTATE, "a=1"),
            (TRACESTATE, "b=2"),
        ]);
        let (context, state) = extract(&incoming).unwrap();
        let mut outgoing = headers(&[(TRACESTATE, "stale=1")]);
        inject(&context, &state, &mut outgoing);
        assert_eq!(outgoing[TRACEPARENT], PARENT);
        assert_eq!(outgoing[TRACESTATE], "a=1,b=2");
    }

    #[test]
    fn refuses_two_parents() {
        let twice = headers(&[(TRACEPARENT, PARENT), (TRACEPARENT, PARENT)]);
        assert_eq!(extract(&twice), None);
    }

    #[test]
    fn ignores_a_state_without_a_parent() {
        assert_eq!(extract(&headers(&[(TRACESTATE, "a=1")])), None);
    }

    #[test]
    fn removes_a_stale_state_when_there_is_none() {
        let (context, state) = extract(&headers(&[(TRACEPARENT, PARENT)])).unwrap();
        let mut outgoing = headers(&[(TRACESTATE, "stale=1")]);
        inject(&context, &state, &mut outgoing);
        assert!(!outgoing.contains_key(TRACESTATE));
    }
}
