//! gRPC: trailers, trailers-only errors, and streams that go both ways.

use crate::client::Client;
use crate::http2_client::{Http2Client, finish, grpc, trailers};
use crate::http2_origin::{Call, Http2Origin, grpc_trailers, send};
use crate::origin::{Origin, nowhere};
use crate::proxy::Proxy;
use crate::shapes::{cluster, edge, http, routes, simple, simple_with, snapshot};
use crate::soon;
use bytes::Bytes;
use meridian_model::UpstreamProtocol::{Http1, Http2};
use std::time::Duration;

#[tokio::test]
async fn a_unary_call_has_its_body_and_its_trailers() {
    let origin = Http2Origin::serving(|mut call: Call| async move {
        assert_eq!(call.request.headers()["te"], "trailers");
        let body = call.body().await;
        let mut out = call.begin();
        send(&mut out, body.into()).await.unwrap();
        out.send_trailers(grpc_trailers(0)).unwrap();
    })
    .await;
    let proxy = Proxy::start(simple(Http2, origin.address)).await;
    let mut client = Http2Client::connect(proxy.address("in")).await;
    for length in [1, 70_000] {
        let message = vec![7; length];
        let answer = client.call(grpc("/echo.Echo/Unary"), &message).await;
        assert_eq!(answer.header("content-type"), Some("application/grpc"));
        assert_eq!(answer.body, message);
        assert_eq!(answer.trailer("grpc-status"), Some("0"));
    }
    assert_eq!(origin.connections(), 1);
}

#[tokio::test]
async fn an_error_without_a_body_is_a_head_alone() {
    let origin = Http2Origin::serving(|mut call: Call| async move {
        let head = http::Response::builder()
            .header("content-type", "application/grpc")
            .header("grpc-status", "5")
            .body(())
            .unwrap();
        call.respond.send_response(head, true).unwrap();
    })
    .await;
    let proxy = Proxy::start(simple(Http2, origin.address)).await;
    let mut client = Http2Client::connect(proxy.address("in")).await;
    let answer = client.call(grpc("/a/b"), b"x").await;
    assert_eq!(answer.header("grpc-status"), Some("5"));
    assert!(answer.body.is_empty());
    assert!(answer.trailers.is_none());
}

#[tokio::test]
async fn messages_go_back_and_forth_while_the_stream_is_open() {
    let origin = Http2Origin::echo().await;
    let proxy = Proxy::start(simple(Http2, origin.address)).await;
    let mut client = Http2Client::connect(proxy.address("in")).await;
    let (response, mut out) = client.open(grpc("/echo.Echo/Bidi"), false).await;
    let mut body = soon("the head", response).await.unwrap().into_body();
    for number in 0..20_u8 {
        send(&mut out, Bytes::from(vec![number; 100]))
            .await
            .unwrap();
        let mut got = Vec::new();
        while got.len() < 100 {
            let piece = soon("an echo", body.data()).await.unwrap().unwrap();
            body.flow_control().release_capacity(piece.len()).unwrap();
            got.extend(piece);
        }
        assert_eq!(got, vec![number; 100]);
    }
    out.send_data(Bytes::new(), true).unwrap();
    assert!(soon("the end", body.data()).await.is_none());
    let trailers = trailers(&mut body).await.unwrap();
    assert_eq!(trailers["grpc-status"], "0");
}

/// As servers do that end a body before they know its trailers. The codec allows a connection
/// a hundred such frames in all.
#[tokio::test]
async fn calls_that_end_with_an_empty_frame_cut_off_no_other() {
    let origin = Http2Origin::serving(|mut call: Call| async move {
        let body = call.body().await;
        let mut out = call.begin();
        send(&mut out, body.into()).await.unwrap();
        out.send_data(Bytes::new(), false).unwrap();
        out.send_trailers(grpc_trailers(0)).unwrap();
    })
    .await;
    let proxy = Proxy::start(simple(Http2, origin.address)).await;
    let mut client = Http2Client::connect(proxy.address("in")).await;
    for _ in 0..8 {
        let mut calls = Vec::new();
        for _ in 0..40 {
            let (response, mut out) = client.open(grpc("/a/b"), false).await;
            out.send_data(Bytes::from_static(b"x"), false).unwrap();
            out.send_data(Bytes::new(), false).unwrap();
            out.send_trailers(grpc_trailers(0)).unwrap();
            calls.push(response);
        }
        for response in calls {
            let answer = finish(response).await.unwrap();
            assert_eq!(answer.trailer("grpc-status"), Some("0"));
        }
    }
    assert_eq!(origin.connections(), 1);
}

