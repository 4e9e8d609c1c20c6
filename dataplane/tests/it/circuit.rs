//! As many requests and connections as a cluster may have, and no more.

use crate::client::{self, Client};
use crate::origin::{Origin, response};
use crate::proxy::Proxy;
use crate::shapes::{cluster, put_cluster, simple};
use meridian_model::UpstreamProtocol::Http1;
use meridian_model::policy::CircuitLimits;
use std::sync::Arc;
use tokio::sync::Notify;

#[tokio::test]
async fn more_requests_than_allowed_are_turned_away() {
    let origin = Origin::silent().await;
    let mut plan = simple(Http1, origin.address);
    let mut limited = cluster("origin", Http1, &[origin.address]);
    limited.limits = CircuitLimits {
        requests: Some(2),
        ..CircuitLimits::default()
    };
    put_cluster(&mut plan, limited);
    let proxy = Proxy::start(plan).await;
    let mut waiting = Vec::new();
    for _ in 0..2 {
        let mut client = Client::connect(proxy.address("in")).await;
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        waiting.push(client);
    }
    origin.has_seen(2).await;
    let answer = client::get(proxy.address("in"), "/").await;
    assert_eq!(answer.status, 503);
    assert!(answer.text().contains("overflow"));
    assert_eq!(proxy.metric(&["client_errors_total", "\"overflow\""]), 1.0);
    // A place is free again when a request is over.
    waiting.pop();
    origin.has_closed(1).await;
    let mut client = Client::connect(proxy.address("in")).await;
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    origin.has_seen(3).await;
}

#[tokio::test]
async fn requests_wait_for_a_connection_only_as_far_as_they_may() {
    let gate = Arc::new(Notify::new());
    let opened = Arc::clone(&gate);
    let origin = Origin::serving(move |mut incoming| {
        let gate = Arc::clone(&gate);
        async move {
            while incoming.request().await.is_some() {
                gate.notified().await;
                incoming.write(response(200, "late")).await;
            }
        }
    })
    .await;
    let mut plan = simple(Http1, origin.address);
    let mut limited = cluster("origin", Http1, &[origin.address]);
    limited.limits = CircuitLimits {
        connections: Some(1),
        pending_requests: Some(1),
        // One that waits is not under way.
        requests: Some(1),
    };
    put_cluster(&mut plan, limited);
    let proxy = Proxy::start(plan).await;
    let address = proxy.address("in");
    let first = tokio::spawn(async move { client::get(address, "/").await });
    origin.has_seen(1).await;
    let mut second = tokio::spawn(async move { client::get(address, "/").await });
    let mut third = tokio::spawn(async move { client::get(address, "/").await });
    let (refused, waiting) = tokio::select! {
        answer = &mut second => (answer.unwrap(), third),
        answer = &mut third => (answer.unwrap(), second),
    };
    assert_eq!(refused.status, 503);
    assert_eq!(refused.header("x-envoy-overloaded"), Some("true"));
    assert!(refused.text().ends_with("reset reason: overflow"));
    assert_eq!(proxy.metric(&["client_errors_total", "\"overflow\""]), 1.0);
    opened.notify_one();
    assert_eq!(first.await.unwrap().status, 200);
    opened.notify_one();
    assert_eq!(waiting.await.unwrap().status, 200);
}
