//! What is remembered of one request, and told when it is over: metrics,
//! access log, spans. Told exactly once, also when the task is dropped.

use super::connection::Shared;
use super::failure::Failure;
use crate::headers::RequestHeader;
use crate::logs::LogSink;
use crate::tables::RouteTelemetry;
use http::{HeaderValue, Method, Version};
use meridian_telemetry::access_log::{AccessRecord, Protocol};
use meridian_telemetry::metrics::Open;
use meridian_telemetry::text::Text;
use meridian_telemetry::trace::{self, Parent, Span, SpanKind, TraceContext, TraceState};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

/// The story of one request.
pub(crate) struct Record {
    shared: Arc<Shared>,
    telemetry: Option<RouteTelemetry>,
    in_flight: Option<Open>,
    started: Instant,
    /// The log line to be; `None` where nobody wants one.
    line: Option<Box<AccessRecord>>,
    /// Collectors that want it too.
    logs: Arc<[Arc<LogSink>]>,
    trace: Option<Trace>,
    method: Method,
    version: Version,
    request_id: HeaderValue,
    status: Option<u16>,
    failure: Option<Failure>,
    bytes_in: u64,
    bytes_out: u64,
    tries: u32,
}

/// The request's own place in a trace.
struct Trace {
    context: TraceContext,
    parent: Option<Parent>,
    state: TraceState,
    time: SystemTime,
    path: Text,
    host: Option<Text>,
    client: Option<SocketAddr>,
}

/// What the connection contributes.
pub(crate) struct Caller<'a> {
    pub(crate) listener: &'a Arc<str>,
    pub(crate) address: Option<SocketAddr>,
    pub(crate) identity: Option<Arc<str>>,
    pub(crate) logs: &'a Arc<[Arc<LogSink>]>,
}

impl Record {
    /// Begins with a head that was just read.
    pub(crate) fn begin(
        shared: &Arc<Shared>,
        head: &RequestHeader,
        caller: &Caller<'_>,
        request_id: HeaderValue,
    ) -> Self {
        let incoming = shared
            .spans
            .is_enabled()
            .then(|| trace::extract(&head.headers));
        let trace = incoming.and_then(|incoming| begin_trace(shared, head, caller, incoming));
        let wanted = shared.access_log.is_on() || !caller.logs.is_empty();
        let line = wanted.then(|| {
            let mut line = AccessRecord::new(
                SystemTime::now(),
                Arc::clone(caller.listener),
                Protocol::from(head.version),
            );
            line.request_id = Some(Text::from(&request_id));
            line.trace = trace.as_ref().map(|trace| trace.context);
            line.method = Some(head.method.clone());
            line.path = Some(Text::copied(head.uri.path().as_bytes()));
            line.query = head.uri.query().map(|query| Text::copied(query.as_bytes()));
            line.host = host(head);
            line.client = caller.address.map(Text::Address);
            line.peer_identity = caller.identity.clone().map(Text::Shared);
            line.user_agent = head.headers.get(http::header::USER_AGENT).map(Text::from);
            Box::new(line)
        });
        Self {
            shared: Arc::clone(shared),
            telemetry: None,
            in_flight: None,
            started: Instant::now(),
            line,
            logs: Arc::clone(caller.logs),
            trace,
            method: head.method.clone(),
            version: head.version,
            request_id,
            status: None,
            failure: None,
            bytes_in: 0,
            bytes_out: 0,
            tries: 0,
        }
    }

    /// The request's ID.
    pub(crate) fn request_id(&self) -> &HeaderValue {
        &self.request_id
    }

    /// A route was found: from here on the request counts as its.
    pub(crate) fn routed(&mut self, telemetry: &RouteTelemetry) {
        self.in_flight = Some(telemetry.metrics.begin());
        if let Some(line) = &mut self.line {
            line.route = Some(Arc::clone(&telemetry.route));
            line.cluster = telemetry.cluster.clone();
        }
        self.telemetry = Some(telemetry.clone());
    }

    /// A try begins at `endpoint`.
    pub(crate) fn tried(&mut self, endpoint: impl FnOnce() -> Text) {
        self.tries += 1;
        if let Some(line) = &mut self.line {
            line.tries = self.tries;
            line.endpoint = Some(endpoint());
        }
    }

    /// The context that a try sends along, a child of the request's own.
    pub(crate) fn try_context(&self) -> Option<(TraceContext, &TraceState)> {
        self.trace
            .as_ref()
            .map(|trace| (trace.context.child(), &trace.state))
    }

