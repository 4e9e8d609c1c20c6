//! Trailers of a request: forwarded from HTTP/2 to HTTP/2, with every try of it.

use crate::client::Client;
use crate::http2_client::{Answer, Http2Client, finish, request};
use crate::http2_origin::{Call, Http2Origin, send};
use crate::origin::{Origin, response};
use crate::proxy::Proxy;
use crate::shapes::{cluster, edge, routes, simple, simple_with, snapshot, to};
use bytes::Bytes;
use h2::Reason;
use http::{HeaderMap, HeaderValue};
use meridian_model::UpstreamProtocol::{Http1, Http2};
use meridian_model::policy::{RetryOn, RetryPolicy};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Answers with the length of the body and the trailers behind it.
async fn reporting(mut call: Call) {
    let body = call.body().await;
    let trailers = call.request.body_mut().trailers().await.unwrap();
    let mut told: Vec<String> = trailers
        .iter()
        .flatten()
        .map(|(name, value)| format!("{name}={}", value.to_str().unwrap()))
        .collect();
    told.sort();
    call.answer(&format!("{} {}", body.len(), told.join(" ")));
}

fn trailers(of: &[(&'static str, &'static str)]) -> HeaderMap {
    of.iter()
        .map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value)))
        .collect()
}

/// Sends a body of such a length, and trailers behind it.
async fn post(client: &mut Http2Client, length: usize, trailers: HeaderMap) -> Answer {
    let (response, mut out) = client.open(request("POST", "/"), false).await;
    send(&mut out, Bytes::from(vec![7; length])).await.unwrap();
    out.send_trailers(trailers).unwrap();
    finish(response).await.unwrap()
}

#[tokio::test]
async fn they_follow_the_body_and_stand_without_one() {
    let origin = Http2Origin::serving(reporting).await;
    let proxy = Proxy::start(simple(Http2, origin.address)).await;
    let mut client = Http2Client::connect(proxy.address("in")).await;
    for length in [5, 0, 200_000] {
        let sent = trailers(&[("x-checksum", "1"), ("x-signature", "2")]);
        let answer = post(&mut client, length, sent).await;
        let expected = format!("{length} x-checksum=1 x-signature=2");
        assert_eq!(String::from_utf8(answer.body).unwrap(), expected);
    }
}

#[tokio::test]
async fn they_come_late_as_well() {
    let origin = Http2Origin::echo().await;
    let proxy = Proxy::start(simple(Http2, origin.address)).await;
    let mut client = Http2Client::connect(proxy.address("in")).await;
    let (response, mut out) = client.open(request("POST", "/"), false).await;
    send(&mut out, Bytes::from_static(b"first")).await.unwrap();
    let mut body = crate::soon("the head", response).await.unwrap().into_body();
    // The piece is back, so all of it has been forwarded.
    let piece = crate::soon("an echo", body.data()).await.unwrap().unwrap();
    assert_eq!(piece, "first");
    out.send_trailers(trailers(&[("x-checksum", "1")])).unwrap();
    // The echo ends only when its request has ended.
    assert!(crate::soon("the end", body.data()).await.is_none());
}

#[tokio::test]
async fn a_second_try_has_them_too() {
    let tries = AtomicUsize::new(0);
    let origin = Http2Origin::serving(move |mut call: Call| {
        let first = tries.fetch_add(1, Ordering::SeqCst) == 0;
        async move {
            if first {
                call.body().await;
                call.request.body_mut().trailers().await.unwrap();
                call.respond.send_reset(Reason::REFUSED_STREAM);
            } else {
                reporting(call).await;
            }
        }
    })
    .await;
    let plan = simple_with(Http2, origin.address, |action| {
        let on = RetryOn {
            refused_stream: true,
            ..RetryOn::default()
        };
        action.retry = Some(RetryPolicy::new(2, on));
    });
    let proxy = Proxy::start(plan).await;
    let mut client = Http2Client::connect(proxy.address("in")).await;
    for (length, expected) in [(5, "5 x-checksum=1"), (0, "0 x-checksum=1")] {
        let answer = post(&mut client, length, trailers(&[("x-checksum", "1")])).await;
        assert_eq!(String::from_utf8(answer.body).unwrap(), expected);
    }
}

#[tokio::test]
async fn http1_origins_get_the_body_alone() {
    let origin = Origin::answering(|seen| response(200, &seen.body.len().to_string())).await;
    let proxy = Proxy::start(simple(Http1, origin.address)).await;
    let mut client = Http2Client::connect(proxy.address("in")).await;
    for length in [5, 0] {
        let answer = post(&mut client, length, trailers(&[("x-checksum", "1")])).await;
        assert_eq!(answer.body, length.to_string().as_bytes());
    }
    assert_eq!(origin.connections(), 1);
}

#[tokio::test]
async fn those_of_chunked_requests_are_passed_over() {
    let origin = Http2Origin::serving(reporting).await;
    let proxy = Proxy::start(simple(Http2, origin.address)).await;
    let mut client = Client::connect(proxy.address("in")).await;
    for _ in 0..2 {
        client
            .send("POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n")
            .await;
        client.send("2\r\nab\r\n0\r\nX-Checksum: 1\r\n\r\n").await;
        assert_eq!(client.response().await.text(), "2 ");
    }
}

#[tokio::test]
async fn they_say_nothing_that_only_a_head_may_say() {
    let origin = Http2Origin::serving(reporting).await;
    let listeners = vec![
        crate::shapes::http("mesh", routes(vec![to("origin")])),
        edge("edge", routes(vec![to("origin")])),
    ];
    let clusters = vec![cluster("origin", Http2, &[origin.address])];
    let proxy = Proxy::start(snapshot(listeners, clusters)).await;
    let sent = [
        ("x-forwarded-client-cert", "URI=spiffe://a"),
        ("authorization", "Basic x"),
        ("content-length", "3"),
        ("x-real-ip", "1.2.3.4"),
        ("x-checksum", "1"),
    ];
    for (listener, expected) in [
        ("mesh", "2 x-checksum=1 x-real-ip=1.2.3.4"),
        ("edge", "2 x-checksum=1"),
    ] {
        let mut client = Http2Client::connect(proxy.address(listener)).await;
        let answer = post(&mut client, 2, trailers(&sent)).await;
        assert_eq!(String::from_utf8(answer.body).unwrap(), expected);
    }
}
