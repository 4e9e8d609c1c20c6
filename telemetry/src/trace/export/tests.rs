//! The span sink against a collector that speaks real OTLP over HTTP.

use std::collections::HashMap;
use std::time::SystemTime;

use http::{Method, Version};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue as WireAttribute, any_value};
use opentelemetry_proto::tonic::trace::v1::span::SpanKind as WireKind;
use prost::Message;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::text::Text;
use crate::trace::{Parent, SpanKind, TraceState};

const PATIENCE: Duration = Duration::from_secs(20);

/// Accepts exports and hands them to the test.
struct Collector {
    endpoint: String,
    requests: mpsc::UnboundedReceiver<(String, ExportTraceServiceRequest)>,
}

impl Collector {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let (sender, requests) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, sender.clone()));
            }
        });
        Self { endpoint, requests }
    }

    async fn next(&mut self) -> (String, ExportTraceServiceRequest) {
        timeout(PATIENCE, self.requests.recv())
            .await
            .expect("an export in time")
            .expect("a running collector")
    }
}

async fn serve(
    mut stream: TcpStream,
    requests: mpsc::UnboundedSender<(String, ExportTraceServiceRequest)>,
) {
    let mut bytes = Vec::new();
    loop {
        let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
            if stream.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
                return;
            }
            continue;
        };
        let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
        let length: usize = head
            .lines()
            .find_map(|line| {
                line.to_lowercase()
                    .strip_prefix("content-length: ")?
                    .parse()
                    .ok()
            })
            .expect("a content-length");
        while bytes.len() < end + 4 + length {
            if stream.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
                return;
            }
        }
        let body = &bytes[end + 4..end + 4 + length];
        let request = ExportTraceServiceRequest::decode(body).unwrap();
        bytes.drain(..end + 4 + length);
        if requests.send((head, request)).is_err() {
            return;
        }
        let reply =
            b"HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\ncontent-length: 0\r\n\r\n";
        if stream.write_all(reply).await.is_err() {
            return;
        }
    }
}

fn counters() -> SpanSinkMetrics {
    let counter = |name: &str| IntCounter::new(name, "of a test").unwrap();
    SpanSinkMetrics {
        exported: counter("exported"),
        queue_full: counter("queue_full"),
        export_failed: counter("export_failed"),
    }
}

fn config(endpoint: &str, ratio: f64) -> SpanExportConfig {
    SpanExportConfig {
        endpoint: endpoint.to_owned(),
        service_name: "gateway".to_owned(),
        resource: vec![("service.instance.id".to_owned(), "one".to_owned())],
        sampler: Sampler::new(ratio),
        interval: Some(Duration::from_millis(20)),
    }
}

fn span(kind: SpanKind, context: TraceContext) -> Span {
    Span::new(kind, context, SystemTime::now(), Method::GET)
}

fn words(attributes: &[WireAttribute]) -> HashMap<String, String> {
    let word = |value: &Option<AnyValue>| match value.as_ref().and_then(|v| v.value.as_ref()) {
        Some(any_value::Value::StringValue(text)) => text.clone(),
        Some(any_value::Value::IntValue(number)) => number.to_string(),
        other => panic!("unexpected attribute value {other:?}"),
    };
    attributes
        .iter()
        .map(|pair| (pair.key.clone(), word(&pair.value)))
        .collect()
}

fn expected(pairs: &[(&str, &str)]) -> HashMap<String, String> {
    pairs
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect()
}

/// A request that was tried once, as the data plane would record it.
fn exchange(sink: &SpanSink, caller: &TraceContext) -> (Span, Span) {
    let context = sink.begin(Some(caller)).unwrap();
    let mut server = span(SpanKind::Server, context);
    server.parent = Some(Parent {
        span_id: caller.span_id,
        remote: true,
    });
    server.state = TraceState::parse([b"vendor=1".as_slice()].into_iter());
    server.duration = Duration::from_millis(7);
    server.path = Text::Static("/orders");
    server.scheme = "https";
    server.host = Some(Text::Static("shop.example"));
    server.port = Some(443);
    server.version = Version::HTTP_2;
    server.status = Some(503);
    server.route = Some("orders".into());
    let mut client = span(SpanKind::Client, context.child());
    client.parent = Some(Parent {
        span_id: context.span_id,
        remote: false,
    });
    client.error = Some("connect_refused");
    client.cluster = Some("orders.default".into());
    client.peer = Some(Text::Address("127.0.0.1:9".parse().unwrap()));
    (server, client)
}

