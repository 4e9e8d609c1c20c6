//! HTTP/1.1 connections: reuse, pipelining, versions, expectations.

use crate::client::Client;
use crate::origin::{Origin, response};
use crate::proxy::Proxy;
use crate::shapes::{cluster, edge, http, routes, simple, snapshot, to};
use meridian_model::Snapshot;
use meridian_model::UpstreamProtocol::Http1;
use std::net::SocketAddr;

/// A head whose body waits for leave.
const EXPECTING: &str =
    "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n";

#[tokio::test]
async fn many_requests_share_one_connection_on_either_side() {
    let origin = Origin::answering(|seen| response(200, seen.path())).await;
    let proxy = Proxy::start(simple(Http1, origin.address)).await;
    let mut client = Client::connect(proxy.address("in")).await;
    for number in 0..100 {
        let path = format!("/{number}");
        assert_eq!(client.get(&path).await.text(), path);
    }
    assert_eq!(origin.connections(), 1);
    assert_eq!(proxy.metric(&["downstream_connections_total"]), 1.0);
    proxy
        .metric_becomes(&["server_requests_total", "\"200\""], 100.0)
        .await;
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let origin = Origin::answering(|seen| response(200, seen.path())).await;
    let proxy = Proxy::start(simple(Http1, origin.address)).await;
    let mut client = Client::connect(proxy.address("in")).await;
    let one = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n");
    client
        .send(
            one("/a")
                + "POST /b HTTP/1.1\r\nHost: test\r\nContent-Length: 2\r\n\r\nhi"
                + &one("/c"),
        )
        .await;
    for path in ["/a", "/b", "/c"] {
        assert_eq!(client.response().await.text(), path);
    }
}

#[tokio::test]
async fn a_client_that_asks_to_close_is_closed() {
    let origin = Origin::ok().await;
    let proxy = Proxy::start(simple(Http1, origin.address)).await;
    let mut client = Client::connect(proxy.address("in")).await;
    client
        .send("GET / HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")
        .await;
    let answer = client.response().await;
    assert_eq!(answer.header("connection"), Some("close"));
    assert_eq!(client.rest().await, b"");
    // The upstream's connection is our own business.
    assert!(origin.only().values("connection").is_empty());
    assert_eq!(
        Client::connect(proxy.address("in"))
            .await
            .get("/")
            .await
            .status,
        200
    );
    assert_eq!(origin.connections(), 1);
}

#[tokio::test]
async fn heads_that_are_too_large_are_refused_in_the_words_that_the_client_knows() {
    let origin = Origin::ok().await;
    let long = "a".repeat(70_000);
    let many: String = (0..120).map(|one| format!("x-{one}: 1\r\n")).collect();
    for (listener, target, words) in [
        (
            http("in", routes(vec![to("origin")])),
            431,
            "Request Header Fields Too Large",
        ),
        (edge("in", routes(vec![to("origin")])), 414, "target_bytes"),
    ] {
        let clusters = vec![cluster("origin", Http1, &[origin.address])];
        let proxy = Proxy::start(snapshot(vec![listener], clusters)).await;
        for (head, status) in [
            (format!("GET /{long} HTTP/1.1\r\nHost: a\r\n\r\n"), target),
            (
                format!("GET / HTTP/1.1\r\nHost: a\r\nx: {long}\r\n\r\n"),
                431,
            ),
            (format!("GET / HTTP/1.1\r\nHost: a\r\n{many}\r\n"), 431),
        ] {
            let mut client = Client::connect(proxy.address("in")).await;
            client.send(head).await;
            let answer = client.response().await;
            assert_eq!(answer.status, status);
            if status == target {
                assert!(answer.text().contains(words), "{}", answer.text());
            }
        }
    }
    assert_eq!(origin.connections(), 0);
}

#[tokio::test]
async fn http_1_0_is_answered_and_closed() {
    let origin = Origin::serving(|mut incoming| async move {
        incoming.request().await;
        incoming
            .write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n")
            .await;
        incoming.until_closed().await;
    })
    .await;
    let proxy = Proxy::start(simple(Http1, origin.address)).await;
    let mut client = Client::connect(proxy.address("in")).await;
    client.send("GET / HTTP/1.0\r\nHost: old\r\n\r\n").await;
    let answer = client.head().await;
    assert_eq!(answer.status, 200);
    // HTTP/1.0 knows no chunks.
    assert_eq!(answer.header("transfer-encoding"), None);
    assert_eq!(client.rest().await, b"hi");
    let seen = origin.only();
    assert_eq!(seen.line(), "GET / HTTP/1.1");
    assert_eq!(seen.values("host"), ["old"]);
}

#[tokio::test]
async fn a_request_of_http_1_0_without_host_is_refused_rather_than_guessed() {
    let origin = Origin::ok().await;
    let proxy = Proxy::start(simple(Http1, origin.address)).await;
    let mut client = Client::connect(proxy.address("in")).await;
    client.send("GET / HTTP/1.0\r\n\r\n").await;
    assert_eq!(client.response().await.status, 400);
    assert!(origin.seen().is_empty());
}

