//! Two data planes in a row: an application's outbound listener, mutual TLS, a service's inbound
//! listener. Who is let in, and what the service is told of them.

use crate::certificates::{Authority, rules};
use crate::client::{self, Client};
use crate::http2_client::{Http2Client, grpc, request};
use crate::http2_origin::Http2Origin;
use crate::origin::Origin;
use crate::proxy::Proxy;
use crate::shapes::{
    cluster, cluster_through, http, inbound, inbound_tcp, mesh, put_identity, put_listener, routes,
    snapshot, tcp, to,
};
use crate::soon;
use meridian_model::intention::{Decision, Permission};
use meridian_model::listener::Alpn;
use meridian_model::route::PathMatch;
use meridian_model::{Authorization, Identity, RouteMatch, Security, UpstreamProtocol, Verdict};
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// The sidecars of a caller, `web`, and of a service, `api`.
pub(crate) struct Pair {
    pub(crate) authority: Authority,
    pub(crate) web: Proxy,
    pub(crate) api: Proxy,
}

impl Pair {
    pub(crate) async fn start(
        protocol: UpstreamProtocol,
        origin: SocketAddr,
        rules: Authorization,
    ) -> Self {
        let authority = Authority::new();
        let identities = (authority.identity("web"), authority.identity("api"));
        let expected = identities.1.clone();
        Self::start_expecting(authority, identities, &expected, protocol, origin, rules).await
    }

