//! Clients that stop reading or sending, or that break a rule in the middle of a body: they hold
//! nothing for long, and are told why where they still listen.

use crate::client::Client;
use crate::http2_client::{Http2Client, request};
use crate::origin::{Incoming, Origin};
use crate::proxy::Proxy;
use crate::shapes::{put_listener, simple, simple_with};
use crate::{soon, until};
use meridian_model::Snapshot;
use meridian_model::UpstreamProtocol::Http1;
use std::time::Duration;

const SHORT: Duration = Duration::from_millis(200);

/// Answers with a body that never ends, for as long as somebody takes it.
async fn endless() -> Origin {
    Origin::serving(|mut incoming: Incoming| async move {
        use tokio::io::AsyncWriteExt;
        incoming.request().await;
        let head = "HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n";
        incoming.write(head).await;
        while incoming.stream.write_all(&[b'x'; 65_536]).await.is_ok() {}
    })
    .await
}

fn with_stall(mut plan: Snapshot) -> Snapshot {
    let mut listener = (*plan.listeners["in"]).clone();
    listener.deadlines.stall = SHORT;
    put_listener(&mut plan, listener);
    plan
}

#[tokio::test]
async fn a_client_that_does_not_read_is_left() {
    let origin = endless().await;
    let proxy = Proxy::start(with_stall(simple(Http1, origin.address))).await;
    let mut client = Client::connect(proxy.address("in")).await;
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    client.head().await;
    origin.has_closed(1).await;
}

#[tokio::test]
async fn a_window_that_is_never_opened_holds_an_upstream_no_longer_than_the_request_may_take() {
    let origin = endless().await;
    let plan = simple_with(Http1, origin.address, |action| {
        action.timeouts.request = Some(SHORT);
    });
    let proxy = Proxy::start(plan).await;
    let mut client = Http2Client::connect(proxy.address("in")).await;
    let (response, _) = client.open(request("GET", "/"), true).await;
    let mut body = soon("the head", response).await.unwrap().into_body();
    // Nothing is released: the window fills up and stays so.
    origin.has_closed(1).await;
    let error = soon("the reset", async {
        loop {
            if let Err(error) = body.data().await.unwrap() {
                return error;
            }
        }
    })
    .await;
    assert!(error.is_reset());
}

#[tokio::test]
async fn a_body_that_stops_coming_is_a_timeout() {
    let origin = Origin::ok().await;
    let proxy = Proxy::start(with_stall(simple(Http1, origin.address))).await;
    let mut client = Client::connect(proxy.address("in")).await;
    client
        .send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhalf")
        .await;
    let answer = client.response().await;
    assert_eq!(answer.status, 408);
    assert_eq!(answer.header("connection"), Some("close"));
    origin.has_closed(1).await;
    assert!(origin.seen().is_empty());
}

#[tokio::test]
async fn a_chunk_that_breaks_the_rules_is_a_bad_request() {
    let origin = Origin::ok().await;
    let proxy = Proxy::start(simple(Http1, origin.address)).await;
    let mut client = Client::connect(proxy.address("in")).await;
    client
        .send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
        .await;
    until("the upstream connection", || origin.connections() == 1).await;
    client.send("3 \r\nabc\r\n0\r\n\r\n").await;
    let answer = client.response().await;
    assert_eq!(answer.status, 400);
    assert_eq!(answer.header("connection"), Some("close"));
    origin.has_closed(1).await;
    assert!(origin.seen().is_empty());
    proxy
        .metric_becomes(&["server_requests_total", "\"400\""], 1.0)
        .await;
}

#[tokio::test]
async fn a_head_that_takes_too_long_is_a_timeout() {
    let origin = Origin::ok().await;
    let mut plan = simple(Http1, origin.address);
    let mut listener = (*plan.listeners["in"]).clone();
    listener.deadlines.request_head = SHORT;
    put_listener(&mut plan, listener);
    let proxy = Proxy::start(plan).await;
    let mut client = Client::connect(proxy.address("in")).await;
    client.send("GET / HTTP/1.1\r\nHost:").await;
    assert_eq!(client.response().await.status, 408);
    assert_eq!(client.rest().await, b"");
}
