//! What has another form in HTTP/1.1 than in HTTP/2: interim responses, ends, trailers.

use crate::client::Client;
use crate::http2_client::{Http2Client, request};
use crate::http2_origin::{Call, Http2Origin};
use crate::origin::{Origin, response};
use crate::proxy::Proxy;
use crate::shapes::simple;
use meridian_model::UpstreamProtocol::{Http1, Http2};

#[tokio::test]
async fn interim_responses_do_not_stand_for_the_last_one() {
    let origin = Origin::answering(|_| {
        let hint = b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n";
        [&hint[..], &response(200, "ok")].concat()
    })
    .await;
    let proxy = Proxy::start(simple(Http1, origin.address)).await;
    let mut client = Client::connect(proxy.address("in")).await;
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let hint = client.head().await;
    assert_eq!((hint.status, hint.header("link")), (103, Some("</a.css>")));
    assert_eq!(client.response().await.text(), "ok");
    let mut client = Http2Client::connect(proxy.address("in")).await;
    let answer = client.call(request("GET", "/"), b"").await;
    assert_eq!(answer.head.status(), 200);
    assert_eq!(answer.body, b"ok");
}

#[tokio::test]
async fn heads_without_a_body_end_their_streams() {
    let origin = Origin::answering(|seen| match seen.path() {
        "/204" => b"HTTP/1.1 204 No Content\r\n\r\n".to_vec(),
        "/304" => b"HTTP/1.1 304 Not Modified\r\n\r\n".to_vec(),
        _ => b"HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n".to_vec(),
    })
    .await;
    let proxy = Proxy::start(simple(Http1, origin.address)).await;
    let mut client = Http2Client::connect(proxy.address("in")).await;
    let head = client.call(request("HEAD", "/"), b"").await;
    assert_eq!(head.header("content-length"), Some("1234"));
    assert_eq!(
        client.call(request("GET", "/204"), b"").await.head.status(),
        204
    );
    assert_eq!(
        client.call(request("GET", "/304"), b"").await.head.status(),
        304
    );
    assert_eq!(origin.connections(), 1);
}

#[tokio::test]
async fn an_http1_client_gets_whole_bodies_of_http2_origins() {
    let origin = Http2Origin::serving(|mut call: Call| async move {
        match call.request.uri().path() {
            "/empty" => {
                let head = http::Response::builder().status(200).body(()).unwrap();
                call.respond.send_response(head, true).unwrap();
            }
            "/head" => {
                let head = http::Response::builder()
                    .header("content-length", "1234")
                    .body(())
                    .unwrap();
                call.respond.send_response(head, true).unwrap();
            }
            _ => {
                let mut out = call.begin();
                out.send_data("part".into(), false).unwrap();
                out.send_trailers(crate::http2_origin::grpc_trailers(0))
                    .unwrap();
            }
        }
    })
    .await;
    let proxy = Proxy::start(simple(Http2, origin.address)).await;
    let mut client = Client::connect(proxy.address("in")).await;
    for _ in 0..2 {
        let trailed = client.get("/trailed").await;
        assert_eq!(trailed.header("transfer-encoding"), Some("chunked"));
        assert_eq!(trailed.text(), "part");
        let empty = client.get("/empty").await;
        assert_eq!(empty.header("content-length"), Some("0"));
        client.send("HEAD /head HTTP/1.1\r\nHost: a\r\n\r\n").await;
        let head = client.head().await;
        assert_eq!(head.header("content-length"), Some("1234"));
    }
}
