//! Requests that are answered here: how errors look, and that they reach no origin.

use crate::client::{self, Client};
use crate::http2_client::{Http2Client, request};
use crate::origin::Origin;
use crate::proxy::Proxy;
use crate::shapes::{cluster, edge, route, routes, snapshot, to};
use http::Method;
use meridian_model::UpstreamProtocol::Http1;
use meridian_model::route::PathMatch;
use meridian_model::{RouteAction, RouteMatch};

/// An edge before an origin, with one route that takes two methods only.
async fn gateway() -> (Origin, Proxy) {
    let origin = Origin::ok().await;
    let picky = RouteMatch {
        path: PathMatch::Exact("/picky".into()),
        methods: vec![Method::GET, Method::HEAD],
        ..RouteMatch::default()
    };
    let anything = RouteMatch {
        path: PathMatch::ElementPrefix("/any".into()),
        ..RouteMatch::default()
    };
    let table = routes(vec![
        route("picky", picky, RouteAction::forward("origin".into())),
        route("any", anything, RouteAction::forward("origin".into())),
    ]);
    let clusters = vec![cluster("origin", Http1, &[origin.address])];
    let proxy = Proxy::start(snapshot(vec![edge("in", table)], clusters)).await;
    (origin, proxy)
}

#[tokio::test]
async fn a_route_to_a_cluster_that_is_not_there_answers_for_itself() {
    let origin = Origin::ok().await;
    let ghost = RouteMatch {
        path: PathMatch::ElementPrefix("/ghost".into()),
        ..RouteMatch::default()
    };
    let table = routes(vec![
        route("ghost", ghost, RouteAction::forward("ghost".into())),
        to("origin"),
    ]);
    let clusters = vec![cluster("origin", Http1, &[origin.address])];
    let proxy = Proxy::start(snapshot(vec![edge("in", table)], clusters)).await;
    for (path, status) in [("/", 200), ("/ghost", 503), ("/", 200)] {
        let answer = client::get(proxy.address("in"), path).await;
        assert_eq!(answer.status, status, "{path}");
    }
}