/// More than all windows on the way together: the proxy must take what comes back while it still
/// has something to send.
#[tokio::test]
async fn a_long_echo_does_not_stand_still() {
    const TOTAL: usize = 6 * 1024 * 1024;
    let origin = Http2Origin::echo().await;
    let proxy = Proxy::start(simple(Http2, origin.address)).await;
    let mut client = Http2Client::connect(proxy.address("in")).await;
    let (response, mut out) = client.open(grpc("/echo.Echo/Bidi"), false).await;
    let writing = tokio::spawn(async move {
        for _ in 0..TOTAL / 65_536 {
            send(&mut out, Bytes::from_static(&[7; 65_536]))
                .await
                .unwrap();
        }
        out.send_data(Bytes::new(), true).unwrap();
    });
    let answer = finish(response).await.unwrap();
    assert_eq!(answer.body.len(), TOTAL);
    assert_eq!(answer.trailer("grpc-status"), Some("0"));
    writing.await.unwrap();
}

#[tokio::test]
async fn a_call_that_is_given_up_is_reset_upstream() {
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let origin = Http2Origin::serving(move |mut call: Call| {
        let tell = tell.clone();
        async move {
            let mut out = call.begin();
            let reason = std::future::poll_fn(|cx| out.poll_reset(cx)).await;
            tell.send(reason.is_ok()).unwrap();
        }
    })
    .await;
    let proxy = Proxy::start(simple(Http2, origin.address)).await;
    let mut client = Http2Client::connect(proxy.address("in")).await;
    let (response, mut out) = client.open(grpc("/a/b"), false).await;
    let body = soon("the head", response).await.unwrap();
    out.send_reset(h2::Reason::CANCEL);
    drop(body);
    assert_eq!(soon("a reset", told.recv()).await, Some(true));
}

#[tokio::test]
async fn failures_of_ours_are_told_as_grpc_does() {
    let dead = nowhere().await;
    let listeners = vec![
        http("dead", routes(vec![crate::shapes::to("dead")])),
        edge("empty", routes(Vec::new())),
    ];
    let clusters = vec![cluster("dead", Http2, &[dead])];
    let proxy = Proxy::start(snapshot(listeners, clusters)).await;
    for (listener, status) in [("dead", "14"), ("empty", "12")] {
        let mut client = Http2Client::connect(proxy.address(listener)).await;
        let answer = client.call(grpc("/a/b"), b"x").await;
        assert_eq!(answer.head.status(), 200);
        assert_eq!(answer.header("grpc-status"), Some(status), "{listener}");
        assert!(answer.header("grpc-message").is_some());
        assert!(answer.body.is_empty());
    }
}

#[tokio::test]
async fn a_call_whose_time_is_up_reads_what_envoy_says() {
    let origin = Origin::serving(|mut incoming| async move {
        incoming.request().await;
        incoming.until_closed().await;
    })
    .await;
    let plan = simple_with(Http1, origin.address, |action| {
        action.timeouts.request = Some(Duration::from_millis(50));
    });
    let proxy = Proxy::start(plan).await;
    let mut client = Http2Client::connect(proxy.address("in")).await;
    let answer = client.call(grpc("/a/b"), b"x").await;
    assert_eq!(answer.header("grpc-status"), Some("14"));
    let mut client = Client::connect(proxy.address("in")).await;
    let kind = "Content-Type: application/grpc\r\nContent-Length: 1";
    client
        .send(format!("POST /a/b HTTP/1.1\r\nHost: a\r\n{kind}\r\n\r\nx"))
        .await;
    let answer = client.response().await;
    assert_eq!(answer.header("grpc-status"), Some("14"));
    assert_eq!(answer.header("content-length"), Some("0"));
}
