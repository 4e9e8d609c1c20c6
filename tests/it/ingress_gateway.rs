//! An ingress gateway on real Consul: what its entry says about hosts, headers, limits and
//! certificates, as Consul's Envoy does it.

use http::{Request, StatusCode};
use meridian_tests::client::grpc;
use meridian_tests::client::{Connection, Protocol, Reply, empty, get, loopback};
use meridian_tests::consul::{Consul, Service};
use meridian_tests::entry_gateway::{EntryGateway, Kind};
use meridian_tests::handshake;
use meridian_tests::origin::{Origin, Seen, TcpOrigin};
use meridian_tests::sidecar::{self, Sidecar};
use meridian_tests::wait::{self, PATIENCE};
use meridian_tests::world::{World, isolated, listens};
use rustls::ProtocolVersion;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

const HTTP: u16 = 9999;
const OTHER: u16 = 9998;
const TCP: u16 = 9997;
const GRPC: u16 = 9996;

#[test]
fn hosts_lead_to_services_and_their_headers_are_changed() {
    isolated("ingress http", async |world| {
        let (consul, _mesh) = mesh(world).await;
        let headers = json!({
            "Add": {"x-added": "too"},
            "Set": {"x-client-ip": "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%", "x-host": "%REQ(:authority)%"},
            "Remove": ["x-bad"],
        });
        let one = json!({"Name": "one", "RequestHeaders": headers, "ResponseHeaders": {"Set": {"x-seen": "yes"}}});
        let two = json!({"Name": "two", "Hosts": ["two.test", "*.two.test"]});
        entry(
            &consul,
            json!([
                {"Port": HTTP, "Protocol": "http", "Services": [one, two]},
                {"Port": OTHER, "Protocol": "http", "Services": [{"Name": "*"}]},
                {"Port": TCP, "Protocol": "tcp", "Services": [{"Name": "tcp"}]},
                {"Port": GRPC, "Protocol": "grpc", "Services": [{"Name": "grpc", "Hosts": ["*"]}]},
            ]),
        )
        .await;
        let ports = [8443, HTTP, OTHER, TCP, GRPC];
        let mut gateway = EntryGateway::start(world, Kind::Ingress, "edge", &ports).await;
        answers(HTTP, "one.ingress.consul", "one").await;
        answers(HTTP, "two.test", "two").await;
        answers(OTHER, "two.ingress.any.where:1234", "two").await;
        for (host, status) in [
            ("one.ingress.dc1.consul", 200),
            ("ONE.ingress.consul:80", 200),
            ("a.two.test:9999", 200),
            ("two.test:80", 404),
            ("two.ingress.consul", 404),
            ("nobody.test", 404),
        ] {
            assert_eq!(ask(HTTP, host, "/").await.status, status, "{host}");
        }
        headers_are_changed().await;
        assert_eq!(bytes_through_tcp().await, b"echo");
        let call = grpc::unary(loopback(GRPC), "/echo.Echo/Unary", b"question").await;
        let (answer, trailers) = call.expect("a unary call");
        assert_eq!(answer, &b"question"[..]);
        assert_eq!(trailers["grpc-status"], "0");

        gateway.restart(world, &ports).await;
        answers(HTTP, "two.test", "two").await;
        entry(
            &consul,
            json!([
                {"Port": OTHER, "Protocol": "http", "Services": [{"Name": "two", "Hosts": ["*"]}]},
            ]),
        )
        .await;
        answers(OTHER, "whatever.test", "two").await;
        wait::holds("removed listeners close", PATIENCE, async || {
            !listens(HTTP) && !listens(TCP)
        })
        .await;
        consul.deregister("two").await;
        wait::until("a service without instances", PATIENCE, async || {
            let reply = ask(OTHER, "whatever.test", "/").await;
            let expected = reply.status == 503 && reply.text() == "no healthy upstream";
            expected.then_some(()).ok_or_else(|| reply.text())
        })
        .await;
    });
}

#[test]
fn a_services_own_limits_win_over_the_defaults() {
    isolated("ingress limits", async |world| {
        let (consul, (origins, _tcp, _sidecars)) = mesh(world).await;
        consul
            .config_entry(json!({
                "Kind": "ingress-gateway", "Name": "edge",
                "Defaults": {"MaxConnections": 20, "MaxPendingRequests": 20},
                "Listeners": [{"Port": HTTP, "Protocol": "http", "Services": [
                    {"Name": "one", "MaxConnections": 1, "MaxPendingRequests": 1},
                    {"Name": "two"},
                ]}],
            }))
            .await;
        let _gateway = EntryGateway::start(world, Kind::Ingress, "edge", &[HTTP]).await;
        answers(HTTP, "one.ingress.test", "one").await;
        answers(HTTP, "two.ingress.test", "two").await;
        assert_eq!(passed_of_five("one.ingress.test", &origins[0]).await, 2);
        assert_eq!(passed_of_five("two.ingress.test", &origins[1]).await, 5);
    });
}

