//! What is told of requests: metrics, access log, spans.

use crate::client::{self, Client};
use crate::origin::{Origin, nowhere};
use crate::proxy::{Output, Proxy, log_to, metrics};
use crate::shapes::{cluster, edge, http, put_cluster, put_listener, routes, simple, tcp, to};
use crate::{soon, until};
use meridian_model::UpstreamProtocol::{Http1, Tcp};
use meridian_telemetry::SpanSink;
use meridian_telemetry::trace::{Sampler, SpanExportConfig};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;
use serde_json::Value;
use std::path::Path;
use std::time::Duration;
use tokio::io::AsyncWriteExt;

/// The lines of a log, once there are as many as wanted.
async fn lines(path: &Path, count: usize) -> Vec<Value> {
    let read = || std::fs::read_to_string(path).unwrap();
    until("log lines", || read().lines().count() >= count).await;
    read()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[tokio::test]
async fn every_request_has_one_line_in_the_access_log() {
    let origin = Origin::serving(|mut incoming| async move {
        while let Some(seen) = incoming.request().await {
            if seen.path() != "/hang" {
                incoming.write(crate::origin::response(200, "hello")).await;
            }
        }
    })
    .await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("access.log");
    let metrics = metrics();
    let output = Output {
        access_log: Some(log_to(&path, &metrics)),
        ..Output::default()
    };
    let proxy = Proxy::start_with(simple(Http1, origin.address), metrics, output);
    proxy.ready().await;
    let mut client = Client::connect(proxy.address("in")).await;
    client
        .send("POST /a?secret=1 HTTP/1.1\r\nHost: test\r\nContent-Length: 3\r\n\r\nabc")
        .await;
    assert_eq!(client.response().await.status, 200);
    client.send("GET /b HTTP/1.1\r\nHost: u@x\r\n\r\n").await;
    assert_eq!(client.response().await.status, 400);
    let mut gone = Client::connect(proxy.address("in")).await;
    gone.send("GET /hang HTTP/1.1\r\nHost: test\r\n\r\n").await;
    origin.has_seen(2).await;
    drop(gone);

    let lines = lines(&path, 3).await;
    let find = |status: u64| {
        let mut all = lines.iter();
        all.find(|line| line["status"] == status)
            .unwrap_or_else(|| panic!("no line with {status}: {lines:#?}"))
    };
    let ok = find(200);
    assert_eq!(ok["method"], "POST");
    assert_eq!(ok["path"], "/a");
    assert_eq!(ok["listener"], "in");
    assert_eq!(ok["cluster"], "origin");
    assert_eq!(ok["tries"], 1);
    assert!(!lines.iter().any(|line| line.to_string().contains("secret")));
    let text = ok.to_string();
    assert!(text.contains(&origin.address.to_string()), "{text}");
    assert!(find(400).to_string().contains("host"), "{lines:#?}");
    assert!(find(499).to_string().contains("client_gone"));
    assert_eq!(lines.len(), 3);
}

#[tokio::test]
async fn tcp_connections_have_their_line_and_their_bytes() {
    let origin = Origin::echo().await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("access.log");
    let metrics = metrics();
    let output = Output {
        access_log: Some(log_to(&path, &metrics)),
        ..Output::default()
    };
    let mut plan = crate::shapes::snapshot(
        vec![tcp("in", "origin"), tcp("dead", "dead")],
        vec![cluster("origin", Tcp, &[origin.address])],
    );
    put_cluster(&mut plan, cluster("dead", Tcp, &[nowhere().await]));
    let proxy = Proxy::start_with(plan, metrics, output);
    proxy.ready().await;
    let mut client = Client::connect(proxy.address("in")).await;
    client.send("hello").await;
    client.take(5).await;
    // A connection that stays open shows its bytes today.
    proxy
        .metric_becomes(&["tcp_received_bytes_total", "\"in\""], 5.0)
        .await;
    client.stream.shutdown().await.unwrap();
    assert_eq!(client.rest().await, b"");
    let mut dead = Client::connect(proxy.address("dead")).await;
    assert_eq!(dead.rest().await, b"");
    // There was nobody else to try.
    assert_eq!(proxy.metric(&["client_errors_total", "\"connect\""]), 1.0);
    assert_eq!(proxy.metric(&["retries_total"]), 0.0);
    let lines = lines(&path, 2).await;
    let of = |listener: &str| {
        lines
            .iter()
            .find(|line| line["listener"] == listener)
            .unwrap()
    };
    let passed = of("in");
    assert_eq!(
        (&passed["bytes_in"], &passed["bytes_out"]),
        (&5.into(), &5.into())
    );
    assert_eq!(of("dead")["outcome"], "connect_failed");
}

#[tokio::test]
async fn counts_and_gauges_come_out_even() {
    let origin = Origin::ok().await;
    let mut plan = simple(Http1, origin.address);
    put_listener(&mut plan, edge("outside", routes(vec![to("origin")])));
    put_listener(&mut plan, http("empty", routes(Vec::new())));
    let proxy = Proxy::start(plan).await;
    for _ in 0..3 {
        client::get(proxy.address("in"), "/").await;
        client::get(proxy.address("outside"), "/").await;
        client::get(proxy.address("empty"), "/").await;
    }
    for (listener, status) in [("in", "200"), ("outside", "200"), ("empty", "404")] {
        let listener = format!("listener=\"{listener}\"");
        let status = format!("\"{status}\"");
        proxy
            .metric_becomes(&["server_requests_total", &listener, &status], 3.0)
            .await;
        proxy
            .metric_becomes(&["downstream_connections{", &listener], 0.0)
            .await;
    }
    assert_eq!(proxy.metric(&["client_requests_total", "\"origin\""]), 6.0);
    assert_eq!(proxy.metric(&["http_server_active_requests"]), 0.0);
    assert_eq!(proxy.metric(&["http_client_active_requests"]), 0.0);
    assert_eq!(proxy.metric(&["snapshot_generation"]), 1.0);
    assert_eq!(proxy.metric(&["upstream_connections_total"]), 1.0);
}

const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/// An address that takes OTLP over HTTP, as any origin takes a request.
async fn collector() -> Origin {
    Origin::ok().await
}

fn spans(collector: &Origin) -> Vec<Span> {
    collector
        .seen()
        .iter()
        .map(|seen| ExportTraceServiceRequest::decode(seen.body.as_slice()).unwrap())
        .flat_map(|export| export.resource_spans)
        .flat_map(|resource| resource.scope_spans)
        .flat_map(|scope| scope.spans)
        .collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test]
async fn spans_continue_the_callers_trace_and_each_try_is_a_child() {
    let collector = collector().await;
    let origin = Origin::ok().await;
    let metrics = metrics();
    let config = SpanExportConfig {
        endpoint: format!("http://{}", collector.address),
        service_name: "test".into(),
        resource: Vec::new(),
        sampler: Sampler::new(1.0),
        interval: Some(Duration::from_millis(10)),
    };
    let runtime = tokio::runtime::Handle::current();
    let sink = SpanSink::start(&config, metrics.spans(), &runtime).unwrap();
    let output = Output {
        spans: sink.clone(),
        ..Output::default()
    };
    let proxy = Proxy::start_with(simple(Http1, origin.address), metrics, output);
    proxy.ready().await;
    let mut client = Client::connect(proxy.address("in")).await;
    client
        .send(format!(
            "GET /x HTTP/1.1\r\nHost: a\r\ntraceparent: {PARENT}\r\ntracestate: a=1,b=2\r\n\r\n"
        ))
        .await;
    assert_eq!(client.response().await.status, 200);
    until("two spans", || spans(&collector).len() >= 2).await;
    soon("the sink", sink.shutdown(Duration::from_secs(3)))
        .await
        .unwrap();

    let spans = spans(&collector);
    assert_eq!(spans.len(), 2);
    let trace = &PARENT[3..35];
    assert!(spans.iter().all(|span| hex(&span.trace_id) == trace));
    let server = spans
        .iter()
        .find(|span| hex(&span.parent_span_id) == PARENT[36..52])
        .unwrap();
    let attempt = spans
        .iter()
        .find(|span| span.parent_span_id == server.span_id)
        .unwrap();
    let seen = origin.only();
    let sent = format!("00-{trace}-{}-01", hex(&attempt.span_id));
    assert_eq!(seen.values("traceparent"), [sent]);
    assert_eq!(seen.values("tracestate"), ["a=1,b=2"]);
}

#[tokio::test]
async fn trace_headers_pass_untouched_without_tracing() {
    let origin = Origin::ok().await;
    let proxy = Proxy::start(simple(Http1, origin.address)).await;
    let mut client = Client::connect(proxy.address("in")).await;
    client
        .send(format!(
            "GET / HTTP/1.1\r\nHost: a\r\ntraceparent: {PARENT}\r\n\r\n"
        ))
        .await;
    assert_eq!(client.response().await.status, 200);
    assert_eq!(origin.only().values("traceparent"), [PARENT]);
}
