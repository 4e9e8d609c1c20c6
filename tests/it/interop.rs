//! Meridian's sidecar and a real Envoy at either end of a mesh connection, on a
//! real Consul: TCP, HTTP/1.1, HTTP/2 and gRPC mean the same in all four pairs.
//!
//! The pair of two Envoys holds the tests themselves to the truth.

use std::io::ErrorKind;

use http::{HeaderMap, HeaderValue, Request};
use meridian_tests::client::grpc::{self, Call};
use meridian_tests::client::{Connection, Protocol, full, get, loopback};
use meridian_tests::consul::{Consul, Service};
use meridian_tests::origin::{FAREWELL, Origin, RESET, Seen, TcpOrigin};
use meridian_tests::sidecar::{Kind, Sidecar};
use meridian_tests::wait::{self, PATIENCE};
use meridian_tests::world::{World, isolated};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Where the caller's sidecar offers each destination.
const TCP: u16 = 5001;
const HTTP: u16 = 5002;
const HTTP2: u16 = 5003;
const GRPC: u16 = 5004;

/// More than the buffers of both proxies together, so that flow control works.
const LARGE: usize = 4 << 20;

#[test]
fn every_protocol_crosses_from_envoy_to_envoy() {
    cross(Kind::Envoy, Kind::Envoy);
}

#[test]
fn every_protocol_crosses_from_envoy_to_meshd() {
    cross(Kind::Envoy, Kind::Meshd);
}

#[test]
fn every_protocol_crosses_from_meshd_to_envoy() {
    cross(Kind::Meshd, Kind::Envoy);
}

#[test]
fn every_protocol_crosses_from_meshd_to_meshd() {
    cross(Kind::Meshd, Kind::Meshd);
}

#[test]
fn a_reset_of_the_origin_reaches_the_client_as_a_reset() {
    isolated("reset", async |world| {
        let _mesh = Mesh::start(world, Kind::Meshd, Kind::Meshd).await;
        let mut stream = TcpStream::connect(loopback(TCP))
            .await
            .expect("a connection");
        stream.write_all(RESET).await.expect("an open connection");
        let end = stream.read_to_end(&mut Vec::new()).await;
        let kind = end.map_err(|error| error.kind());
        assert_eq!(
            kind,
            Err(ErrorKind::ConnectionReset),
            "not as an end in good order"
        );
    });
}

fn cross(caller: Kind, callee: Kind) {
    isolated(&format!("{caller:?} to {callee:?}"), async move |world| {
        let mesh = Mesh::start(world, caller, callee).await;
        tcp_keeps_half_close().await;
        tcp_carries_much().await;
        http_keeps_its_meaning(&mesh.consul).await;
        http_carries_large_bodies().await;
        http2_reaches_the_origin_as_http2().await;
        grpc_unary_has_trailers().await;
        grpc_streams_both_ways_at_once().await;
        trailers_of_a_request_reach_the_origin().await;
    });
}

/// One caller and a destination for each protocol.
struct Mesh {
    consul: Consul,
    _origins: Vec<Origin>,
    _tcp: TcpOrigin,
    _sidecars: Vec<Sidecar>,
}

impl Mesh {
    async fn start(world: &World, caller: Kind, callee: Kind) -> Self {
        let consul = Consul::start(world).await;
        for (service, protocol) in [("http", "http"), ("http2", "http2"), ("grpc", "grpc")] {
            consul.protocol(service, protocol).await;
        }
        let mut sidecars = Vec::new();
        let mut origins = Vec::new();
        for (number, name) in (1..).zip(["tcp", "http", "http2", "grpc"]) {
            let service = Service::new(name, 8000 + number).sidecar(21000 + number);
            consul.register(&service).await;
            sidecars.push(Sidecar::launch(world, callee, &service));
            if name != "tcp" {
                origins.push(Origin::start(name, service.port).await);
            }
        }
        let service = Service::new("caller", 8000)
            .sidecar(21000)
            .upstream("tcp", TCP)
            .upstream("http", HTTP)
            .upstream("http2", HTTP2)
            .upstream("grpc", GRPC);
        consul.register(&service).await;
        sidecars.push(Sidecar::launch(world, caller, &service));
        let tcp = TcpOrigin::start(8001).await;
        for sidecar in &mut sidecars {
            sidecar.ready().await;
        }
        settled(&consul).await;
        Self {
            consul,
            _origins: origins,
            _tcp: tcp,
            _sidecars: sidecars,
        }
    }
}

/// Waits until each destination answers: health takes a moment to get around.
async fn settled(consul: &Consul) {
    for service in ["tcp", "http", "http2", "grpc"] {
        consul.passing(service, 1).await;
    }
    wait::until("TCP destination", PATIENCE, async || exchange(b"x").await).await;
    for (port, protocol) in [(HTTP, Protocol::Http1), (HTTP2, Protocol::Http2)] {
        wait::until("HTTP destination", PATIENCE, async || {
            let reply = get(port, protocol, "/")
                .await
                .map_err(|error| error.to_string())?;
            Seen::from_reply(&reply)
        })
        .await;
    }
    wait::until("gRPC destination", PATIENCE, async || {
        grpc::unary(loopback(GRPC), "/echo.Echo/Unary", b"x").await
    })
    .await;
}

