//! Intentions that change while connections are open.

use crate::client::Client;
use crate::http2_client::{Http2Client, grpc};
use crate::http2_origin::{Call, Http2Origin, send};
use crate::mesh::{Pair, everyone, nobody};
use crate::origin::Origin;
use crate::shapes::{inbound, inbound_tcp, put_listener};
use crate::soon;
use meridian_model::UpstreamProtocol;
use std::time::{Duration, Instant};
use tokio::io::AsyncReadExt;

#[tokio::test]
async fn the_next_request_of_a_kept_connection_is_denied() {
    let origin = Origin::ok().await;
    let pair = Pair::start(UpstreamProtocol::Http1, origin.address, everyone()).await;
    let mut client = Client::connect(pair.address()).await;
    assert_eq!(client.get("/").await.status, 200);
    let revoke = inbound("public", "api", nobody());
    pair.api.change(|s| put_listener(s, revoke)).await;
    assert_eq!(client.get("/").await.status, 403);
    let allow = inbound("public", "api", everyone());
    pair.api.change(|s| put_listener(s, allow)).await;
    assert_eq!(client.get("/").await.status, 200);
    // All of it on the one connection that was there from the start.
    assert_eq!(pair.api.metric(&["downstream_connections_total"]), 1.0);
    assert_eq!(origin.connections(), 1);
}

#[tokio::test]
async fn tcp_connections_are_closed() {
    let origin = Origin::echo().await;
    let pair = Pair::start(UpstreamProtocol::Tcp, origin.address, everyone()).await;
    let mut client = Client::connect(pair.address()).await;
    client.send("hello").await;
    assert_eq!(client.take(5).await, b"hello");
    let began = Instant::now();
    let revoke = inbound_tcp("public", "api", nobody());
    pair.api.change(|s| put_listener(s, revoke)).await;
    // By a reset or by an end: nobody knows what is whole, so either will do.
    let mut rest = Vec::new();
    let end = soon("the end", client.stream.read_to_end(&mut rest)).await;
    assert!(end.is_err() || rest.is_empty());
    assert!(began.elapsed() < Duration::from_secs(1));
    origin.has_closed(1).await;
}

#[tokio::test]
async fn open_streams_end_within_a_second_or_so() {
    let origin = Http2Origin::serving(|mut call: Call| async move {
        let mut out = call.begin();
        send(&mut out, "first".into()).await.unwrap();
        std::future::poll_fn(|cx| out.poll_reset(cx)).await.ok();
    })
    .await;
    let pair = Pair::start(UpstreamProtocol::Http2, origin.address, everyone()).await;
    let mut client = Http2Client::connect(pair.address()).await;
    let (response, _out) = client.open(grpc("/a/Watch"), false).await;
    let mut body = soon("the head", response).await.unwrap().into_body();
    assert_eq!(soon("data", body.data()).await.unwrap().unwrap(), "first");
    let began = Instant::now();
    let revoke = inbound("public", "api", nobody());
    pair.api.change(|s| put_listener(s, revoke)).await;
    let end = soon("the end of the stream", body.data()).await;
    // An end without an error would look whole.
    assert!(end.is_some_and(|piece| piece.is_err()));
    assert!(began.elapsed() < Duration::from_millis(2500));
}
