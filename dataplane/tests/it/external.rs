//! External authorization: what a service is asked, what its answers do, and what holds where it
//! gives none.

use crate::client::{Client, Response};
use crate::http2_client::{Http2Client, grpc};
use crate::http2_origin::{Http2Origin, grpc_trailers, send};
use crate::origin::{Origin, Seen, nowhere, response};
use crate::proxy::Proxy;
use crate::shapes::{cluster, put_cluster, put_listener, simple, snapshot, tcp};
use meridian_model::UpstreamProtocol::{Http1, Http2, Tcp};
use meridian_model::external::{
    CheckBody, CheckProtocol, ExternalAuthorization, GrpcCheck, HttpCheck, OnCheckError,
};
use meridian_model::route::ValueMatch;
use meridian_model::{Service, Snapshot, UpstreamProtocol};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

fn check(protocol: CheckProtocol) -> ExternalAuthorization {
    ExternalAuthorization {
        cluster: "authz".into(),
        protocol,
        timeout: Duration::from_secs(5),
        on_error: OnCheckError::Deny(403),
        include_certificate: false,
        body: None,
    }
}

fn by_http() -> ExternalAuthorization {
    check(CheckProtocol::Http(HttpCheck::default()))
}

fn by_grpc() -> ExternalAuthorization {
    check(CheckProtocol::Grpc(GrpcCheck::default()))
}

/// Whoever calls `in` needs leave of the service at `authz`.
fn asking(mut plan: Snapshot, check: ExternalAuthorization, authz: SocketAddr) -> Snapshot {
    let spoken = match check.protocol {
        CheckProtocol::Http(_) => Http1,
        CheckProtocol::Grpc(_) => Http2,
    };
    put_cluster(&mut plan, cluster("authz", spoken, &[authz]));
    let mut listener = (*plan.listeners["in"]).clone();
    match &mut listener.service {
        Service::Http(service) => Arc::make_mut(service).filters.checks = vec![Arc::new(check)],
        Service::Tcp(service) => Arc::make_mut(service).checks = vec![Arc::new(check)],
        Service::BySni(_) => panic!("not here"),
    }
    put_listener(&mut plan, listener);
    plan
}

async fn proxy(
    protocol: UpstreamProtocol,
    origin: SocketAddr,
    check: ExternalAuthorization,
    authz: SocketAddr,
) -> Proxy {
    Proxy::start(asking(simple(protocol, origin), check, authz)).await
}

async fn ask(proxy: &Proxy, request: &str) -> Response {
    let mut client = Client::connect(proxy.address("in")).await;
    client.send(request).await;
    client.response().await
}

const POST: &str = "POST /a?b=1 HTTP/1.1\r\nHost: test\r\nAuthorization: Bearer x\r\nX-In: 1\r\n\
     X-User: liar\r\nX-Groups: one\r\nX-Drop: 1\r\nContent-Length: 4\r\n\r\nbody";

#[tokio::test]
async fn http_shows_little_and_takes_over_what_is_listed() {
    let origin = Origin::ok().await;
    let authz = Origin::answering(|_| {
        b"HTTP/1.1 200 OK\r\nX-User: bob\r\nX-Groups: two\r\nX-Client: 1\r\nX-Other: 1\r\n\
          x-envoy-auth-headers-to-remove: x-drop, host\r\nContent-Length: 2\r\n\r\nok"
            .to_vec()
    })
    .await;
    let exact = |name: &str| vec![ValueMatch::Exact(name.into())];
    let check = check(CheckProtocol::Http(HttpCheck {
        path_prefix: "/check".into(),
        shown: exact("x-in"),
        added: vec![("x-added".parse().unwrap(), "1".parse().unwrap())],
        to_upstream: exact("x-user"),
        joined_upstream: exact("x-groups"),
        to_client: exact("x-client"),
        refused_client: Vec::new(),
    }));
    let proxy = proxy(Http1, origin.address, check, authz.address).await;
    let answer = ask(&proxy, POST).await;
    assert_eq!((answer.status, answer.header("x-client")), (200, Some("1")));
    assert_eq!(answer.header("x-other"), None);

    let asked = authz.only();
    assert_eq!(asked.line(), "POST /check/a?b=1 HTTP/1.1");
    assert_eq!(asked.values("host"), ["test"]);
    assert_eq!(asked.values("authorization"), ["Bearer x"]);
    assert_eq!(
        (asked.values("x-in"), asked.values("x-added")),
        (vec!["1"], vec!["1"])
    );
    assert_eq!(asked.values("content-length"), ["0"]);
    assert_eq!((asked.values("x-user").len(), asked.body.len()), (0, 0));

    let sent = origin.only();
    assert_eq!(sent.values("x-user"), ["bob"]);
    assert_eq!(sent.values("x-groups"), ["one,two"]);
    assert_eq!(
        (sent.values("x-drop").len(), sent.values("host").len()),
        (0, 1)
    );
    assert_eq!(sent.body, b"body");
}

