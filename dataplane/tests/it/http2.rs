//! HTTP/2 on either side, and between HTTP/1.1 and HTTP/2.

use crate::certificates::edge_tls;
use crate::client::{self, Client};
use crate::http2_client::{Http2Client, request};
use crate::http2_origin::{Call, Http2Origin, send};
use crate::origin::{Origin, response};
use crate::proxy::Proxy;
use crate::shapes::{cluster, edge, routes, simple, snapshot, to};
use bytes::Bytes;
use meridian_model::Security;
use meridian_model::UpstreamProtocol::{Http1, Http2};

async fn answering_length() -> Http2Origin {
    Http2Origin::serving(|mut call: Call| async move {
        let body = call.body().await;
        let uri = call.request.uri().to_string();
        call.answer(&format!("{} {uri} {}", call.request.method(), body.len()));
    })
    .await
}

#[tokio::test]
async fn http2_clients_reach_http1_origins() {
    let origin = Origin::answering(|seen| response(200, &seen.body.len().to_string())).await;
    let proxy = Proxy::start(simple(Http1, origin.address)).await;
    let mut client = Http2Client::connect(proxy.address("in")).await;
    let get = client.call(request("GET", "/a?b"), b"").await;
    assert_eq!((get.head.status().as_u16(), &*get.body), (200, &b"0"[..]));
    let post = client.call(request("POST", "/"), &[b'x'; 300_000]).await;
    assert_eq!(post.body, b"300000");
    let seen = origin.seen();
    assert_eq!(seen[0].line(), "GET /a?b HTTP/1.1");
    assert_eq!(seen[0].values("host"), ["test"]);
    assert!(seen[0].values("transfer-encoding").is_empty());
    assert_eq!(seen[1].values("transfer-encoding"), ["chunked"]);
}

#[tokio::test]
async fn http1_clients_reach_http2_origins() {
    let origin = answering_length().await;
    let proxy = Proxy::start(simple(Http2, origin.address)).await;
    let mut client = Client::connect(proxy.address("in")).await;
    for _ in 0..3 {
        client
            .send("POST /x HTTP/1.1\r\nHost: test\r\nContent-Length: 5\r\n\r\n12345")
            .await;
        let answer = client.response().await;
        assert_eq!(answer.text(), "POST http://test/x 5");
        client
            .send("POST /y HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n")
            .await;
        client.send("2\r\nab\r\n0\r\n\r\n").await;
        assert_eq!(client.response().await.text(), "POST http://test/y 2");
        assert_eq!(client.get("/z").await.text(), "GET http://test/z 0");
    }
    assert_eq!(origin.connections(), 1);
}

