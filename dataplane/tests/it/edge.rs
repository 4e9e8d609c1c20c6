//! What the edge makes of a request and of its response.

use crate::client::{self, Client};
use crate::origin::{Origin, response};
use crate::proxy::Proxy;
use crate::shapes::{cluster, edge, route, routes, snapshot, to};
use http::{HeaderName, HeaderValue};
use meridian_model::UpstreamProtocol::Http1;
use meridian_model::route::{
    Destination, HeaderModifier, PathMatch, PathRewrite, Redirect, WeightedCluster,
};
use meridian_model::{Route, RouteAction, RouteMatch};
use std::net::SocketAddr;

fn prefix(path: &str) -> RouteMatch {
    RouteMatch {
        path: PathMatch::ElementPrefix(path.into()),
        ..RouteMatch::default()
    }
}

async fn gateway(table: Vec<Route>, origins: &[(&str, SocketAddr)]) -> Proxy {
    let clusters = origins
        .iter()
        .map(|(name, address)| cluster(name, Http1, &[*address]))
        .collect();
    Proxy::start(snapshot(vec![edge("in", routes(table))], clusters)).await
}

#[tokio::test]
async fn what_strangers_claim_is_replaced_by_what_is_known() {
    let origin = Origin::ok().await;
    let proxy = gateway(vec![to("origin")], &[("origin", origin.address)]).await;
    let mut client = Client::connect(proxy.address("in")).await;
    client
        .send(
            "GET / HTTP/1.1\r\nHost: shop.test:80\r\nX-Forwarded-For: 1.2.3.4\r\n\
             X-Forwarded-Proto: https\r\nX_Forwarded_For: 1.2.3.4\r\nForwarded: for=1.2.3.4\r\n\
             X-Real-IP: 1.2.3.4\r\nX-Forwarded-Client-Cert: By=me\r\nX-Forwarded-Prefix: /x\r\n\
             X-Envoy-Original-Path: /a\r\nX-Consul-Token: t\r\nX-Request-ID: mine\r\nX-Keep: 1\r\n\r\n",
        )
        .await;
    let answer = client.response().await;
    let seen = origin.only();
    assert_eq!(seen.values("x-forwarded-for"), ["127.0.0.1"]);
    assert_eq!(seen.values("x-forwarded-proto"), ["http"]);
    assert_eq!(seen.values("x-forwarded-host"), ["shop.test:80"]);
    for gone in [
        "x_forwarded_for",
        "forwarded",
        "x-real-ip",
        "x-forwarded-client-cert",
        "x-forwarded-prefix",
        "x-envoy-original-path",
        "x-consul-token",
    ] {
        assert!(seen.values(gone).is_empty(), "{gone}");
    }
    assert_eq!(seen.values("x-keep"), ["1"]);
    assert_eq!(seen.values("host"), ["shop.test:80"]);
    let id = answer.header("x-request-id").unwrap();
    assert_ne!(id, "mine");
    assert_eq!(seen.values("x-request-id"), [id]);
}

#[tokio::test]
async fn a_client_cannot_nominate_our_headers_away() {
    let origin = Origin::ok().await;
    let proxy = gateway(vec![to("origin")], &[("origin", origin.address)]).await;
    for nominated in ["X-Forwarded-For", "Host", "Authorization", "Content-Length"] {
        let mut client = Client::connect(proxy.address("in")).await;
        client
            .send(format!(
                "GET / HTTP/1.1\r\nHost: a\r\nConnection: close, {nominated}\r\n\r\n"
            ))
            .await;
        let status = client.response().await.status;
        match origin.seen().pop() {
            None => assert_eq!(status, 400, "{nominated}"),
            Some(seen) => assert_eq!(seen.values("x-forwarded-for"), ["127.0.0.1"]),
        }
    }
}

#[tokio::test]
async fn paths_have_their_normal_form_before_anything_looks_at_them() {
    let origin = Origin::answering(|seen| response(200, seen.path())).await;
    let admin = route(
        "admin",
        prefix("/admin"),
        RouteAction {
            destination: Destination::Unroutable {
                status: 503,
                reason: "closed".into(),
            },
            ..RouteAction::forward("origin".into())
        },
    );
    let proxy = gateway(vec![admin, to("origin")], &[("origin", origin.address)]).await;
    let mut client = Client::connect(proxy.address("in")).await;
    for path in [
        "/admin",
        "/pub/../admin",
        "/pub/%2e%2e/admin",
        "//admin",
        "/./admin",
        "/%61dmin",
        "/pub\\..\\admin",
        "/admin/.",
    ] {
        assert_eq!(client.get(path).await.status, 503, "{path}");
    }
    for path in ["/pub/..%2fadmin", "/admin%00", "/..%5cadmin"] {
        let mut client = Client::connect(proxy.address("in")).await;
        assert_eq!(client.get(path).await.status, 400, "{path}");
    }
    for (path, forwarded) in [("/a//b/./c?d=/../e", "/a/b/c?d=/../e"), ("/%7Ex", "/~x")] {
        assert_eq!(client.get(path).await.text(), forwarded);
    }
    let mut client = Client::connect(proxy.address("in")).await;
    client
        .send("GET http://test/abs?q HTTP/1.1\r\nHost: test\r\n\r\n")
        .await;
    assert_eq!(client.response().await.text(), "/abs?q");
}

