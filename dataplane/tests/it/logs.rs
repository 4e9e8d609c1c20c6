//! Access logs for collectors: what they are told, and what it costs when they are away.

use crate::client;
use crate::http2_origin::{Http2Origin, grpc_trailers, send};
use crate::origin::{Origin, nowhere};
use crate::proxy::Proxy;
use crate::shapes::{cluster, put_cluster, put_listener, simple};
use crate::until;
use meridian_model::UpstreamProtocol::{Http1, Http2};
use meridian_model::log::{LogField, LogPiece, LogValue};
use meridian_model::{LogExport, Service, Snapshot};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Whoever calls `in` is told of at the collector.
fn telling(mut plan: Snapshot, collector: SocketAddr) -> Snapshot {
    let field = |field| LogPiece::Field(field, None);
    let export = LogExport {
        cluster: "collector".into(),
        authority: None,
        metadata: vec![("x-token".parse().unwrap(), "secret".parse().unwrap())],
        timeout: Duration::from_secs(5),
        interval: Duration::from_millis(10),
        batch_bytes: 1000,
        resource: vec![("place".to_owned(), LogValue::Bool(true))],
        body: Some(LogValue::Text(vec![
            field(LogField::Method),
            LogPiece::Literal(" ".to_owned()),
            field(LogField::Path),
            LogPiece::Literal(" ".to_owned()),
            field(LogField::Status),
            LogPiece::Literal(" ".to_owned()),
            field(LogField::UserAgent),
            LogPiece::Literal(" ".to_owned()),
            LogPiece::Field(LogField::Protocol, Some(4)),
            LogPiece::Literal(".".to_owned()),
        ])),
        attributes: vec![("n".to_owned(), LogValue::Integer(5))],
    };
    put_cluster(&mut plan, cluster("collector", Http2, &[collector]));
    let mut listener = (*plan.listeners["in"]).clone();
    if let Service::Http(service) = &mut listener.service {
        Arc::make_mut(service).filters.logs = vec![Arc::new(export)];
    }
    put_listener(&mut plan, listener);
    plan
}

fn times(messages: &[Vec<u8>], text: &str) -> usize {
    let in_one = |bytes: &Vec<u8>| {
        let mut windows = bytes.windows(text.len());
        windows.by_ref().filter(|w| *w == text.as_bytes()).count()
    };
    messages.iter().map(in_one).sum()
}

#[tokio::test]
async fn every_request_is_told_of_once_and_also_across_snapshots() {
    let got = Arc::new(Mutex::new(Vec::new()));
    let keep = Arc::clone(&got);
    let collector = Http2Origin::serving(move |mut call| {
        let keep = Arc::clone(&keep);
        async move {
            let path = "/opentelemetry.proto.collector.logs.v1.LogsService/Export";
            assert_eq!(call.request.uri().path(), path);
            assert_eq!(call.request.headers()["x-token"], "secret");
            let message = call.body().await;
            keep.lock().unwrap().push(message);
            let mut out = call.begin();
            send(&mut out, vec![0; 5].into()).await.unwrap();
            out.send_trailers(grpc_trailers(0)).unwrap();
        }
    })
    .await;
    let origin = Origin::ok().await;
    let proxy = Proxy::start(telling(simple(Http1, origin.address), collector.address)).await;
    for round in 0..2 {
        for number in 0..5 {
            client::get(proxy.address("in"), &format!("/{round}{number}?q=1")).await;
        }
        proxy
            .change(|plan| {
                let mut listener = (*plan.listeners["in"]).clone();
                listener.limits.headers = 50;
                put_listener(plan, listener);
            })
            .await;
    }
    let told = || times(&got.lock().unwrap(), "GET /");
    until("ten records", || told() >= 10).await;
    assert_eq!(told(), 10);
    let messages = got.lock().unwrap().clone();
    for path in ["GET /00?q=1 200 - HTTP.", "GET /14?q=1 200 - HTTP."] {
        assert_eq!(times(&messages, path), 1, "{path}");
    }
    assert_eq!(collector.connections(), 1);
    proxy.metric_becomes(&["access_log_exported"], 10.0).await;
}

#[tokio::test]
async fn a_collector_that_is_away_costs_records_and_no_request() {
    let origin = Origin::ok().await;
    let away = nowhere().await;
    let proxy = Proxy::start(telling(simple(Http1, origin.address), away)).await;
    for _ in 0..3 {
        assert_eq!(client::get(proxy.address("in"), "/").await.status, 200);
    }
    let dropped = ["access_log_export_dropped", "export_failed"];
    proxy.metric_becomes(&dropped, 3.0).await;
    assert_eq!(proxy.metric(&["access_log_exported"]), 0.0);
}
