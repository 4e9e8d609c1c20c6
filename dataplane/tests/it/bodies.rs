//! HTTP/1.1 bodies in both directions: how they are framed, and when they arrive.

use crate::client::Client;
use crate::origin::{Origin, response};
use crate::proxy::Proxy;
use crate::shapes::simple;
use crate::soon;
use meridian_model::UpstreamProtocol::Http1;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const MEBIBYTE: usize = 1024 * 1024;

#[tokio::test]
async fn methods_and_bodies_of_known_length_arrive() {
    let origin = Origin::answering(|seen| response(200, seen.line())).await;
    let proxy = Proxy::start(simple(Http1, origin.address)).await;
    let mut client = Client::connect(proxy.address("in")).await;
    for method in ["POST", "PUT", "PATCH", "DELETE", "PURGE"] {
        let head = format!("{method} /a?b=c HTTP/1.1\r\nHost: test\r\nContent-Length: 4\r\n\r\n");
        client.send(format!("{head}body")).await;
        let answer = client.response().await;
        assert_eq!(answer.text(), format!("{method} /a?b=c HTTP/1.1"));
        let seen = origin.seen().pop().unwrap();
        assert_eq!(seen.body, b"body");
        assert_eq!(seen.values("content-length"), ["4"]);
        assert!(seen.values("transfer-encoding").is_empty());
    }
    client
        .send("OPTIONS * HTTP/1.1\r\nHost: test\r\n\r\n")
        .await;
    assert_eq!(client.response().await.text(), "OPTIONS * HTTP/1.1");
}