#[tokio::test]
async fn http_refusals_reach_the_client_and_the_application_sees_nothing() {
    let origin = Origin::ok().await;
    let authz = Origin::answering(|_| {
        b"HTTP/1.1 401 No\r\nWWW-Authenticate: Basic\r\nX-Why: me\r\nServer: x\r\n\
          Content-Length: 3\r\n\r\nwho"
            .to_vec()
    })
    .await;
    let proxy = proxy(Http1, origin.address, by_http(), authz.address).await;
    let mut client = Client::connect(proxy.address("in")).await;
    for _ in 0..2 {
        client.send(POST).await;
        let answer = client.response().await;
        assert_eq!((answer.status, answer.text().as_str()), (401, "who"));
        assert_eq!(answer.header("www-authenticate"), Some("Basic"));
        assert_eq!(answer.header("x-why"), Some("me"));
        assert_eq!(answer.header("content-type"), Some("text/plain"));
        assert_eq!(answer.header("server"), None);
    }
    assert_eq!((origin.seen().len(), authz.connections()), (0, 1));
    let denied = ["authorization_verdicts", "\"external\"", "\"deny\""];
    proxy.metric_becomes(&denied, 2.0).await;
}

#[tokio::test]
async fn without_an_answer_the_operators_word_holds() {
    let origin = Origin::ok().await;
    let failing = Origin::answering(|seen: &Seen| {
        response(if seen.path() == "/204" { 204 } else { 500 }, "")
    })
    .await;
    let silent = Origin::silent().await;
    for (address, path) in [
        (nowhere().await, "/"),
        (failing.address, "/500"),
        (failing.address, "/204"),
        (silent.address, "/"),
    ] {
        let get = format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n");
        let mut check = by_http();
        check.timeout = Duration::from_millis(200);
        check.on_error = OnCheckError::Deny(503);
        let closed = proxy(Http1, origin.address, check.clone(), address).await;
        let answer = ask(&closed, &get).await;
        assert_eq!((answer.status, answer.body.len()), (503, 0), "{path}");
        check.on_error = OnCheckError::Allow;
        let open = proxy(Http1, origin.address, check, address).await;
        assert_eq!(ask(&open, &get).await.status, 200, "{path}");
    }
    assert_eq!(origin.seen().len(), 4);
}

#[tokio::test]
async fn a_body_is_shown_and_still_reaches_the_application() {
    let origin = Origin::ok().await;
    let authz = Origin::ok().await;
    let body = |most, partial| {
        let mut check = by_http();
        check.body = Some(CheckBody {
            most,
            partial,
            raw: false,
        });
        check
    };
    let long = "x".repeat(200_000);
    let post = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 200000\r\n\r\n{long}");
    let part = proxy(Http1, origin.address, body(100_000, true), authz.address).await;
    assert_eq!(ask(&part, &post).await.status, 200);
    let asked = authz.only();
    assert_eq!(asked.body.len(), 100_000);
    assert_eq!(asked.values("x-envoy-auth-partial-body"), ["true"]);
    assert_eq!(origin.only().body, long.as_bytes());

    let whole = proxy(Http1, origin.address, body(100_000, false), authz.address).await;
    let mut client = Client::connect(whole.address("in")).await;
    client.send(&post[..post.len() - 90_000]).await;
    let refused = client.response().await;
    assert_eq!(refused.status, 413);
    assert_eq!(refused.text(), "Payload Too Large");

    let chunked = "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n\
                   Transfer-Encoding: chunked\r\n\r\n";
    let mut client = Client::connect(whole.address("in")).await;
    client.send(chunked).await;
    assert_eq!(client.head().await.status, 100);
    client.send("3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n").await;
    assert_eq!(client.response().await.status, 200);
    let asked = authz.seen().pop().unwrap();
    assert_eq!(asked.body, b"abcde");
    assert_eq!(asked.values("x-envoy-auth-partial-body"), ["false"]);
    let sent = origin.seen().pop().unwrap();
    assert_eq!(
        (sent.body.as_slice(), sent.values("expect").len()),
        (&b"abcde"[..], 0)
    );
}

/// A field of protobuf that holds bytes.
fn field(tag: u8, bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![tag << 3 | 2];
    prost::encoding::encode_varint(bytes.len() as u64, &mut out);
    out.extend(bytes);
    out
}

/// `HeaderValueOption` of a header; `append` as it is written, if it is.
fn option(name: &str, value: &str, append: Option<bool>) -> Vec<u8> {
    let mut out = field(
        1,
        &[field(1, name.as_bytes()), field(2, value.as_bytes())].concat(),
    );
    if let Some(append) = append {
        out.extend(field(2, if append { &[8, 1] } else { &[] }));
    }
    out
}