/// Sends, closes the outgoing direction, and reads to the end.
async fn exchange(bytes: &[u8]) -> Result<Vec<u8>, String> {
    let stream = TcpStream::connect(loopback(TCP)).await;
    let (mut reader, mut writer) = stream.map_err(|error| error.to_string())?.into_split();
    let mut answer = Vec::new();
    let send = async {
        writer.write_all(bytes).await?;
        writer.shutdown().await
    };
    let (sent, received) = tokio::join!(send, reader.read_to_end(&mut answer));
    sent.and(received).map_err(|error| error.to_string())?;
    if answer.is_empty() {
        Err("closed without a byte".to_owned())
    } else {
        Ok(answer)
    }
}

async fn tcp_keeps_half_close() {
    let answer = exchange(b"hello").await.expect("an answer over TCP");
    assert_eq!(
        answer,
        [b"hello", FAREWELL].concat(),
        "echo, then what follows the end of input"
    );
}

async fn tcp_carries_much() {
    let bytes: Vec<u8> = (0..LARGE).map(|index| (index % 251) as u8).collect();
    let answer = exchange(&bytes).await.expect("an answer over TCP");
    assert!(
        answer == [&bytes[..], FAREWELL].concat(),
        "the bytes came back changed"
    );
}

async fn http_keeps_its_meaning(consul: &Consul) {
    let mut connection = Connection::open(loopback(HTTP), Protocol::Http1)
        .await
        .expect("HTTP/1.1");
    let request = Request::put("/a/b?x=1&y=%20z")
        .header("x-two", "1")
        .header("x-two", "2")
        .body(full("hello"))
        .expect("a request");
    let reply = connection.send(request).await.expect("a reply");
    let seen = Seen::from_reply(&reply).expect("the origin's report");
    assert_eq!(seen.version, "HTTP/1.1");
    assert_eq!(
        (seen.method.as_str(), seen.target.as_str()),
        ("PUT", "/a/b?x=1&y=%20z")
    );
    assert_eq!(seen.body, "hello");
    assert_eq!(seen.header("x-two").join(",").replace(' ', ""), "1,2");

    let caller = format!("URI={}", consul.spiffe_id("caller").await);
    let forwarded = seen.header("x-forwarded-client-cert").join(",");
    let last = forwarded.rsplit(',').next().unwrap_or_default();
    assert!(
        last.contains(&caller),
        "the caller's identity is missing: {forwarded:?}"
    );

    let reply = connection
        .get("/?status=418")
        .await
        .expect("a reply on the same connection");
    assert_eq!(reply.status, 418);
}

async fn http_carries_large_bodies() {
    let path = format!("/?size={LARGE}");
    for (port, protocol) in [(HTTP, Protocol::Http1), (HTTP2, Protocol::Http2)] {
        let reply = get(port, protocol, &path).await.expect("a large reply");
        assert_eq!(reply.body.len(), LARGE, "{protocol:?}");
        let mut connection = Connection::open(loopback(port), protocol)
            .await
            .expect("a connection");
        let request = Request::post("/")
            .body(full("y".repeat(LARGE)))
            .expect("a request");
        let reply = connection
            .send(request)
            .await
            .expect("a reply to a large request");
        let seen = Seen::from_reply(&reply).expect("the origin's report");
        assert_eq!(seen.body.len(), LARGE, "{protocol:?}");
    }
}

async fn http2_reaches_the_origin_as_http2() {
    let reply = get(HTTP2, Protocol::Http2, "/two")
        .await
        .expect("a reply over HTTP/2");
    let seen = Seen::from_reply(&reply).expect("the origin's report");
    assert_eq!(
        (seen.version.as_str(), seen.target.as_str()),
        ("HTTP/2.0", "/two")
    );
}

async fn grpc_unary_has_trailers() {
    let call = grpc::unary(loopback(GRPC), "/echo.Echo/Unary", b"question").await;
    let (answer, trailers) = call.expect("a unary call");
    assert_eq!(answer, &b"question"[..]);
    assert_eq!(trailers["grpc-status"], "0");
    assert_eq!(trailers["seen-te"], "trailers");
}

async fn grpc_streams_both_ways_at_once() {
    let mut call = Call::start(loopback(GRPC), "/echo.Echo/Stream")
        .await
        .expect("a streaming call");
    for round in 0..10 {
        let message = format!("message {round}");
        call.send(message.as_bytes())
            .await
            .expect("room for a message");
        let echoed = call.message().await.expect("the stream goes on");
        assert_eq!(
            echoed.as_deref(),
            Some(message.as_bytes()),
            "before the next one is sent"
        );
    }
    let trailers = call.finish().await.expect("trailers");
    assert_eq!(trailers["grpc-status"], "0");
}

/// The origin sends those of the request back among its own.
async fn trailers_of_a_request_reach_the_origin() {
    let mut sent = HeaderMap::new();
    sent.insert("x-checksum", HeaderValue::from_static("17"));
    let path = "/echo.Echo/Unary";
    let call = grpc::unary_with(loopback(GRPC), path, b"question", Some(sent)).await;
    let (answer, trailers) = call.expect("a call with trailers");
    assert_eq!(answer, &b"question"[..]);
    assert_eq!(trailers["x-checksum"], "17");
    assert_eq!(trailers["grpc-status"], "0");
}
