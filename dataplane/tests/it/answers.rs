//! What HTTP/1.1 origins may answer, and what is no answer to us.

use crate::client::Client;
use crate::origin::{Origin, response};
use crate::proxy::Proxy;
use crate::shapes::simple;
use meridian_model::UpstreamProtocol::Http1;

/// An origin that answers with these bytes and closes.
async fn answering(bytes: Vec<u8>) -> Origin {
    Origin::serving(move |mut incoming| {
        let bytes = bytes.clone();
        async move {
            incoming.request().await;
            incoming.write(bytes).await;
        }
    })
    .await
}

async fn status_of(answer: &str) -> u16 {
    let origin = answering(answer.replace('⏎', "\r\n").into_bytes()).await;
    let proxy = Proxy::start(simple(Http1, origin.address)).await;
    let mut client = Client::connect(proxy.address("in")).await;
    client
        .send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")
        .await;
    client.response().await.status
}

#[tokio::test]
async fn an_answer_that_could_be_read_two_ways_is_none() {
    for lines in [
        "Content-Length: 2⏎Content-Length: 3⏎",
        "Content-Length: 2⏎Content-Length: 2⏎",
        "Content-Length: 2⏎Transfer-Encoding: chunked⏎",
        "Transfer-Encoding: gzip, chunked⏎",
        "X: y⏎ folded⏎Content-Length: 2⏎",
        "X : y⏎Content-Length: 2⏎",
        "X: y\rz⏎Content-Length: 2⏎",
        "X: y\nContent-Length: 2⏎",
    ] {
        let answer = format!("HTTP/1.1 200 OK⏎{lines}⏎ok");
        assert_eq!(status_of(&answer).await, 502, "{lines:?}");
    }
}

#[tokio::test]
async fn an_answer_has_a_hundred_headers_at_most() {
    for (count, status) in [(99, 200), (100, 502)] {
        let lines = "X: y⏎".repeat(count);
        let answer = format!("HTTP/1.1 200 OK⏎{lines}Content-Length: 2⏎⏎ok");
        assert_eq!(status_of(&answer).await, status, "{count}");
    }
}

#[tokio::test]
async fn a_head_that_breaks_off_is_no_answer() {
    for (answer, status) in [
        ("HTT", 502),
        ("HTTP/1.1 200 OK⏎Content-Le", 503),
        ("", 503),
        ("garbage⏎⏎", 502),
    ] {
        assert_eq!(status_of(answer).await, status, "{answer:?}");
    }
}

#[tokio::test]
async fn names_go_out_in_lower_case_and_the_words_of_the_standard() {
    let answer = b"HTTP/1.1 200 Fine Thing\r\nX-CaSe: Kept\r\nContent-Length: 0\r\n\r\n";
    let origin = answering(answer.to_vec()).await;
    let proxy = Proxy::start(simple(Http1, origin.address)).await;
    let mut client = Client::connect(proxy.address("in")).await;
    client
        .send("GET / HTTP/1.1\r\nHost: a\r\nX-CaSe: Kept\r\n\r\n")
        .await;
    assert_eq!(client.response().await.header("x-case"), Some("Kept"));
    assert!(origin.only().head.contains("\r\nx-case: Kept\r\n"));
}

#[tokio::test]
async fn an_origins_date_stays_and_is_written_where_there_is_none() {
    let origin = Origin::answering(|seen| match seen.path() {
        "/dated" => b"HTTP/1.1 200 OK\r\nDate: then\r\nContent-Length: 0\r\n\r\n".to_vec(),
        _ => response(200, ""),
    })
    .await;
    let proxy = Proxy::start(simple(Http1, origin.address)).await;
    let mut client = Client::connect(proxy.address("in")).await;
    let dated = client.get("/dated").await;
    let dates = dated.headers.iter().filter(|(name, _)| name == "date");
    assert_eq!(dates.map(|(_, date)| date).collect::<Vec<_>>(), ["then"]);
    let date = client.get("/").await.header("date").map(str::to_owned);
    assert!(date.is_some_and(|date| date.ends_with(" GMT")));
}

#[tokio::test]
async fn bytes_behind_an_answer_are_nobodys() {
    let origin =
        Origin::answering(|_| [response(200, "ok"), response(200, "forged")].concat()).await;
    let proxy = Proxy::start(simple(Http1, origin.address)).await;
    let mut client = Client::connect(proxy.address("in")).await;
    for _ in 0..3 {
        assert_eq!(client.get("/").await.text(), "ok");
    }
    assert_eq!(origin.connections(), 3);
}

#[tokio::test]
async fn an_answer_without_a_length_ends_with_its_connection() {
    let origin = answering(b"HTTP/1.1 200 OK\r\n\r\nall of it".to_vec()).await;
    let proxy = Proxy::start(simple(Http1, origin.address)).await;
    let mut client = Client::connect(proxy.address("in")).await;
    for _ in 0..2 {
        assert_eq!(client.get("/").await.text(), "all of it");
    }
    assert_eq!(origin.connections(), 2);
}

#[tokio::test]
async fn chunks_lose_their_extensions_and_trailers() {
    let origin = Origin::answering(|_| {
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
          2;a=b\r\nok\r\n3\r\n, 3\r\n0\r\nTrailer: 1\r\n\r\n"
            .to_vec()
    })
    .await;
    let proxy = Proxy::start(simple(Http1, origin.address)).await;
    let mut client = Client::connect(proxy.address("in")).await;
    for _ in 0..2 {
        assert_eq!(client.get("/").await.text(), "ok, 3");
    }
    assert_eq!(origin.connections(), 1);
}

#[tokio::test]
async fn statuses_without_a_body_have_none() {
    let origin = Origin::answering(|seen| match seen.path() {
        "/204" => b"HTTP/1.1 204 No Content\r\n\r\n".to_vec(),
        "/304" => b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n".to_vec(),
        path => response(200, path),
    })
    .await;
    let proxy = Proxy::start(simple(Http1, origin.address)).await;
    let mut client = Client::connect(proxy.address("in")).await;
    for (path, status) in [("/204", 204), ("/304", 304)] {
        client
            .send(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"))
            .await;
        assert_eq!(client.head().await.status, status);
        assert_eq!(client.get("/next").await.text(), "/next");
    }
    client.send("HEAD /head HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(client.head().await.header("content-length"), Some("5"));
    assert_eq!(origin.connections(), 1);
}