#[tokio::test]
async fn an_expectation_at_the_edge_is_met_by_the_origin() {
    let origin = Origin::serving(|mut incoming| async move {
        let head = incoming.head().await.unwrap();
        assert!(head.to_ascii_lowercase().contains("expect: 100-continue"));
        incoming.write("HTTP/1.1 100 Continue\r\n\r\n").await;
        assert_eq!(incoming.take(4).await.unwrap(), b"body");
        incoming.write(response(200, "ok")).await;
        incoming.until_closed().await;
    })
    .await;
    let proxy = Proxy::start(at_the_edge(origin.address)).await;
    let mut client = Client::connect(proxy.address("in")).await;
    client.send(EXPECTING).await;
    assert_eq!(client.head().await.status, 100);
    client.send("body").await;
    let answer = client.response().await;
    assert_eq!(answer.text(), "ok");
    assert_ne!(answer.header("connection"), Some("close"));
}

#[tokio::test]
async fn an_origin_behind_the_edge_may_refuse_before_the_body_is_sent() {
    let origin = Origin::serving(|mut incoming| async move {
        incoming.head().await;
        incoming.write(response(417, "no")).await;
        incoming.until_closed().await;
    })
    .await;
    let proxy = Proxy::start(at_the_edge(origin.address)).await;
    let mut client = Client::connect(proxy.address("in")).await;
    client.send(EXPECTING).await;
    assert_eq!(client.response().await.status, 417);
}

#[tokio::test]
async fn an_expectation_in_the_mesh_is_met_by_us_whatever_the_origin_knows_of_it() {
    let origin = Origin::ok().await;
    let proxy = Proxy::start(simple(Http1, origin.address)).await;
    let mut client = Client::connect(proxy.address("in")).await;
    client.send(EXPECTING).await;
    assert_eq!(client.head().await.status, 100);
    client.send("body").await;
    let answer = client.response().await;
    assert_eq!(answer.status, 200);
    assert_ne!(answer.header("connection"), Some("close"));
    let seen = origin.only();
    assert_eq!(seen.body, b"body");
    assert!(seen.values("expect").is_empty());
    assert_eq!(client.get("/again").await.status, 200);
}

/// A listener for strangers in front of an origin.
fn at_the_edge(origin: SocketAddr) -> Snapshot {
    snapshot(
        vec![edge("in", routes(vec![to("origin")]))],
        vec![cluster("origin", Http1, &[origin])],
    )
}

#[tokio::test]
async fn a_target_that_no_uri_can_hold_is_written_otherwise() {
    let origin = Origin::answering(|seen| response(200, seen.path())).await;
    let proxy = Proxy::start(simple(Http1, origin.address)).await;
    let mut client = Client::connect(proxy.address("in")).await;
    for (target, expected) in [
        ("/q?query=up{job=\"x\"}", "/q?query=up{job=%22x%22}"),
        ("/<a>`?b<c>", "/%3Ca%3E%60?b%3Cc%3E"),
        ("http://test:80/a?b", "/a?b"),
        ("http://TEST", "/"),
    ] {
        let body = "POST /next HTTP/1.1\r\nHost: test\r\nContent-Length: 4\r\n\r\nbody";
        client
            .send(format!("GET {target} HTTP/1.1\r\nHost: test\r\n\r\n{body}"))
            .await;
        assert_eq!(client.response().await.text(), expected);
        assert_eq!(client.response().await.text(), "/next");
    }
    let last = origin.seen().pop().unwrap();
    assert_eq!(last.values("host"), ["test"]);
    assert_eq!(last.body, b"body");
}

#[tokio::test]
async fn who_speaks_another_protocol_is_told_at_once() {
    let origin = Origin::ok().await;
    let proxy = Proxy::start(simple(Http1, origin.address)).await;
    let mut client = Client::connect(proxy.address("in")).await;
    client.send(b"\x16\x03\x01\x02\x00").await;
    assert_eq!(client.response().await.status, 400);
}

#[tokio::test]
async fn repeated_headers_stay_apart_and_in_order() {
    let origin = Origin::answering(|_| {
        b"HTTP/1.1 200 OK\r\nSet-Cookie: a=1\r\nX: 1\r\nSet-Cookie: b=2\r\nContent-Length: 0\r\n\r\n"
            .to_vec()
    })
    .await;
    let proxy = Proxy::start(simple(Http1, origin.address)).await;
    let mut client = Client::connect(proxy.address("in")).await;
    client
        .send("GET / HTTP/1.1\r\nHost: test\r\nX-A: 1\r\nX-B: 2\r\nX-A: 3\r\n\r\n")
        .await;
    let answer = client.response().await;
    let cookies: Vec<_> = answer
        .headers
        .iter()
        .filter(|(name, _)| name == "set-cookie")
        .map(|(_, value)| value.as_str())
        .collect();
    assert_eq!(cookies, ["a=1", "b=2"]);
    assert_eq!(origin.only().values("x-a"), ["1", "3"]);
}

#[tokio::test]
async fn an_origin_that_closes_is_not_reused() {
    let origin = Origin::serving(|mut incoming| async move {
        incoming.request().await;
        incoming
            .write("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok")
            .await;
    })
    .await;
    let proxy = Proxy::start(simple(Http1, origin.address)).await;
    let mut client = Client::connect(proxy.address("in")).await;
    for _ in 0..3 {
        let answer = client.get("/").await;
        assert_eq!(answer.status, 200);
        assert_ne!(answer.header("connection"), Some("close"));
    }
    assert_eq!(origin.connections(), 3);
}