#[test]
fn its_certificate_has_the_names_of_its_hosts() {
    isolated("ingress tls", async |world| {
        let (consul, _mesh) = mesh(world).await;
        let listeners = |host: &str| {
            json!([
                {"Port": HTTP, "Protocol": "http", "Services": [{"Name": "one", "Hosts": [host]}]},
                {"Port": TCP, "Protocol": "tcp", "Services": [{"Name": "tcp"}], "TLS": {
                    "TLSMaxVersion": "TLSv1_2",
                    "CipherSuites": ["TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"],
                }},
            ])
        };
        secure_entry(&consul, listeners("one.test")).await;
        let mut gateway = EntryGateway::start(world, Kind::Ingress, "edge", &[HTTP, TCP]).await;
        let spiffe = consul.spiffe_id("edge").await;
        for port in [HTTP, TCP] {
            let names = handshake::names(loopback(port), "one.test").await;
            let names = names.expect("a certificate");
            for name in [
                "*.ingress.consul.",
                "*.ingress.dc1.consul.",
                "one.test",
                &spiffe,
            ] {
                assert!(names.iter().any(|found| found == name), "{name}: {names:?}");
            }
        }
        for (port, version) in [
            (HTTP, ProtocolVersion::TLSv1_3),
            (TCP, ProtocolVersion::TLSv1_2),
        ] {
            let stream = handshake::connect_to(loopback(port), "one.test").await;
            let stream = stream.expect("a TLS connection");
            assert_eq!(stream.get_ref().1.protocol_version(), Some(version));
        }
        let stream = handshake::connect_to(loopback(HTTP), "one.test").await;
        let stream = stream.expect("a TLS connection");
        let authority = "one.test".parse().expect("an authority");
        let mut connection = Connection::over(stream, Protocol::Http1, authority)
            .await
            .expect("HTTP over TLS");
        wait::until("a reply over TLS", PATIENCE, async || {
            let reply = connection
                .get("/")
                .await
                .map_err(|error| error.to_string())?;
            Seen::from_reply(&reply).map(drop)
        })
        .await;

        secure_entry(&consul, listeners("later.test")).await;
        named(HTTP, "later.test").await;
        assert_eq!(rejected(&gateway).await, Vec::<String>::new());
        gateway.restart(world, &[HTTP, TCP]).await;
        let names = handshake::names(loopback(HTTP), "later.test").await;
        let names = names.expect("a certificate");
        assert!(names.contains(&"later.test".to_owned()), "{names:?}");
    });
}

#[test]
fn without_grpc_its_certificate_has_no_names_and_that_is_said() {
    isolated("ingress without grpc", async |world| {
        let ports = json!({"ports": {"grpc": -1, "grpc_tls": -1, "serf_wan": -1}});
        let consul = Consul::start_with(world, ports).await;
        secure_entry(
            &consul,
            json!([
                {"Port": TCP, "Protocol": "tcp", "Services": [{"Name": "tcp"}]},
            ]),
        )
        .await;
        let gateway = EntryGateway::start(world, Kind::Ingress, "edge", &[TCP]).await;
        let names = handshake::names(loopback(TCP), "one.test").await;
        let spiffe = consul.spiffe_id("edge").await;
        assert_eq!(names.expect("a certificate"), [spiffe]);
        let rejected = rejected(&gateway).await;
        assert!(rejected[0].contains("no DNS names"), "{rejected:?}");
    });
}

/// What runs as long as it is held.
type Mesh = (Vec<Origin>, TcpOrigin, Vec<Sidecar>);

/// Two HTTP services, one of bytes and one of gRPC, with sidecars.
async fn mesh(world: &World) -> (Consul, Mesh) {
    let consul = Consul::start(world).await;
    let mut origins = Vec::new();
    let mut sidecars = Vec::new();
    for (number, name) in (1..).zip(["one", "two", "tcp", "grpc"]) {
        let service = Service::new(name, 8000 + number).sidecar(21000 + number);
        if name != "tcp" {
            let protocol = if name == "grpc" { "grpc" } else { "http" };
            consul.protocol(name, protocol).await;
            origins.push(Origin::start(name, service.port).await);
        }
        consul.register(&service).await;
        sidecars.push(Sidecar::launch(world, sidecar::Kind::Meshd, &service));
    }
    let tcp = TcpOrigin::start(8003).await;
    for sidecar in &mut sidecars {
        sidecar.ready().await;
    }
    for name in ["one", "two", "tcp", "grpc"] {
        consul.passing(name, 1).await;
    }
    (consul, (origins, tcp, sidecars))
}

