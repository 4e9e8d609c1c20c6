//! Endpoints and targets that fail are passed over, and left out.

use crate::client::{self, Client};
use crate::origin::{Origin, nowhere, response};
use crate::proxy::Proxy;
use crate::shapes::{cluster, http, routes, snapshot, to};
use meridian_model::UpstreamProtocol::Http1;
use meridian_model::policy::OutlierPolicy;
use std::sync::Arc;

#[tokio::test]
async fn an_endpoint_that_refuses_is_passed_over() {
    let origin = Origin::ok().await;
    let clusters = vec![cluster("origin", Http1, &[nowhere().await, origin.address])];
    let listeners = vec![http("in", routes(vec![to("origin")]))];
    let proxy = Proxy::start(snapshot(listeners, clusters)).await;
    for _ in 0..6 {
        let mut client = Client::connect(proxy.address("in")).await;
        client
            .send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi")
            .await;
        assert_eq!(client.response().await.status, 200);
    }
    assert!(proxy.metric(&["client_errors_total", "\"connect\""]) >= 1.0);
    assert_eq!(origin.seen().len(), 6);
}

#[tokio::test]
async fn a_target_that_cannot_be_reached_hands_requests_on_and_is_then_passed_over() {
    let origin = Origin::ok().await;
    let mut failing = cluster("origin", Http1, &[nowhere().await, nowhere().await]);
    let mut next = cluster("next", Http1, &[origin.address]).targets.remove(0);
    Arc::make_mut(&mut next).name = "next".into();
    failing.targets.push(next);
    failing.outlier = Some(OutlierPolicy::default());
    let listeners = vec![http("in", routes(vec![to("origin")]))];
    let proxy = Proxy::start(snapshot(listeners, vec![failing])).await;
    let ask = async || client::get(proxy.address("in"), "/").await.status;
    for _ in 0..20 {
        assert_eq!(ask().await, 200);
    }
    // Five failures each, and then nobody asks the first target any more.
    let tries = proxy.metric(&["client_errors_total", "\"connect\""]);
    assert_eq!(tries, 10.0);
    assert_eq!(origin.seen().len(), 20);
}

#[tokio::test]
async fn an_endpoint_that_keeps_failing_is_left_out() {
    let bad = Origin::answering(|_| response(500, "bad")).await;
    let good = Origin::ok().await;
    let mut pool = cluster("origin", Http1, &[bad.address, good.address]);
    pool.outlier = Some(OutlierPolicy {
        consecutive_failures: 3,
        max_ejected_percent: 50,
        ..OutlierPolicy::default()
    });
    let listeners = vec![http("in", routes(vec![to("origin")]))];
    let proxy = Proxy::start(snapshot(listeners, vec![pool])).await;
    let mut client = Client::connect(proxy.address("in")).await;
    for _ in 0..30 {
        client.get("/").await;
    }
    assert_eq!(bad.seen().len(), 3);
    for _ in 0..10 {
        assert_eq!(client.get("/").await.status, 200);
    }
    assert_eq!(bad.seen().len(), 3);
}

#[tokio::test]
async fn a_failure_counts_before_its_client_knows_of_it() {
    let origin = Origin::serving(|mut incoming| async move {
        incoming.request().await;
        incoming
            .write("HTTP/1.1 500 Oh\r\nContent-Length: 9\r\n\r\nunfini")
            .await;
        incoming.until_closed().await;
    })
    .await;
    let mut lone = cluster("origin", Http1, &[origin.address]);
    lone.outlier = Some(OutlierPolicy {
        consecutive_failures: 1,
        max_ejected_percent: 100,
        ..OutlierPolicy::default()
    });
    let listeners = vec![http("in", routes(vec![to("origin")]))];
    let proxy = Proxy::start(snapshot(listeners, vec![lone])).await;
    let mut first = Client::connect(proxy.address("in")).await;
    first.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n").await;
    assert_eq!(first.head().await.status, 500);
    let second = client::get(proxy.address("in"), "/").await;
    assert_eq!(
        (second.status, second.text().as_str()),
        (503, "no healthy upstream")
    );
}
