//! What clients on real sockets get through the guard.

use super::{PREFACE, preface};
use crate::listener::fixture::{Fixture, exchange, http, read_to_end, response};
use meridian_model::Listener;
use meridian_model::listener::{ConnectionDeadlines, ConnectionLimits};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";

fn impatient() -> Listener {
    let mut listener = http("web");
    listener.deadlines = ConnectionDeadlines {
        first_byte: Duration::from_millis(150),
        request_head: Duration::from_millis(150),
        idle: Duration::from_millis(150),
        stall: Duration::from_millis(150),
        ..ConnectionDeadlines::default()
    };
    listener
}

#[tokio::test]
async fn requests_follow_each_other_on_one_connection() {
    let (_fixture, address) = Fixture::with(http("web"));
    let mut stream = TcpStream::connect(address).await.unwrap();
    for _ in 0..3 {
        stream.write_all(GET).await.unwrap();
        let answer = response(&mut stream).await;
        assert!(answer.ends_with("HTTP/1.1 0"), "{answer}");
    }
    let post =
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
    for piece in post.chunks(5) {
        stream.write_all(piece).await.unwrap();
        stream.flush().await.unwrap();
        tokio::task::yield_now().await;
    }
    let answer = response(&mut stream).await;
    assert!(answer.ends_with("HTTP/1.1 3"), "{answer}");
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let (_fixture, address) = Fixture::with(http("web"));
    let mut stream = TcpStream::connect(address).await.unwrap();
    let one = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx";
    let two = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nxy";
    stream
        .write_all(&[&one[..], two, GET].concat())
        .await
        .unwrap();
    for length in ["1", "2", "0"] {
        let answer = response(&mut stream).await;
        assert!(answer.ends_with(&format!("HTTP/1.1 {length}")), "{answer}");
    }
}

#[tokio::test]
async fn both_framings_are_answered_with_400_and_the_end() {
    let (_fixture, address) = Fixture::with(http("web"));
    let bytes = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 13\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nSMUGGLED";
    let answer = exchange(address, bytes).await;
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert!(answer.ends_with("framing_conflict"), "{answer}");
    assert_eq!(answer.matches("HTTP/1.1 ").count(), 1);
}

#[tokio::test]
async fn a_head_too_large_is_answered_before_it_ends() {
    let mut listener = http("web");
    listener.limits = ConnectionLimits {
        head_bytes: 1024,
        ..ConnectionLimits::default()
    };
    let (_fixture, address) = Fixture::with(listener);
    let bytes = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}", "a".repeat(100_000));
    let answer = exchange(address, bytes.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
    let bytes = format!("GET /{}", "a".repeat(100_000));
    let answer = exchange(address, bytes.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 414 "), "{answer}");
}

#[tokio::test]
async fn a_head_that_trickles_in_is_cut_at_its_deadline() {
    let (_fixture, address) = Fixture::with(impatient());
    let start = Instant::now();
    let (mut read, mut write) = TcpStream::connect(address).await.unwrap().into_split();
    let trickle = tokio::spawn(async move {
        // Each byte alone would be in time.
        let head = b"GET / HTTP/1.1\r\nHost: a\r\nX: "
            .iter()
            .chain(std::iter::repeat(&b'a'));
        for byte in head {
            if write.write_all(&[*byte]).await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    let mut answer = [0; 13];
    read.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 408 ");
    assert!(start.elapsed() >= Duration::from_millis(150));
    trickle.abort();
}

#[tokio::test]
async fn a_silent_client_is_closed_without_a_word() {
    let (_fixture, address) = Fixture::with(impatient());
    let mut stream = TcpStream::connect(address).await.unwrap();
    assert_eq!(read_to_end(&mut stream).await, "");
}

#[tokio::test]
async fn an_idle_connection_is_closed_without_a_word() {
    let (_fixture, address) = Fixture::with(impatient());
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(GET).await.unwrap();
    response(&mut stream).await;
    let start = Instant::now();
    assert_eq!(read_to_end(&mut stream).await, "");
    assert!(start.elapsed() >= Duration::from_millis(100));
}

#[tokio::test]
async fn a_body_that_stands_still_is_cut() {
    let (_fixture, address) = Fixture::with(impatient());
    let bytes = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc";
    let answer = exchange(address, bytes).await;
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert!(answer.ends_with("body_timeout"), "{answer}");
}

#[tokio::test]
async fn malformed_chunks_end_the_request() {
    let (_fixture, address) = Fixture::with(http("web"));
    let bytes =
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2zz\r\nab\r\n0\r\n\r\n";
    let answer = exchange(address, bytes).await;
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert!(answer.ends_with("chunk_framing"), "{answer}");
}

#[tokio::test]
async fn bytes_behind_an_upgrade_pass_as_they_are() {
    let (_fixture, address) = Fixture::with(http("web"));
    let mut stream = TcpStream::connect(address).await.unwrap();
    let head = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: loud\r\n\r\nearly\n";
    stream.write_all(head).await.unwrap();
    let answer = response(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
    stream.write_all(b"not http\n\0").await.unwrap();
    let mut heard = [0; 16];
    stream.read_exact(&mut heard).await.unwrap();
    assert_eq!(&heard, b"EARLY\nNOT HTTP\n\0");
}

#[tokio::test]
async fn requests_shorter_than_the_preface_are_served() {
    let (_fixture, address) = Fixture::with(http("web"));
    let answer = exchange(address, b"GET / HTTP/1.0\r\n\r\n").await;
    assert!(answer.ends_with("HTTP/1.0 0"), "{answer}");
}

#[tokio::test]
async fn http2_with_prior_knowledge_is_known_by_a_preface_in_pieces() {
    let (_fixture, address) = Fixture::with(http("web"));
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    for piece in PREFACE.chunks(5) {
        stream.write_all(piece).await.unwrap();
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // An empty SETTINGS frame (RFC 9113, 6.5); the server begins with one as well.
    stream
        .write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0])
        .await
        .unwrap();
    let mut frame = [0; 9];
    stream.read_exact(&mut frame).await.unwrap();
    assert_eq!(frame[3], 4);
}

#[tokio::test]
async fn half_a_preface_is_cut_at_the_deadline() {
    let (_fixture, address) = Fixture::with(impatient());
    assert_eq!(exchange(address, &PREFACE[..10]).await, "");
}

#[tokio::test]
async fn http2_requests_are_served() {
    let (_fixture, address) = Fixture::with(http("web"));
    let stream = TcpStream::connect(address).await.unwrap();
    let (mut client, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    let request = http::Request::get("http://a/").body(()).unwrap();
    let (answer, _) = client.send_request(request, true).unwrap();
    let mut body = answer.await.unwrap().into_body();
    let text = body.data().await.unwrap().unwrap();
    assert_eq!(&text[..], b"HTTP/2.0 0");
}

#[test]
fn the_first_differing_byte_decides() {
    assert_eq!(preface(b"P", None), None);
    assert_eq!(preface(&PREFACE[..23], None), None);
    assert_eq!(preface(PREFACE, None), Some(true));
    assert_eq!(preface(b"PO", None), Some(false));
    assert_eq!(preface(b"GET / HTTP/1.0\r\n\r\n", None), Some(false));
    assert_eq!(preface(PREFACE, Some(false)), Some(false));
    assert_eq!(preface(b"GET", Some(true)), Some(true));
    assert_eq!(preface(b"PRI", Some(true)), None);
}