async fn entry(consul: &Consul, listeners: Value) {
    let kind = "ingress-gateway";
    consul
        .config_entry(json!({"Kind": kind, "Name": "edge", "Listeners": listeners}))
        .await;
}

async fn secure_entry(consul: &Consul, listeners: Value) {
    let (kind, tls) = ("ingress-gateway", json!({"Enabled": true}));
    consul
        .config_entry(json!({"Kind": kind, "Name": "edge", "TLS": tls, "Listeners": listeners}))
        .await;
}

async fn ask(port: u16, host: &str, path: &str) -> Reply {
    let mut connection = Connection::open(loopback(port), Protocol::Http1)
        .await
        .expect("a connection")
        .authority(host);
    connection.get(path).await.expect("a reply")
}

/// Waits until a host leads to an origin.
async fn answers(port: u16, host: &str, origin: &str) {
    wait::until(&format!("{host} on {port}"), PATIENCE, async || {
        let reply = get_as(port, host).await?;
        let seen = Seen::from_reply(&reply)?;
        (seen.origin == origin).then_some(()).ok_or(seen.origin)
    })
    .await;
}

async fn get_as(port: u16, host: &str) -> Result<Reply, String> {
    let connection = Connection::open(loopback(port), Protocol::Http1).await;
    let connection = connection.map_err(|error| error.to_string())?;
    let reply = connection.authority(host).get("/").await;
    reply.map_err(|error| error.to_string())
}

async fn headers_are_changed() {
    let request = Request::get("/")
        .header("x-bad", "1")
        .header("x-added", "one")
        .body(empty())
        .expect("a request");
    let mut connection = Connection::open(loopback(HTTP), Protocol::Http1)
        .await
        .expect("a connection")
        .authority("one.ingress.consul");
    let reply = connection.send(request).await.expect("a reply");
    assert_eq!(reply.headers["x-seen"], "yes");
    let seen = Seen::from_reply(&reply).expect("a report");
    assert_eq!(seen.header("x-client-ip"), ["127.0.0.1"]);
    assert_eq!(seen.header("x-host"), ["one.ingress.consul"]);
    assert_eq!(seen.header("x-added"), ["one", "too"]);
    assert!(seen.header("x-bad").is_empty());
}

async fn bytes_through_tcp() -> Vec<u8> {
    wait::until("bytes through TCP", PATIENCE, async || {
        let mut stream = TcpStream::connect(loopback(TCP)).await?;
        stream.write_all(b"echo").await?;
        let mut echo = [0; 4];
        stream.read_exact(&mut echo).await?;
        Ok::<_, std::io::Error>(echo.to_vec())
    })
    .await
}

/// How many of five requests are let through, four of which come while the first is answered.
async fn passed_of_five(host: &str, origin: &Origin) -> usize {
    let before = origin.requests();
    let mut asked = vec![slow(host)];
    wait::holds("the first has its connection", PATIENCE, async || {
        origin.requests() > before
    })
    .await;
    asked.extend((0..4).map(|_| slow(host)));
    let mut passed = 0;
    for one in asked {
        match one.await.expect("no panic").as_u16() {
            200 => passed += 1,
            other => assert_eq!(other, 503, "{host}"),
        }
    }
    passed
}

fn slow(host: &str) -> JoinHandle<StatusCode> {
    let host = host.to_owned();
    tokio::spawn(async move { ask(HTTP, &host, "/?delay=2000").await.status })
}

async fn named(port: u16, host: &str) {
    wait::until(&format!("a certificate for {host}"), PATIENCE, async || {
        let names = handshake::names(loopback(port), host).await;
        let names = names.map_err(|error| error.to_string())?;
        let found = names.iter().any(|name| name == host);
        found.then_some(()).ok_or_else(|| format!("{names:?}"))
    })
    .await;
}

/// Reasons of what the gateway rejects.
async fn rejected(gateway: &EntryGateway) -> Vec<String> {
    let snapshot = gateway.admin.snapshot().await;
    let rejected = snapshot["rejected"].as_array().cloned().unwrap_or_default();
    rejected
        .iter()
        .map(|one| one["reason"].to_string())
        .collect()
}

#[test]
fn a_gateway_without_an_entry_is_ready_and_opens_its_check_alone() {
    isolated("ingress without entry", async |world| {
        let _consul = Consul::start(world).await;
        let _gateway = EntryGateway::start(world, Kind::Ingress, "edge", &[8443]).await;
        assert!(get(HTTP, Protocol::Http1, "/").await.is_err());
    });
}