    /// A try is over.
    pub(crate) fn try_ended(&mut self, ended: TryEnded) {
        if let Some(line) = &mut self.line {
            line.upstream_duration = Some(ended.duration);
        }
        let (Some(trace), Some(context)) = (&self.trace, ended.context) else {
            return;
        };
        if !context.sampled {
            return;
        }
        let start = trace.time + ended.began.saturating_duration_since(self.started);
        let mut span = Span::new(SpanKind::Client, context, start, self.method.clone());
        span.parent = Some(Parent {
            span_id: trace.context.span_id,
            remote: false,
        });
        span.state = trace.state.clone();
        span.duration = ended.duration;
        span.path = trace.path.clone();
        span.host = trace.host.clone();
        span.version = ended.version;
        span.status = ended.status;
        span.error = ended.failure.map(Failure::as_str);
        span.peer = Some(ended.endpoint);
        span.resend_count = self.tries.saturating_sub(1);
        if let Some(telemetry) = &self.telemetry {
            span.route = Some(Arc::clone(&telemetry.route));
            span.cluster = telemetry.cluster.clone();
        }
        self.shared.spans.record(span);
    }

    /// Bytes of the request's body came.
    pub(crate) fn received(&mut self, bytes: usize) {
        self.bytes_in += bytes as u64;
    }

    /// Bytes of the response's body went.
    pub(crate) fn sent(&mut self, bytes: u64) {
        self.bytes_out += bytes;
    }

    /// The client was sent this status.
    pub(crate) fn answered(&mut self, status: u16) {
        self.status = Some(status);
    }

    /// Something went wrong.
    pub(crate) fn failed(&mut self, failure: Failure) {
        self.failure = Some(failure);
    }

    fn tell(&mut self) {
        let duration = self.started.elapsed();
        // A request whose task was dropped was left by its client.
        let abandoned = self.status.is_none() && self.failure.is_none();
        let failure = match self.failure {
            None if abandoned => Some(Failure::ClientGone),
            failure => failure,
        };
        let status = self
            .status
            .or_else(|| failure.map(|failure| failure.status().as_u16()));
        self.in_flight = None;
        if let Some(telemetry) = &self.telemetry {
            telemetry.metrics.finished(
                status.unwrap_or(499),
                duration,
                self.bytes_in,
                self.bytes_out,
            );
        }
        if let Some(trace) = self.trace.take() {
            self.tell_span(trace, duration, status, failure);
        }
        if let Some(mut line) = self.line.take() {
            line.duration = duration;
            line.status = status;
            line.outcome = failure.map(Failure::as_str);
            line.bytes_in = self.bytes_in;
            line.bytes_out = self.bytes_out;
            for log in &*self.logs {
                log.record((*line).clone());
            }
            self.shared.access_log.record(*line);
        }
    }

    fn tell_span(
        &self,
        trace: Trace,
        duration: Duration,
        status: Option<u16>,
        failure: Option<Failure>,
    ) {
        if !trace.context.sampled {
            return;
        }
        let mut span = Span::new(
            SpanKind::Server,
            trace.context,
            trace.time,
            self.method.clone(),
        );
        span.parent = trace.parent;
        span.state = trace.state;
        span.duration = duration;
        span.path = trace.path;
        span.host = trace.host;
        span.version = self.version;
        span.status = status;
        span.error = failure.map(Failure::as_str);
        span.route = self.telemetry.as_ref().map(|t| Arc::clone(&t.route));
        span.peer = trace.client.map(Text::Address);
        self.shared.spans.record(span);
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        self.tell();
    }
}

/// How a try went.
pub(crate) struct TryEnded {
    pub(crate) context: Option<TraceContext>,
    pub(crate) began: Instant,
    pub(crate) duration: Duration,
    pub(crate) version: Version,
    pub(crate) status: Option<u16>,
    pub(crate) failure: Option<Failure>,
    pub(crate) endpoint: Text,
}

fn begin_trace(
    shared: &Shared,
    head: &RequestHeader,
    caller: &Caller<'_>,
    incoming: Option<(TraceContext, TraceState)>,
) -> Option<Trace> {
    let (parent, state) = incoming.map_or_else(
        || (None, TraceState::default()),
        |(context, state)| (Some(context), state),
    );
    let context = shared.spans.begin(parent.as_ref())?;
    Some(Trace {
        context,
        parent: parent.map(|parent| Parent {
            span_id: parent.span_id,
            remote: true,
        }),
        state,
        time: SystemTime::now(),
        path: Text::copied(head.uri.path().as_bytes()),
        host: host(head),
        client: caller.address,
    })
}

fn host(head: &RequestHeader) -> Option<Text> {
    match head.uri.authority() {
        Some(authority) => Some(Text::copied(authority.as_str().as_bytes())),
        None => head.headers.get(http::header::HOST).map(Text::from),
    }
}
