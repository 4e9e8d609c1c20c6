//! The end of a data plane: what is under way finishes, and nobody is cut without need.

use crate::client::Client;
use crate::http2_client::{Http2Client, finish, grpc, request};
use crate::http2_origin::Http2Origin;
use crate::origin::{Origin, response};
use crate::proxy::Proxy;
use crate::shapes::simple;
use crate::{soon, until};
use bytes::Bytes;
use meridian_model::UpstreamProtocol::{Http1, Http2};
use std::time::{Duration, Instant};
use tokio::sync::watch;

const LONG: Duration = Duration::from_secs(30);

/// Answers when it is told to.
async fn patient() -> (watch::Sender<bool>, Origin) {
    let (go, wait) = watch::channel(false);
    let origin = Origin::serving(move |mut incoming| {
        let mut wait = wait.clone();
        async move {
            while incoming.request().await.is_some() {
                wait.wait_for(|go| *go).await.unwrap();
                incoming.write(response(200, "done")).await;
            }
        }
    })
    .await;
    (go, origin)
}

#[tokio::test]
async fn an_idle_data_plane_ends_at_once() {
    let origin = Origin::ok().await;
    let proxy = Proxy::start(simple(Http1, origin.address)).await;
    let address = proxy.address("in");
    let mut kept = Client::connect(address).await;
    assert_eq!(kept.get("/").await.status, 200);
    let began = Instant::now();
    let report = soon("the drain", proxy.plane.drain(LONG)).await;
    let took = began.elapsed();
    assert_eq!(report.cut, 0);
    assert!(took < Duration::from_millis(100), "{took:?}");
    assert_eq!(kept.rest().await, b"");
    assert!(std::net::TcpStream::connect(address).is_err());
    let readiness = proxy.plane.readiness().borrow().clone();
    assert_eq!(readiness.waiting_for, ["draining"]);
}

#[tokio::test]
async fn requests_under_way_finish_and_are_told_to_go() {
    let (go, origin) = patient().await;
    let proxy = Proxy::start(simple(Http1, origin.address)).await;
    let address = proxy.address("in");
    let mut client = Client::connect(address).await;
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    origin.has_seen(1).await;
    let plane = proxy.plane.clone();
    let draining = tokio::spawn(async move { plane.drain(LONG).await });
    let readiness = proxy.plane.readiness();
    until("readiness to fail", || !readiness.borrow().ready).await;
    // Connections are told after that, when their listener closes.
    until("the listener to close", || {
        std::net::TcpStream::connect(address).is_err()
    })
    .await;
    go.send(true).unwrap();
    let answer = client.response().await;
    assert_eq!(answer.text(), "done");
    assert_eq!(answer.header("connection"), Some("close"));
    assert_eq!(soon("the drain", draining).await.unwrap().cut, 0);
}

#[tokio::test]
async fn the_deadline_cuts_what_is_left() {
    let (_go, origin) = patient().await;
    let proxy = Proxy::start(simple(Http1, origin.address)).await;
    let mut client = Client::connect(proxy.address("in")).await;
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    origin.has_seen(1).await;
    let began = Instant::now();
    let report = proxy.plane.drain(Duration::from_millis(200)).await;
    assert_eq!(report.cut, 1);
    assert!(began.elapsed() < Duration::from_secs(1));
}

#[tokio::test]
async fn http2_connections_get_a_goaway_and_their_streams_finish() {
    let (go, origin) = patient().await;
    let proxy = Proxy::start(simple(Http1, origin.address)).await;
    let mut client = Http2Client::connect(proxy.address("in")).await;
    let (slow, _) = client.open(request("GET", "/"), true).await;
    origin.has_seen(1).await;
    let plane = proxy.plane.clone();
    let draining = tokio::spawn(async move { plane.drain(LONG).await });
    let readiness = proxy.plane.readiness();
    until("readiness to fail", || !readiness.borrow().ready).await;
    go.send(true).unwrap();
    assert_eq!(finish(slow).await.unwrap().body, b"done");
    assert_eq!(soon("the drain", draining).await.unwrap().cut, 0);
    // The connection itself ends in good order.
    soon("the connection", &mut client.connection)
        .await
        .unwrap()
        .unwrap();
}

#[tokio::test]
async fn grpc_streams_go_on_during_a_drain() {
    let origin = Http2Origin::echo().await;
    let proxy = Proxy::start(simple(Http2, origin.address)).await;
    let mut client = Http2Client::connect(proxy.address("in")).await;
    let (response, mut out) = client.open(grpc("/echo.Echo/Bidi"), false).await;
    let mut body = soon("the head", response).await.unwrap().into_body();
    let plane = proxy.plane.clone();
    let draining = tokio::spawn(async move { plane.drain(LONG).await });
    let readiness = proxy.plane.readiness();
    until("readiness to fail", || !readiness.borrow().ready).await;
    for _ in 0..5 {
        out.send_data(Bytes::from_static(b"ping"), false).unwrap();
        assert_eq!(soon("an echo", body.data()).await.unwrap().unwrap(), "ping");
        body.flow_control().release_capacity(4).unwrap();
    }
    assert!(!draining.is_finished());
    out.send_data(Bytes::new(), true).unwrap();
    assert!(soon("the end", body.data()).await.is_none());
    let trailers = crate::http2_client::trailers(&mut body).await.unwrap();
    assert_eq!(trailers["grpc-status"], "0");
    assert_eq!(soon("the drain", draining).await.unwrap().cut, 0);
}