#[tokio::test]
async fn redirects_are_answered_without_an_origin() {
    let action = RouteAction {
        destination: Destination::Redirect(Redirect {
            status: 308,
            scheme: Some("https".into()),
            host: Some("new.test".into()),
            port: Some(443),
            path: Some(PathRewrite::Prefix("/new".into())),
        }),
        ..RouteAction::forward("none".into())
    };
    let proxy = gateway(vec![route("moved", prefix("/old"), action)], &[]).await;
    let mut client = Client::connect(proxy.address("in")).await;
    // A body that looks like a request is none, also where nobody reads it.
    client
        .send(
            "POST /old/a?b=c HTTP/1.1\r\nHost: x\r\nContent-Length: 35\r\n\r\n\
             GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n",
        )
        .await;
    let answer = client.response().await;
    assert_eq!(answer.status, 308);
    assert_eq!(
        answer.header("location"),
        Some("https://new.test/new/a?b=c")
    );
    let mut client = Client::connect(proxy.address("in")).await;
    assert_eq!(client.get("/old").await.status, 308);
    assert_eq!(client.get("/old").await.status, 308);
}

#[tokio::test]
async fn rewrites_and_modifiers_act_in_their_order() {
    let origin = Origin::answering(|_| {
        b"HTTP/1.1 200 OK\r\nX-Origin: 1\r\nX-Both: origin\r\nContent-Length: 0\r\n\r\n".to_vec()
    })
    .await;
    let pair = |name: &'static str, value: &'static str| {
        (
            HeaderName::from_static(name),
            HeaderValue::from_static(value).into(),
        )
    };
    let mut action = RouteAction::forward("origin".into());
    action.rewrite = Some(PathRewrite::Prefix("/v2".into()));
    action.request_headers = HeaderModifier {
        remove: vec![HeaderName::from_static("x-gone")],
        set: vec![pair("x-set", "new")],
        add: vec![pair("x-add", "more")],
    };
    action.response_headers = HeaderModifier {
        remove: vec![HeaderName::from_static("x-origin")],
        set: vec![pair("x-both", "gateway")],
        add: Vec::new(),
    };
    let table = vec![route("api", prefix("/api"), action)];
    let proxy = gateway(table, &[("origin", origin.address)]).await;
    let mut client = Client::connect(proxy.address("in")).await;
    client
        .send(
            "GET /api/users?x=1 HTTP/1.1\r\nHost: a\r\nX-Gone: 1\r\nX-Set: old\r\nX-Add: first\r\n\r\n",
        )
        .await;
    let answer = client.response().await;
    assert_eq!(answer.header("x-origin"), None);
    assert_eq!(answer.header("x-both"), Some("gateway"));
    let seen = origin.only();
    assert_eq!(seen.path(), "/v2/users?x=1");
    assert!(seen.values("x-gone").is_empty());
    assert_eq!(seen.values("x-set"), ["new"]);
    assert_eq!(seen.values("x-add"), ["first", "more"]);
}

#[tokio::test]
async fn weights_share_the_requests() {
    let light = Origin::answering(|_| response(200, "light")).await;
    let heavy = Origin::answering(|_| response(200, "heavy")).await;
    let weighted = |name: &str, weight| WeightedCluster {
        weight,
        ..WeightedCluster::all(name.into())
    };
    let action = RouteAction {
        destination: Destination::Clusters(vec![weighted("light", 1), weighted("heavy", 3)]),
        ..RouteAction::forward("light".into())
    };
    let table = vec![route("split", RouteMatch::default(), action)];
    let origins = [("light", light.address), ("heavy", heavy.address)];
    let proxy = gateway(table, &origins).await;
    let mut client = Client::connect(proxy.address("in")).await;
    for _ in 0..400 {
        assert_eq!(client.get("/").await.status, 200);
    }
    // A quarter of 400, four standard deviations to either side.
    let count = light.seen().len();
    assert!((65..=135).contains(&count), "{count}");
    assert_eq!(heavy.seen().len(), 400 - count);
}

#[tokio::test]
async fn hosts_choose_among_routes() {
    use meridian_model::route::{RouteTable, VirtualHost};
    let (one, other) = (
        Origin::ok().await,
        Origin::answering(|_| response(200, "star")).await,
    );
    let host = |hosts: &str, cluster: &str| VirtualHost {
        hosts: vec![hosts.into()],
        routes: vec![to(cluster)],
    };
    let table = RouteTable {
        hosts: vec![host("*.shop.test", "other"), host("a.shop.test", "one")],
        ..RouteTable::default()
    };
    let clusters = vec![
        cluster("one", Http1, &[one.address]),
        cluster("other", Http1, &[other.address]),
    ];
    let proxy = Proxy::start(snapshot(vec![edge("in", table)], clusters)).await;
    let mut client = Client::connect(proxy.address("in")).await;
    for (host, status, text) in [
        ("A.Shop.Test:8080", 200, "ok"),
        ("b.shop.test", 200, "star"),
        ("shop.test", 404, ""),
    ] {
        client
            .send(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"))
            .await;
        let answer = client.response().await;
        assert_eq!(answer.status, status, "{host}");
        assert!(answer.text().contains(text));
    }
    assert_eq!(client::get(proxy.address("in"), "/").await.status, 404);
}
