//! WebSocket: what passes before, with and after a 101.

use crate::client::Client;
use crate::origin::{Origin, response};
use crate::proxy::Proxy;
use crate::shapes::simple;
use crate::soon;
use meridian_model::UpstreamProtocol::Http1;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const ASK: &str = "GET /chat HTTP/1.1\r\nHost: test\r\nUpgrade: websocket\r\n\
    Connection: Upgrade\r\nSec-WebSocket-Key: x\r\nSec-WebSocket-Version: 13\r\n\r\n";
const AGREE: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\
    Connection: Upgrade\r\nSec-WebSocket-Accept: y\r\n\r\n";

/// Agrees, speaks first, and echoes.
async fn chat() -> Origin {
    Origin::serving(|mut incoming| async move {
        incoming.request().await;
        incoming.write(AGREE).await;
        incoming.write("\x01hello").await;
        let early = std::mem::take(&mut incoming.buffer);
        incoming.write(early).await;
        let (mut read, mut write) = incoming.stream.split();
        let _ = tokio::io::copy(&mut read, &mut write).await;
    })
    .await
}

#[tokio::test]
async fn bytes_pass_both_ways_after_the_switch() {
    let origin = chat().await;
    let proxy = Proxy::start(simple(Http1, origin.address)).await;
    let mut client = Client::connect(proxy.address("in")).await;
    client.send(ASK).await;
    let switched = client.head().await;
    assert_eq!(switched.status, 101);
    assert_eq!(switched.header("upgrade"), Some("websocket"));
    assert!(switched.header("connection").is_some());
    assert_eq!(switched.header("sec-websocket-accept"), Some("y"));
    assert_eq!(switched.header("transfer-encoding"), None);
    assert_eq!(client.take(6).await, b"\x01hello");
    for message in [&b"\x00\xff\r\n\r\n"[..], &[7; 100_000][..]] {
        client.send(message).await;
        assert_eq!(client.take(message.len()).await, message);
    }
    let seen = origin.only();
    assert_eq!(seen.values("upgrade"), ["websocket"]);
    assert_eq!(seen.values("sec-websocket-key"), ["x"]);
    client.stream.shutdown().await.unwrap();
    assert_eq!(client.rest().await, b"");
    origin.has_closed(1).await;
}

#[tokio::test]
async fn bytes_behind_the_request_wait_for_the_switch() {
    let origin = chat().await;
    let proxy = Proxy::start(simple(Http1, origin.address)).await;
    let mut client = Client::connect(proxy.address("in")).await;
    client.send(format!("{ASK}early")).await;
    assert_eq!(client.head().await.status, 101);
    assert_eq!(client.take(11).await, b"\x01helloearly");
}

#[tokio::test]
async fn a_refused_upgrade_leaves_plain_http() {
    let origin = Origin::answering(|seen| match seen.path() {
        "/chat" => response(426, "no"),
        path => response(200, path),
    })
    .await;
    let proxy = Proxy::start(simple(Http1, origin.address)).await;
    let mut client = Client::connect(proxy.address("in")).await;
    client.send(ASK).await;
    assert_eq!(client.response().await.status, 426);
    assert_eq!(client.get("/next").await.text(), "/next");
}

#[tokio::test]
async fn a_request_behind_a_refused_upgrade_is_a_request_of_its_own() {
    let origin = Origin::answering(|seen| response(200, seen.path())).await;
    let proxy = Proxy::start(simple(Http1, origin.address)).await;
    let mut client = Client::connect(proxy.address("in")).await;
    client
        .send(format!(
            "{ASK}GET /smuggled HTTP/1.1\r\nHost: test\r\nContent-Length: 1\r\n\
             Transfer-Encoding: chunked\r\n\r\n"
        ))
        .await;
    assert_eq!(client.response().await.text(), "/chat");
    // The guard looks at it like at any other.
    assert_eq!(client.response().await.status, 400);
    assert_eq!(origin.only().path(), "/chat");
}

#[tokio::test]
async fn other_upgrades_are_not_passed_on() {
    let origin = Origin::ok().await;
    let proxy = Proxy::start(simple(Http1, origin.address)).await;
    let mut client = Client::connect(proxy.address("in")).await;
    client
        .send(
            "GET / HTTP/1.1\r\nHost: test\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\
             Connection: Upgrade, HTTP2-Settings\r\n\r\n",
        )
        .await;
    assert_eq!(client.response().await.status, 200);
    let seen = origin.only();
    for name in ["upgrade", "http2-settings", "connection"] {
        assert!(seen.values(name).is_empty(), "{name}: {seen:?}");
    }
}

#[tokio::test]
async fn a_switch_that_nobody_asked_for_is_an_error() {
    let origin = Origin::answering(|_| AGREE.as_bytes().to_vec()).await;
    let proxy = Proxy::start(simple(Http1, origin.address)).await;
    let mut client = Client::connect(proxy.address("in")).await;
    assert_eq!(client.get("/").await.status, 502);
}

#[tokio::test]
async fn an_end_of_the_origin_ends_the_tunnel() {
    let origin = Origin::serving(|mut incoming| async move {
        incoming.request().await;
        incoming.write(AGREE).await;
        incoming.write("bye").await;
    })
    .await;
    let proxy = Proxy::start(simple(Http1, origin.address)).await;
    let mut client = Client::connect(proxy.address("in")).await;
    client.send(ASK).await;
    assert_eq!(client.head().await.status, 101);
    let mut rest = Vec::new();
    assert_eq!(client.take(3).await, b"bye");
    soon("the end", client.stream.read_to_end(&mut rest))
        .await
        .unwrap();
    assert!(rest.is_empty());
}