#[tokio::test]
async fn exports_a_request_and_its_try_with_links_and_attributes() {
    let mut collector = Collector::start().await;
    let metrics = counters();
    let config = config(&collector.endpoint, 0.0);
    let sink = SpanSink::start(&config, metrics.clone(), &Handle::current()).unwrap();
    let caller = TraceContext::root(true);
    let (server, client) = exchange(&sink, &caller);
    let (server_context, client_context) = (server.context, client.context);
    sink.record(client);
    sink.record(server);
    sink.shutdown(PATIENCE).await.unwrap();

    let (head, export) = collector.next().await;
    assert!(head.starts_with("POST /v1/traces HTTP/1.1"), "{head}");
    assert!(head.contains("application/x-protobuf"), "{head}");
    let [resource_spans] = export.resource_spans.as_slice() else {
        panic!("one resource expected: {export:?}");
    };
    let resource = words(&resource_spans.resource.as_ref().unwrap().attributes);
    assert_eq!(
        resource,
        expected(&[("service.name", "gateway"), ("service.instance.id", "one")])
    );
    let spans = &resource_spans.scope_spans[0].spans;
    let [client, server] = spans.as_slice() else {
        panic!("two spans expected: {spans:?}");
    };

    assert_eq!(server.kind, WireKind::Server as i32);
    assert_eq!(server.name, "GET orders");
    assert_eq!(server.trace_id, caller.trace_id);
    assert_eq!(server.span_id, server_context.span_id);
    assert_eq!(server.parent_span_id, caller.span_id);
    assert_eq!(server.trace_state, "vendor=1");
    assert_eq!(
        server.end_time_unix_nano - server.start_time_unix_nano,
        7_000_000
    );
    assert_eq!(
        words(&server.attributes),
        expected(&[
            ("http.request.method", "GET"),
            ("url.path", "/orders"),
            ("url.scheme", "https"),
            ("network.protocol.version", "2"),
            ("server.address", "shop.example"),
            ("server.port", "443"),
            ("http.response.status_code", "503"),
            ("error.type", "503"),
            ("http.route", "orders"),
        ])
    );

    assert_eq!(client.kind, WireKind::Client as i32);
    assert_eq!(client.trace_id, caller.trace_id);
    assert_eq!(client.span_id, client_context.span_id);
    assert_eq!(client.parent_span_id, server_context.span_id);
    let client = words(&client.attributes);
    assert_eq!(client["error.type"], "connect_refused");
    assert_eq!(client["peer.service"], "orders.default");
    assert_eq!(client["network.peer.address"], "127.0.0.1:9");
    assert_eq!(metrics.exported.get(), 2);
}

#[tokio::test]
async fn exports_without_being_asked_once_the_interval_has_passed() {
    let mut collector = Collector::start().await;
    let config = config(&collector.endpoint, 1.0);
    let sink = SpanSink::start(&config, counters(), &Handle::current()).unwrap();
    sink.record(span(SpanKind::Server, sink.begin(None).unwrap()));
    let (_, export) = collector.next().await;
    assert_eq!(export.resource_spans.len(), 1);
}

#[tokio::test]
async fn ignores_unsampled_spans() {
    let mut collector = Collector::start().await;
    let config = config(&collector.endpoint, 0.0);
    let sink = SpanSink::start(&config, counters(), &Handle::current()).unwrap();
    sink.record(span(SpanKind::Server, sink.begin(None).unwrap()));
    sink.shutdown(PATIENCE).await.unwrap();
    assert!(collector.requests.try_recv().is_err());
}

#[tokio::test]
async fn counts_spans_that_a_full_queue_drops() {
    // This runtime has one thread: the exporting task can't run in between.
    let config = config("http://127.0.0.1:9", 1.0);
    let metrics = counters();
    let sink = SpanSink::start(&config, metrics.clone(), &Handle::current()).unwrap();
    for _ in 0..QUEUE + 3 {
        sink.record(span(SpanKind::Server, sink.begin(None).unwrap()));
    }
    assert_eq!(metrics.queue_full.get(), 3);
}

#[tokio::test]
async fn counts_spans_that_no_collector_takes() {
    // Bound and dropped: nobody listens there.
    let unused = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", unused.local_addr().unwrap());
    drop(unused);
    let metrics = counters();
    let config = config(&endpoint, 1.0);
    let sink = SpanSink::start(&config, metrics.clone(), &Handle::current()).unwrap();
    sink.record(span(SpanKind::Server, sink.begin(None).unwrap()));
    sink.shutdown(PATIENCE).await.unwrap();
    assert_eq!(metrics.export_failed.get(), 1);
    sink.record(span(SpanKind::Server, sink.begin(None).unwrap()));
    assert_eq!(metrics.queue_full.get(), 1);
}

#[tokio::test]
async fn gives_up_flushing_at_the_deadline() {
    // Accepts connections into its backlog and never answers.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", silent.local_addr().unwrap());
    let config = config(&endpoint, 1.0);
    let sink = SpanSink::start(&config, counters(), &Handle::current()).unwrap();
    sink.record(span(SpanKind::Server, sink.begin(None).unwrap()));
    let outcome = sink.shutdown(Duration::from_millis(100)).await;
    assert!(matches!(outcome, Err(SpanExportError::Deadline)));
}

#[tokio::test]
async fn a_disabled_sink_begins_nothing() {
    let sink = SpanSink::default();
    assert!(!sink.is_enabled());
    assert_eq!(sink.begin(Some(&TraceContext::root(true))), None);
    sink.shutdown(Duration::ZERO).await.unwrap();
}

#[test]
fn refuses_what_is_not_a_collector_url() {
    for endpoint in ["", "collector:4318", "ftp://collector", "/v1/traces"] {
        assert_eq!(traces_url(endpoint), None, "{endpoint}");
    }
    let url = |endpoint| traces_url(endpoint).unwrap().to_string();
    assert_eq!(url("http://c:4318"), "http://c:4318/v1/traces");
    assert_eq!(url("http://c/otlp"), "http://c/otlp");
}