    /// As [`Pair::start`], with the caller wanting to meet `expected`.
    async fn start_expecting(
        authority: Authority,
        (web, api): (Identity, Identity),
        expected: &Identity,
        protocol: UpstreamProtocol,
        origin: SocketAddr,
        rules: Authorization,
    ) -> Self {
        let is_tcp = protocol == UpstreamProtocol::Tcp;
        let listener = match is_tcp {
            true => inbound_tcp("public", "api", rules),
            false => inbound("public", "api", rules),
        };
        let clusters = vec![cluster("local", protocol, &[origin])];
        let mut server = snapshot(vec![listener], clusters);
        put_identity(&mut server, api);
        let api = Proxy::start(server).await;

        let listener = match is_tcp {
            true => tcp("out", "api"),
            false => http("out", routes(vec![to("api")])),
        };
        let transport = mesh(&web, expected);
        let clusters = vec![cluster_through(
            "api",
            protocol,
            transport,
            &[api.address("public")],
        )];
        let mut caller = snapshot(vec![listener], clusters);
        put_identity(&mut caller, web);
        let web = Proxy::start(caller).await;
        Self {
            authority,
            web,
            api,
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.web.address("out")
    }
}

pub(crate) fn everyone() -> Authorization {
    rules(&[], Verdict::Allow)
}

pub(crate) fn nobody() -> Authorization {
    rules(&[], Verdict::Deny)
}

#[tokio::test]
async fn a_request_travels_under_mutual_tls_and_arrives_with_its_callers_certificate() {
    let origin = Origin::ok().await;
    let pair = Pair::start(UpstreamProtocol::Http1, origin.address, everyone()).await;
    let mut client = Client::connect(pair.address()).await;
    // The application's own claim does not leave its sidecar.
    client
        .send("GET / HTTP/1.1\r\nHost: api\r\nX-Forwarded-Client-Cert: By=me;URI=spiffe://x/y\r\n\r\n")
        .await;
    assert_eq!(client.response().await.text(), "ok");
    let seen = origin.only();
    let header = seen.values("x-forwarded-client-cert");
    assert_eq!(header.len(), 1);
    let fields: Vec<_> = header[0].split(';').collect();
    let names: Vec<_> = fields
        .iter()
        .map(|field| field.split_once('=').unwrap().0)
        .collect();
    assert_eq!(names, ["By", "Hash", "Cert", "Chain", "Subject", "URI"]);
    assert_eq!(
        fields[0],
        "By=spiffe://test.consul/ns/default/dc/dc1/svc/api"
    );
    assert_eq!(fields[1].len(), "Hash=".len() + 64);
    assert!(fields[2].starts_with("Cert=\"-----BEGIN%20CERTIFICATE-----%0A"));
    assert!(fields[3].starts_with("Chain=\"-----BEGIN%20CERTIFICATE-----%0A"));
    assert_eq!(fields[4], "Subject=\"\"");
    assert_eq!(
        fields[5],
        "URI=spiffe://test.consul/ns/default/dc/dc1/svc/web"
    );

    let ok = |side| ["tls_handshakes_total", side, "\"ok\""];
    assert_eq!(pair.api.metric(&ok("server")), 1.0);
    assert_eq!(pair.web.metric(&ok("client")), 1.0);
}

#[tokio::test]
async fn a_mesh_peers_own_element_is_kept_before_ours() {
    let origin = Origin::ok().await;
    let pair = Pair::start(UpstreamProtocol::Http1, origin.address, everyone()).await;
    let web = pair.authority.identity("web");
    let config = pair.authority.client(&web, &[]);
    let stream = client::tls(pair.api.address("public"), config, "x").await;
    let mut client = Client::over(stream);
    client
        .send("GET / HTTP/1.1\r\nHost: api\r\nX-Forwarded-Client-Cert: By=first;URI=u\r\n\r\n")
        .await;
    assert_eq!(client.response().await.status, 200);
    let seen = origin.only();
    let header = seen.values("x-forwarded-client-cert");
    assert_eq!(header.len(), 1);
    assert!(header[0].starts_with("By=first;URI=u,By=spiffe://test.consul/"));
}

#[tokio::test]
async fn grpc_travels_through_both_sidecars_with_its_trailers() {
    let origin = Http2Origin::echo().await;
    let pair = Pair::start(UpstreamProtocol::Http2, origin.address, everyone()).await;
    let mut client = Http2Client::connect(pair.address()).await;
    for _ in 0..5 {
        let answer = client.call(grpc("/echo.Echo/Unary"), &[7; 40_000]).await;
        assert_eq!(answer.body, [7; 40_000]);
        assert_eq!(answer.trailer("grpc-status"), Some("0"));
    }
    assert_eq!(origin.connections(), 1);
    assert_eq!(pair.api.metric(&["tls_handshakes_total"]), 1.0);
}

#[tokio::test]
async fn a_caller_that_was_told_of_another_protocol_is_served() {
    let origin = Origin::ok().await;
    let pair = Pair::start(UpstreamProtocol::Http1, origin.address, everyone()).await;
    let mut listener = inbound("public", "api", everyone());
    if let Security::Mesh { alpn, .. } = &mut listener.security {
        *alpn = vec![Alpn::Http1];
    }
    pair.api.change(|plan| put_listener(plan, listener)).await;
    let web = pair.authority.identity("web");
    let config = pair.authority.client(&web, &[b"h2"]);
    let stream = client::tls(pair.api.address("public"), config, "x").await;
    let mut client = Http2Client::over(stream).await;
    assert_eq!(client.call(request("GET", "/"), b"").await.body, b"ok");
}

#[tokio::test]
async fn http_requests_are_denied_in_envoys_words() {
    let origin = Origin::ok().await;
    let pair = Pair::start(UpstreamProtocol::Http1, origin.address, nobody()).await;
    let mut client = Client::connect(pair.address()).await;
    for _ in 0..2 {
        let answer = client.get("/").await;
        assert_eq!(answer.status, 403);
        assert_eq!(answer.text(), "RBAC: access denied");
        assert_eq!(answer.header("content-type"), Some("text/plain"));
    }
    assert!(origin.seen().is_empty());
    let denied = ["authorization_verdicts_total", "\"l7\"", "\"deny\""];
    assert_eq!(pair.api.metric(&denied), 2.0);
}

#[tokio::test]
async fn permissions_decide_request_by_request() {
    let origin = Origin::ok().await;
    let permission = Permission {
        verdict: Verdict::Allow,
        matches: RouteMatch {
            path: PathMatch::Prefix("/public".into()),
            ..RouteMatch::default()
        },
        jwt: Vec::new(),
    };
    let decision = Decision::Permissions(vec![permission]);
    let rules = rules(&[("web", decision)], Verdict::Deny);
    let pair = Pair::start(UpstreamProtocol::Http1, origin.address, rules).await;
    let mut client = Client::connect(pair.address()).await;
    assert_eq!(client.get("/public/a").await.status, 200);
    assert_eq!(client.get("/private").await.status, 403);
    // What is decided on is the normal form, and that is what is forwarded.
    assert_eq!(client.get("/public/../private").await.status, 403);
    assert_eq!(client.get("/public/./b").await.status, 200);
    let paths: Vec<_> = origin.seen().iter().map(|s| s.path().to_owned()).collect();
    assert_eq!(paths, ["/public/a", "/public/b"]);
}

#[tokio::test]
async fn tcp_passes_both_ways_and_keeps_half_closes() {
    let origin = Origin::echo().await;
    let pair = Pair::start(UpstreamProtocol::Tcp, origin.address, everyone()).await;
    let mut client = Client::connect(pair.address()).await;
    let bytes = vec![b'x'; 200_000];
    client.send(&bytes).await;
    assert_eq!(client.take(200_000).await, bytes);
    client.send("last").await;
    client.stream.shutdown().await.unwrap();
    assert_eq!(client.rest().await, b"last");
}

#[tokio::test]
async fn denied_tcp_is_closed_in_good_order_without_a_byte() {
    let origin = Origin::echo().await;
    let pair = Pair::start(UpstreamProtocol::Tcp, origin.address, nobody()).await;
    for send_first in [true, false] {
        let mut stream = TcpStream::connect(pair.address()).await.unwrap();
        if send_first {
            stream.write_all(&[1; 10_000]).await.unwrap();
        }
        let mut got = Vec::new();
        // A reset would be an error here.
        soon("the end", stream.read_to_end(&mut got)).await.unwrap();
        assert!(got.is_empty());
    }
    assert_eq!(origin.connections(), 0);
    let denied = ["authorization_verdicts_total", "\"l4\"", "\"deny\""];
    assert_eq!(pair.api.metric(&denied), 2.0);
}

#[tokio::test]
async fn a_service_that_is_somebody_else_gets_no_request() {
    let origin = Origin::ok().await;
    for protocol in [UpstreamProtocol::Http1, UpstreamProtocol::Http2] {
        let authority = Authority::new();
        let identities = (authority.identity("web"), authority.identity("api"));
        let other = authority.identity("other");
        let address = origin.address;
        let pair =
            Pair::start_expecting(authority, identities, &other, protocol, address, everyone())
                .await;
        let answer = client::get(pair.address(), "/").await;
        assert_eq!(answer.status, 503);
        assert!(answer.text().contains("remote connection failure"));
        let wrong = ["tls_handshakes_total", "client", "\"wrong_identity\""];
        assert!(pair.web.metric(&wrong) >= 1.0);
    }
    assert!(origin.seen().is_empty());
}

#[tokio::test]
async fn a_client_without_a_certificate_is_refused_and_counted() {
    let origin = Origin::ok().await;
    let pair = Pair::start(UpstreamProtocol::Http1, origin.address, everyone()).await;
    let (_, config) = crate::certificates::edge_tls();
    let connector = tokio_rustls::TlsConnector::from(std::sync::Arc::new(config));
    let stream = TcpStream::connect(pair.api.address("public"))
        .await
        .unwrap();
    let name = "localhost".try_into().unwrap();
    // The client does not believe the mesh's root either; what counts is the other side's view.
    assert!(
        soon("a handshake", connector.connect(name, stream))
            .await
            .is_err()
    );

    let mut plain = Client::connect(pair.api.address("public")).await;
    plain.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let rest = plain.rest().await;
    assert!(!rest.starts_with(b"HTTP"), "{rest:?}");
    assert!(origin.seen().is_empty());
    pair.api
        .metric_becomes(&["tls_handshakes_total", "server"], 2.0)
        .await;
    assert_eq!(pair.api.metric(&["tls_handshakes_total", "\"ok\""]), 0.0);
}