#[tokio::test]
async fn a_client_of_an_http2_origin_is_told_to_go_on() {
    let origin = answering_length().await;
    let proxy = Proxy::start(simple(Http2, origin.address)).await;
    let mut client = Client::connect(proxy.address("in")).await;
    client
        .send("PUT / HTTP/1.1\r\nHost: test\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
        .await;
    assert_eq!(client.head().await.status, 100);
    client.send("ab").await;
    assert_eq!(client.response().await.text(), "PUT http://test/ 2");
}

#[tokio::test]
async fn streams_of_one_client_share_an_upstream_connection() {
    let origin = answering_length().await;
    let proxy = Proxy::start(simple(Http2, origin.address)).await;
    let mut client = Http2Client::connect(proxy.address("in")).await;
    let mut streams = Vec::new();
    for _ in 0..20 {
        streams.push(client.open(request("POST", "/"), false).await);
    }
    for (response, mut out) in streams {
        send(&mut out, Bytes::from(vec![1; 50_000])).await.unwrap();
        out.send_data(Bytes::new(), true).unwrap();
        let answer = crate::http2_client::finish(response).await.unwrap();
        assert_eq!(answer.body, b"POST http://test/ 50000");
    }
    assert_eq!(origin.connections(), 1);
}

/// pingora #935: the empty frame must not become a second end of the chunked body.
#[tokio::test]
async fn a_body_that_ends_with_an_empty_frame_ends_once() {
    let origin = Origin::answering(|seen| response(200, seen.path())).await;
    let proxy = Proxy::start(simple(Http1, origin.address)).await;
    let mut client = Http2Client::connect(proxy.address("in")).await;
    for number in 0..10 {
        let path = format!("/{number}");
        let answer = client.call(request("POST", &path), b"body").await;
        assert_eq!(answer.body, path.as_bytes());
    }
    let seen = origin.seen();
    assert!(seen.iter().all(|seen| seen.body == b"body"), "{seen:?}");
    assert_eq!(origin.connections(), 1);
}

#[tokio::test]
async fn cookie_crumbs_are_joined_for_http1() {
    let origin = Origin::ok().await;
    let proxy = Proxy::start(simple(Http1, origin.address)).await;
    let mut client = Http2Client::connect(proxy.address("in")).await;
    let mut head = request("GET", "/");
    for crumb in ["a=1", "b=2", "c=3"] {
        head.headers_mut().append("cookie", crumb.parse().unwrap());
    }
    client.call(head, b"").await;
    assert_eq!(origin.only().values("cookie"), ["a=1; b=2; c=3"]);
}

#[tokio::test]
async fn large_headers_pass_and_too_large_ones_do_not() {
    let origin = Origin::answering(|seen| {
        let length = seen.values("x-large")[0].len();
        let large = "y".repeat(length);
        format!("HTTP/1.1 200 OK\r\nX-Large: {large}\r\nContent-Length: 0\r\n\r\n").into_bytes()
    })
    .await;
    let proxy = Proxy::start(simple(Http1, origin.address)).await;
    let mut client = Http2Client::connect(proxy.address("in")).await;
    let with = |length: usize| {
        let mut head = request("GET", "/");
        let value = "x".repeat(length).parse().unwrap();
        head.headers_mut().insert("x-large", value);
        head
    };
    let answer = client.call(with(30_000), b"").await;
    assert_eq!(answer.header("x-large").map(str::len), Some(30_000));
    let (response, _) = client.open(with(70_000), true).await;
    let refused = crate::soon("a refusal", response).await.unwrap();
    assert_eq!(refused.status(), 431);
    assert_eq!(origin.seen().len(), 1);
    assert_eq!(client.call(with(10), b"").await.head.status(), 200);
}

#[tokio::test]
async fn tls_chooses_the_protocol_by_alpn() {
    let origin = Origin::ok().await;
    let (tls, config) = edge_tls();
    let mut listener = edge("in", routes(vec![to("origin")]));
    listener.security = Security::Edge(tls);
    let clusters = vec![cluster("origin", Http1, &[origin.address])];
    let proxy = Proxy::start(snapshot(vec![listener], clusters)).await;
    let address = proxy.address("in");

    let mut with_h2 = config.clone();
    with_h2.alpn_protocols = vec![b"h2".to_vec()];
    let mut client = Http2Client::over(client::tls(address, with_h2, "localhost").await).await;
    assert_eq!(client.call(request("GET", "/"), b"").await.body, b"ok");

    let mut client = Client::over(client::tls(address, config, "localhost").await);
    assert_eq!(client.get("/").await.text(), "ok");
    assert_eq!(origin.seen()[0].values("x-forwarded-proto"), ["https"]);
    assert_eq!(proxy.metric(&["tls_handshakes_total", "\"ok\""]), 2.0);
}

#[tokio::test]
async fn a_stream_that_breaks_off_leaves_its_siblings_alone() {
    let (tell, told) = tokio::sync::watch::channel(false);
    let origin = Http2Origin::serving(move |mut call: Call| {
        let mut told = told.clone();
        async move {
            if call.request.uri().path() == "/broken" {
                let mut out = call.begin();
                told.wait_for(|told| *told).await.unwrap();
                out.send_reset(h2::Reason::INTERNAL_ERROR);
            } else {
                call.answer("whole");
            }
        }
    })
    .await;
    let proxy = Proxy::start(simple(Http2, origin.address)).await;
    let mut client = Http2Client::connect(proxy.address("in")).await;
    let (broken, _) = client.open(request("GET", "/broken"), true).await;
    let (whole, _) = client.open(request("GET", "/whole"), true).await;
    let mut body = crate::soon("a head", broken).await.unwrap().into_body();
    tell.send(true).unwrap();
    let error = crate::soon("a reset", async {
        loop {
            match body.data().await {
                Some(Ok(_)) => {}
                Some(Err(error)) => return Some(error),
                None => return None,
            }
        }
    })
    .await;
    assert!(error.is_some_and(|error| error.is_reset()));
    let whole = crate::http2_client::finish(whole).await.unwrap();
    assert_eq!(whole.body, b"whole");
}