#[tokio::test]
async fn a_chunked_body_arrives_chunked() {
    let origin = Origin::ok().await;
    let proxy = Proxy::start(simple(Http1, origin.address)).await;
    let mut client = Client::connect(proxy.address("in")).await;
    client
        .send("POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
        .await;
    client.send("2;x=y\r\nde\r\n0\r\n\r\n").await;
    assert_eq!(client.response().await.text(), "ok");
    let seen = origin.only();
    assert_eq!(seen.body, b"abcde");
    assert_eq!(seen.values("transfer-encoding"), ["chunked"]);
    assert!(seen.values("content-length").is_empty());
    assert_eq!(client.get("/again").await.status, 200);
}

#[tokio::test]
async fn a_mebibyte_goes_there_and_back() {
    let origin = Origin::answering(|seen| {
        let body = String::from_utf8(seen.body.clone()).unwrap();
        response(200, &body)
    })
    .await;
    let proxy = Proxy::start(simple(Http1, origin.address)).await;
    let mut client = Client::connect(proxy.address("in")).await;
    let body: String = ('a'..='z').cycle().take(MEBIBYTE).collect();
    let head = format!("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: {MEBIBYTE}\r\n\r\n");
    client.send(head + &body).await;
    assert!(client.response().await.text() == body);
}

/// The origin answers while it still reads, and stops reading when nobody takes its answer: a
/// proxy that waits to write before it reads would stand still.
#[tokio::test]
async fn both_directions_of_one_exchange_move_at_once() {
    const TOTAL: usize = 16 * MEBIBYTE;
    let origin = Origin::serving(|mut incoming| async move {
        incoming.head().await.unwrap();
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {TOTAL}\r\n\r\n");
        incoming.write(head).await;
        let mut left = TOTAL;
        while left > 0 {
            let have = incoming.buffer.len();
            let piece = if have > 0 {
                incoming.take(have).await
            } else {
                let mut piece = vec![0; 16 * 1024];
                let read = incoming.stream.read(&mut piece).await.unwrap();
                piece.truncate(read);
                Some(piece)
            };
            let piece = piece.filter(|piece| !piece.is_empty()).unwrap();
            left -= piece.len();
            incoming.stream.write_all(&piece).await.unwrap();
        }
    })
    .await;
    let proxy = Proxy::start(simple(Http1, origin.address)).await;
    let stream = tokio::net::TcpStream::connect(proxy.address("in"))
        .await
        .unwrap();
    let (mut read, mut write) = tokio::io::split(stream);
    let writing = tokio::spawn(async move {
        let head = format!("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: {TOTAL}\r\n\r\n");
        write.write_all(head.as_bytes()).await.unwrap();
        for _ in 0..TOTAL / MEBIBYTE {
            write.write_all(&vec![b'x'; MEBIBYTE]).await.unwrap();
        }
        write
    });
    let mut got = 0;
    let mut buffer = vec![0; 64 * 1024];
    soon("the echo", async {
        // A slow consumer: it lets the buffers on the way fill up first.
        tokio::time::sleep(Duration::from_millis(200)).await;
        while got < TOTAL {
            let count = read.read(&mut buffer).await.unwrap();
            assert!(count > 0, "cut after {got}");
            got += count;
        }
    })
    .await;
    writing.await.unwrap();
}

#[tokio::test]
async fn responses_without_a_body_keep_their_length_and_the_connection() {
    let origin = Origin::answering(|seen| match seen.path() {
        "/head" => b"HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n".to_vec(),
        "/204" => b"HTTP/1.1 204 No Content\r\n\r\n".to_vec(),
        _ => b"HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\nContent-Length: 99\r\n\r\n".to_vec(),
    })
    .await;
    let proxy = Proxy::start(simple(Http1, origin.address)).await;
    let mut client = Client::connect(proxy.address("in")).await;
    client
        .send("HEAD /head HTTP/1.1\r\nHost: test\r\n\r\n")
        .await;
    let head = client.head().await;
    assert_eq!(head.header("content-length"), Some("1234"));
    let empty = client.get("/204").await;
    assert_eq!((empty.status, empty.header("content-length")), (204, None));
    assert_eq!(empty.header("transfer-encoding"), None);
    let unchanged = client.get("/304").await;
    assert_eq!(unchanged.status, 304);
    assert_eq!(unchanged.header("etag"), Some("\"x\""));
    assert_eq!(client.get("/204").await.status, 204);
    assert_eq!(origin.connections(), 1);
}

#[tokio::test]
async fn a_body_that_ends_with_its_connection_is_framed_anew() {
    let origin = Origin::serving(|mut incoming| async move {
        incoming.request().await;
        incoming.write("HTTP/1.1 200 OK\r\n\r\npart one, ").await;
        incoming.write("part two").await;
    })
    .await;
    let proxy = Proxy::start(simple(Http1, origin.address)).await;
    let mut client = Client::connect(proxy.address("in")).await;
    for _ in 0..2 {
        let answer = client.get("/").await;
        assert_eq!(answer.header("transfer-encoding"), Some("chunked"));
        assert_eq!(answer.text(), "part one, part two");
    }
}

#[tokio::test]
async fn trickled_bodies_are_not_held_back() {
    for framing in ["Content-Length: 6", "Transfer-Encoding: chunked"] {
        let chunked = framing.contains("chunked");
        let origin = Origin::serving(move |mut incoming| async move {
            incoming.request().await;
            incoming
                .write(format!("HTTP/1.1 200 OK\r\n{framing}\r\n\r\n"))
                .await;
            let piece = |text: &str| match chunked {
                true => format!("{:x}\r\n{text}\r\n", text.len()),
                false => text.to_owned(),
            };
            incoming.write(piece("one")).await;
            // Goes on only when the client has asked for it, out of band.
            tokio::time::sleep(Duration::from_millis(700)).await;
            incoming.write(piece("two")).await;
            if chunked {
                incoming.write("0\r\n\r\n").await;
            }
        })
        .await;
        let proxy = Proxy::start(simple(Http1, origin.address)).await;
        let mut client = Client::connect(proxy.address("in")).await;
        let began = Instant::now();
        client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n").await;
        client.head().await;
        let piece = if chunked { "3\r\none\r\n" } else { "one" };
        assert_eq!(client.take(piece.len()).await, piece.as_bytes());
        let waited = began.elapsed();
        assert!(waited < Duration::from_millis(500), "{framing}: {waited:?}");
    }
}

#[tokio::test]
async fn a_response_before_the_end_of_the_request_arrives_and_ends_the_connection() {
    let origin = Origin::serving(|mut incoming| async move {
        incoming.head().await;
        incoming.write(response(413, "enough")).await;
        incoming.until_closed().await;
    })
    .await;
    let proxy = Proxy::start(simple(Http1, origin.address)).await;
    let mut client = Client::connect(proxy.address("in")).await;
    client
        .send("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 1000\r\n\r\nbegin")
        .await;
    let answer = client.response().await;
    assert_eq!((answer.status, answer.text().as_str()), (413, "enough"));
    // Half a request lies on the upstream's connection: it is not used again.
    drop(client);
    origin.has_closed(1).await;
}

#[tokio::test]
async fn a_client_that_leaves_frees_the_upstream() {
    let origin = Origin::serving(|mut incoming| async move {
        incoming.request().await;
        incoming.until_closed().await;
    })
    .await;
    let proxy = Proxy::start(simple(Http1, origin.address)).await;
    let mut client = Client::connect(proxy.address("in")).await;
    client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n").await;
    origin.has_seen(1).await;
    drop(client);
    origin.has_closed(1).await;
    proxy
        .metric_becomes(&["server_requests_total", "\"499\""], 1.0)
        .await;
    proxy
        .metric_becomes(&["http_server_active_requests"], 0.0)
        .await;
}

#[tokio::test]
async fn a_response_that_breaks_off_is_seen_to() {
    for (framing, piece) in [
        ("Content-Length: 10", "part"),
        ("Transfer-Encoding: chunked", "4\r\npart\r\n"),
    ] {
        let origin = Origin::serving(move |mut incoming| async move {
            incoming.request().await;
            incoming
                .write(format!("HTTP/1.1 200 OK\r\n{framing}\r\n\r\n{piece}"))
                .await;
        })
        .await;
        let proxy = Proxy::start(simple(Http1, origin.address)).await;
        let mut client = Client::connect(proxy.address("in")).await;
        client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n").await;
        assert_eq!(client.head().await.status, 200);
        assert_eq!(client.rest().await, piece.as_bytes());
    }
}