#[tokio::test]
async fn bytes_that_two_parsers_could_read_two_ways_are_refused() {
    let (origin, proxy) = gateway().await;
    let cases = [
        (
            "both framings",
            "POST /any HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            400,
        ),
        (
            "two lengths",
            "POST /any HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx",
            400,
        ),
        ("no host", "GET /any HTTP/1.1\r\n\r\n", 400),
        (
            "two hosts",
            "GET /any HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
            400,
        ),
        ("userinfo", "GET /any HTTP/1.1\r\nHost: u@a\r\n\r\n", 400),
        (
            "another authority",
            "GET http://b/any HTTP/1.1\r\nHost: a\r\n\r\n",
            400,
        ),
        ("no path", "GET any HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("bare line feed", "GET /any HTTP/1.1\nHost: a\n\n", 400),
        (
            "folded header",
            "GET /any HTTP/1.1\r\nHost: a\r\nX: 1\r\n 2\r\n\r\n",
            400,
        ),
        (
            "no such version",
            "GET /any HTTP/3.0\r\nHost: a\r\n\r\n",
            505,
        ),
        (
            "gzip coding",
            "POST /any HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
            400,
        ),
    ];
    for (what, bytes, status) in cases {
        let mut client = Client::connect(proxy.address("in")).await;
        client.send(bytes).await;
        let answer = client.response().await;
        assert!(
            answer.status == status || (what == "gzip coding" && answer.status == 501),
            "{what}: {answer:?}"
        );
        assert_eq!(answer.header("connection"), Some("close"), "{what}");
        client.rest().await;
    }
    assert!(origin.seen().is_empty());
    let refused = proxy.metric(&["rejected_requests_total", "\"in\""]);
    assert_eq!(refused, cases.len() as f64);
}

#[tokio::test]
async fn methods_that_are_never_proxied_are_refused() {
    let (origin, proxy) = gateway().await;
    for (line, status) in [("TRACE /any", 405), ("CONNECT a:80", 405)] {
        let mut client = Client::connect(proxy.address("in")).await;
        client
            .send(format!("{line} HTTP/1.1\r\nHost: a\r\n\r\n"))
            .await;
        assert_eq!(client.response().await.status, status, "{line}");
    }
    let mut client = Client::connect(proxy.address("in")).await;
    client
        .send("GET /any HTTP/1.1\r\nHost: a\r\nExpect: wonders\r\n\r\n")
        .await;
    assert_eq!(client.response().await.status, 417);
    assert!(origin.seen().is_empty());
}

#[tokio::test]
async fn errors_are_problem_documents_with_the_requests_id() {
    let (_origin, proxy) = gateway().await;
    let mut client = Client::connect(proxy.address("in")).await;
    let missing = client.get("/nowhere").await;
    assert_eq!(missing.status, 404);
    assert_eq!(
        missing.header("content-type"),
        Some("application/problem+json")
    );
    let document: serde_json::Value = serde_json::from_slice(&missing.body).unwrap();
    assert_eq!(document["status"], 404);
    assert_eq!(document["error"], "no_route");
    assert!(document["title"].is_string());
    let id = missing.header("x-request-id").unwrap();
    assert_eq!(document["requestId"], id);

    client
        .send("POST /picky HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi")
        .await;
    let wrong = client.response().await;
    assert_eq!(wrong.status, 405);
    assert_eq!(wrong.header("allow"), Some("GET, HEAD"));
    // Both on one connection, which goes on.
    assert_eq!(client.get("/picky").await.status, 200);

    client
        .send("HEAD /nowhere HTTP/1.1\r\nHost: a\r\n\r\n")
        .await;
    assert_eq!(client.head().await.status, 404);
    assert_eq!(client.get("/any").await.status, 200);
}

/// CVE-2025-4366: what stands in a body that nobody read is no request.
#[tokio::test]
async fn an_unread_body_is_never_taken_for_a_request() {
    let (origin, proxy) = gateway().await;
    let inner = "GET /any/smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
    for path in ["/nowhere", "/picky"] {
        let mut client = Client::connect(proxy.address("in")).await;
        client
            .send(format!(
                "POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{inner}",
                inner.len()
            ))
            .await;
        assert!(client.response().await.status >= 400);
        assert_eq!(client.get("/any/next").await.status, 200);
    }
    let paths: Vec<_> = origin.seen().iter().map(|s| s.path().to_owned()).collect();
    assert_eq!(paths, ["/any/next", "/any/next"]);
}

#[tokio::test]
async fn http2_requests_meet_the_same_rules() {
    let (origin, proxy) = gateway().await;
    let mut client = Http2Client::connect(proxy.address("in")).await;
    for (method, path, status) in [
        ("GET", "/nowhere", 404),
        ("POST", "/picky", 405),
        ("TRACE", "/any", 405),
        ("GET", "/any/%2e%2e/%2f", 400),
        ("GET", "/any", 200),
    ] {
        let answer = client.call(request(method, path), b"").await;
        assert_eq!(answer.head.status(), status, "{method} {path}");
    }
    let mut many = request("GET", "/any");
    for number in 0..120 {
        let name: http::HeaderName = format!("x-{number}").parse().unwrap();
        many.headers_mut().insert(name, "1".parse().unwrap());
    }
    assert_eq!(client.call(many, b"").await.head.status(), 431);
    assert_eq!(origin.seen().len(), 1);
}

#[tokio::test]
async fn a_route_that_cannot_be_honoured_fails_with_its_reason() {
    use meridian_model::route::Destination;
    let action = RouteAction {
        destination: Destination::Unroutable {
            status: 500,
            reason: "backend \"x\" does not exist".into(),
        },
        ..RouteAction::forward("x".into())
    };
    let table = routes(vec![
        route(
            "bad",
            RouteMatch {
                path: PathMatch::Exact("/bad".into()),
                ..RouteMatch::default()
            },
            action,
        ),
        to("never-defined"),
    ]);
    let proxy = Proxy::start(snapshot(vec![edge("in", table)], Vec::new())).await;
    let bad = client::get(proxy.address("in"), "/bad").await;
    assert_eq!(bad.status, 500);
    assert!(bad.text().contains("does not exist"));
    // A cluster that the snapshot does not have is an outage, not a panic.
    assert_eq!(client::get(proxy.address("in"), "/").await.status, 503);
}