/// Answers every question with this message, and keeps the questions.
async fn service(answer: Vec<u8>) -> (Http2Origin, Arc<Mutex<Vec<Vec<u8>>>>) {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let keep = Arc::clone(&asked);
    let origin = Http2Origin::serving(move |mut call| {
        let (keep, answer) = (Arc::clone(&keep), answer.clone());
        async move {
            let path = "/envoy.service.auth.v3.Authorization/Check";
            assert_eq!(call.request.uri().path(), path);
            let question = call.body().await;
            keep.lock().unwrap().push(question[5..].to_vec());
            let mut out = call.begin();
            let length = u32::try_from(answer.len()).unwrap().to_be_bytes();
            let framed = [&[0][..], &length, &answer].concat();
            send(&mut out, framed.into()).await.unwrap();
            out.send_trailers(grpc_trailers(0)).unwrap();
        }
    })
    .await;
    (origin, asked)
}

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes
        .windows(text.len())
        .any(|window| window == text.as_bytes())
}

#[tokio::test]
async fn grpc_shows_the_request_and_changes_its_headers() {
    let origin = Origin::ok().await;
    let ok = [
        field(2, &option("x-user", "bob", None)),
        field(2, &option("x-groups", "two", Some(true))),
        field(5, b"x-drop"),
        field(6, &option("x-client", "1", None)),
    ]
    .concat();
    let (authz, asked) = service([field(1, &[]), field(3, &ok)].concat()).await;
    let mut check = by_grpc();
    check.body = Some(CheckBody {
        most: 100,
        partial: false,
        raw: false,
    });
    let proxy = proxy(Http1, origin.address, check, authz.address).await;
    let answer = ask(&proxy, POST).await;
    assert_eq!((answer.status, answer.header("x-client")), (200, Some("1")));
    let sent = origin.only();
    assert_eq!(sent.values("x-user"), ["bob"]);
    assert_eq!(sent.values("x-groups"), ["one,two"]);
    assert_eq!(
        (sent.values("x-drop").len(), sent.body.as_slice()),
        (0, &b"body"[..])
    );
    let asked = asked.lock().unwrap();
    for text in [
        "POST",
        "/a?b=1",
        "Bearer x",
        ":authority",
        "HTTP/1.1",
        "127.0.0.1",
        "body",
    ] {
        assert!(contains(&asked[0], text), "{text}");
    }
}

#[tokio::test]
async fn grpc_refusals_have_their_own_status_headers_and_body() {
    let origin = Origin::ok().await;
    let denied = [
        field(1, &[8, 0x91, 3]),
        field(2, &option("x-why", "me", None)),
        field(3, b"who"),
    ]
    .concat();
    let (authz, _) = service([field(1, &[8, 7]), field(2, &denied)].concat()).await;
    let plain = proxy(Http1, origin.address, by_grpc(), authz.address).await;
    let answer = ask(&plain, POST).await;
    assert_eq!((answer.status, answer.text().as_str()), (401, "who"));
    assert_eq!(answer.header("x-why"), Some("me"));

    let http2 = Http2Origin::echo().await;
    let calls = proxy(Http2, http2.address, by_grpc(), authz.address).await;
    let mut client = Http2Client::connect(calls.address("in")).await;
    let answer = client.call(grpc("/a/b"), b"x").await;
    assert_eq!(answer.head.status(), 200);
    assert_eq!(answer.header("grpc-status"), Some("16"));
    assert_eq!(answer.header("grpc-message"), Some("who"));
    assert!(answer.body.is_empty() && answer.trailers.is_none());

    let (bare, _) = service(field(1, &[8, 7])).await;
    let bare = proxy(Http1, origin.address, by_grpc(), bare.address).await;
    assert_eq!(ask(&bare, POST).await.status, 403);
    assert_eq!(origin.seen().len(), 0);
}

#[tokio::test]
async fn connections_of_bytes_are_asked_about_too() {
    let origin = Origin::echo().await;
    for (status, lets_pass) in [(vec![], true), (vec![8, 7], false)] {
        let (authz, asked) = service(field(1, &status)).await;
        let clusters = vec![cluster("origin", Tcp, &[origin.address])];
        let plan = snapshot(vec![tcp("in", "origin")], clusters);
        let proxy = Proxy::start(asking(plan, by_grpc(), authz.address)).await;
        let mut client = Client::connect(proxy.address("in")).await;
        client.send("hello").await;
        match lets_pass {
            true => assert_eq!(client.take(5).await, b"hello"),
            false => assert_eq!(client.rest().await, b""),
        }
        assert!(contains(&asked.lock().unwrap()[0], "127.0.0.1"));
    }
}

#[tokio::test]
async fn what_a_service_cannot_decide_is_no_answer() {
    let origin = Origin::ok().await;
    let undecided = field(5, &[field(1, &[8, 0xf7, 3]), field(3, b"later")].concat());
    let other_query = field(3, &field(7, &[field(1, b"a"), field(2, b"b")].concat()));
    for (message, status, body) in [
        ([field(1, &[8, 13]), undecided].concat(), 503, "later"),
        (other_query, 403, ""),
        (vec![0xff], 403, ""),
    ] {
        let (authz, _) = service(message).await;
        let proxy = proxy(Http1, origin.address, by_grpc(), authz.address).await;
        let answer = ask(&proxy, POST).await;
        assert_eq!((answer.status, answer.text().as_str()), (status, body));
    }
    assert_eq!(origin.seen().len(), 0);
}
