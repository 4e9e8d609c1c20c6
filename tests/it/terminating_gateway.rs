//! A terminating gateway, on a real Consul: what callers in the mesh reach outside of it, under
//! which name and with whose certificates, and who is kept from it.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use http::Method;
use meridian_tests::admin::Metrics;
use meridian_tests::certs::{Authority, Identity, TRUST_DOMAIN};
use meridian_tests::client::{Connection, Protocol, get, loopback};
use meridian_tests::consul::{Consul, Service};
use meridian_tests::handshake;
use meridian_tests::origin::{FAREWELL, NameServer, Origin, Seen, TcpOrigin, TlsFront};
use meridian_tests::sidecar::{Kind, Sidecar};
use meridian_tests::terminating::{self, TerminatingGateway};
use meridian_tests::wait::{self, PATIENCE};
use meridian_tests::world::{World, isolated};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Where the caller's sidecar offers what lies outside.
const TCP: u16 = 5001;
const HTTP: u16 = 5002;
const NAMED: u16 = 5003;
const TLS: u16 = 5004;
const MTLS: u16 = 5005;
const WRONG_NAME: u16 = 5006;
const WRONG_AUTHORITY: u16 = 5007;
const SUBSET: u16 = 5008;

/// Port of the origins behind a name.
const ORIGIN: u16 = 8100;

#[test]
fn every_kind_of_service_is_reached_from_meshd_through_meshd() {
    cross(Kind::Meshd, Kind::Meshd);
}

#[test]
fn every_kind_of_service_is_reached_from_envoy_through_meshd() {
    cross(Kind::Envoy, Kind::Meshd);
}

#[test]
fn every_kind_of_service_is_reached_from_meshd_through_envoy() {
    cross(Kind::Meshd, Kind::Envoy);
}

fn cross(caller: Kind, gateway: Kind) {
    let title = format!("{caller:?} through {gateway:?}");
    isolated(&title, async move |world| {
        let stage = Stage::start(world, caller, gateway).await;
        assert_eq!(
            exchange(b"hello").await.expect("an answer over TCP"),
            [b"hello", FAREWELL].concat()
        );
        let seen = seen(HTTP, "/a/../b?x=1").await.expect("a report");
        assert_eq!(seen.origin, "plain");
        assert_eq!(seen.target, "/a/../b?x=1", "left as it came");
        assert_eq!(seen.header("host"), [format!("127.0.0.1:{HTTP}")]);
        let caller = format!("URI={}", stage.consul.spiffe_id("caller").await);
        let forwarded = seen.header("x-forwarded-client-cert").join(",");
        assert!(forwarded.contains(&caller), "{forwarded:?}");
        let named = self::seen(NAMED, "/").await.expect("a report by name");
        assert_eq!(named.origin, "first");
        assert_eq!(named.header("host"), ["named.test"]);
        stage.tls_is_as_the_link_says().await;
        stage.subset_is_one_of_two().await;
    });
}

#[test]
fn a_server_that_is_not_the_right_one_is_refused_for_its_reason() {
    isolated("refusals", async |world| {
        let stage = Stage::start(world, Kind::Meshd, Kind::Meshd).await;
        let cases = [
            (WRONG_NAME, "wrong_identity"),
            (WRONG_AUTHORITY, "unknown_issuer"),
        ];
        for (port, result) in cases {
            let before = stage.refusals(result).await;
            let reply = get(port, Protocol::Http1, "/").await.expect("an answer");
            assert_eq!(reply.status, 503, "{result}");
            wait::until(result, PATIENCE, async || {
                let now = stage.refusals(result).await;
                let logged = stage.gateway.process.log().contains(result);
                (now > before && logged)
                    .then_some(())
                    .ok_or_else(|| format!("{before} became {now}, logged: {logged}"))
            })
            .await;
        }
        stage.files_are_read_again().await;
    });
}

#[test]
fn names_are_asked_for_again_and_outlive_a_failing_server() {
    isolated("names", async |world| {
        let stage = Stage::start(world, Kind::Meshd, Kind::Meshd).await;
        let reaches = async |origin: &str| {
            let what = format!("{origin} is reached");
            wait::until(&what, PATIENCE, async || match seen(NAMED, "/").await {
                Ok(seen) if seen.origin == origin => Ok(()),
                Ok(seen) => Err(format!("{} answers", seen.origin)),
                Err(reason) => Err(reason),
            })
            .await;
        };
        reaches("first").await;
        stage.names.set("named.test", &[SECOND]);
        reaches("second").await;
        stage.names.fail(true);
        wait::until("the failure is named", PATIENCE, async || {
            let rejected = stage.gateway.admin.snapshot().await["rejected"].to_string();
            let named = rejected.contains("cannot resolve `named.test`");
            named.then_some(()).ok_or(rejected)
        })
        .await;
        reaches("second").await;
        stage.names.fail(false);
        stage.names.set("named.test", &[Ipv4Addr::LOCALHOST]);
        reaches("first").await;
    });
}

#[test]
fn intentions_and_links_act_on_what_is_open() {
    isolated("intentions", async |world| {
        let stage = Stage::start(world, Kind::Meshd, Kind::Meshd).await;
        let consul = &stage.consul;
        let mut open = opened().await;
        consul.intentions("tcp", &[("caller", "deny")]).await;
        ends(&mut open).await;
        consul.intentions("tcp", &[("caller", "allow")]).await;
        let mut open = opened().await;

        consul
            .config_entry(
                json!({"Kind": "service-intentions", "Name": "http", "Sources": [
                {"Name": "caller", "Permissions": [
                    {"Action": "deny", "HTTP": {"PathPrefix": "/secret"}},
                    {"Action": "allow", "HTTP": {"PathPrefix": "/"}}]}]}),
            )
            .await;
        let mut connection = Connection::open(loopback(HTTP), Protocol::Http1)
            .await
            .expect("a connection");
        for path in ["/secret", "/a/../secret"] {
            wait::until("the secret is kept", PATIENCE, async || {
                let reply = connection.get(path).await.map_err(|e| e.to_string())?;
                (reply.status == 403 && reply.text() == "RBAC: access denied")
                    .then_some(())
                    .ok_or_else(|| format!("{path}: {}", reply.status))
            })
            .await;
        }
        assert!(seen(HTTP, "/open").await.is_ok());

        // Unlinked, a service has nobody to stand for it; the others stay.
        stage.link(|name| name != "tcp").await;
        ends(&mut open).await;
        wait::until("tcp is gone", PATIENCE, async || {
            exchange(b"x").await.err().ok_or("it still answers")
        })
        .await;
        assert!(seen(HTTP, "/open").await.is_ok());
        stage.link(|_| true).await;
        wait::until("tcp is back", PATIENCE, async || exchange(b"x").await).await;
    });
}

#[test]
fn a_name_that_is_not_served_is_reset_and_the_check_passes() {
    isolated("unknown", async |world| {
        let consul = Consul::start(world).await;
        let names = NameServer::start().await;
        let file = NameServer::resolver_file(world);
        let gateway = TerminatingGateway::start(world, Kind::Meshd, &file).await;
        drop(names);
        // Without any service, and without a configuration entry.
        let refused = handshake::connect(loopback(terminating::PORT), None).await;
        let error = refused.expect_err("nobody is served");
        let kind = error
            .downcast_ref::<std::io::Error>()
            .map(std::io::Error::kind);
        assert_eq!(kind, Some(ErrorKind::ConnectionReset), "{error}");
        wait::until("the gateway's check passes", PATIENCE, async || {
            let path = format!("/v1/health/service/{}?passing", terminating::NAME);
            let found = consul.api(Method::GET, &path, None).await;
            let found = found.as_array().map_or(0, Vec::len);
            (found == 1).then_some(()).ok_or(found)
        })
        .await;
        assert_eq!(gateway.admin.ready().await, Ok(200));
    });
}

const SECOND: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

/// Services outside, a gateway before them, and a caller in the mesh.
struct Stage {
    consul: Consul,
    names: NameServer,
    gateway: TerminatingGateway,
    tls: TlsFront,
    mtls: TlsFront,
    ours: Identity,
    files: Files,
    _sidecar: Sidecar,
    _origins: Vec<Origin>,
    _tcp: TcpOrigin,
}

/// Files beside the gateway.
struct Files {
    authority: PathBuf,
    other_authority: PathBuf,
    certificate: PathBuf,
    key: PathBuf,
}

impl Stage {
    async fn start(world: &World, caller: Kind, kind: Kind) -> Self {
        let consul = Consul::start(world).await;
        let names = NameServer::start().await;
        names.set("named.test", &[Ipv4Addr::LOCALHOST]);
        let plain = Origin::start("plain", 0).await;
        let first = Origin::start("first", ORIGIN).await;
        let second = Origin::at("second", SocketAddr::from((SECOND, ORIGIN))).await;
        let tcp = TcpOrigin::start(0).await;

        let authority = Authority::new(TRUST_DOMAIN);
        let ours = authority.host_leaf("gateway.test");
        let files = Files {
            authority: world.write("authority.pem", &authority.root_pem()),
            other_authority: world.write("other.pem", &Authority::new(TRUST_DOMAIN).root_pem()),
            certificate: world.write("ours.pem", &ours.chain_pem()),
            key: world.write("ours.key", &ours.key_pem()),
        };
        let server = authority.host_leaf("out.test");
        let tls = TlsFront::start(plain.address(), server.clone(), None).await;
        let mtls = TlsFront::start(plain.address(), server, Some(authority.root())).await;

        for (name, at) in [
            ("tcp", tcp.address()),
            ("http", plain.address()),
            ("tls", tls.address()),
            ("mtls", mtls.address()),
            ("wrong-name", tls.address()),
            ("wrong-authority", tls.address()),
        ] {
            external(
                &consul,
                json!({"Name": name, "Port": at.port(), "Address": "127.0.0.1"}),
            )
            .await;
        }
        external(
            &consul,
            json!({"Name": "named", "Address": "named.test", "Port": ORIGIN}),
        )
        .await;
        for (id, at) in [("v1", first.address()), ("v2", second.address())] {
            let body = json!({"Name": "subset", "ID": id, "Address": at.ip().to_string(),
                "Port": at.port(), "Meta": {"version": id}});
            external(&consul, body).await;
        }
        consul
            .config_entry(json!({"Kind": "proxy-defaults", "Name": "global",
                "Config": {"protocol": "http"}}))
            .await;
        consul.protocol("tcp", "tcp").await;
        let v2 = json!({"v2": {"Filter": "Service.Meta.version == v2"}});
        consul
            .config_entry(json!({"Kind": "service-resolver", "Name": "subset",
                "DefaultSubset": "v2", "Subsets": v2}))
            .await;
        let gateway =
            TerminatingGateway::start(world, kind, &NameServer::resolver_file(world)).await;
        let sidecar = caller_of_all(world, &consul, caller).await;
        let stage = Self {
            consul,
            names,
            gateway,
            tls,
            mtls,
            ours,
            files,
            _sidecar: sidecar,
            _origins: vec![plain, first, second],
            _tcp: tcp,
        };
        stage.link(|_| true).await;
        stage.settled().await;
        stage
    }

    /// Links those services to the gateway, and no others.
    async fn link(&self, wanted: impl Fn(&str) -> bool) {
        let (authority, other) = (&self.files.authority, &self.files.other_authority);
        let all = [
            json!({"Name": "tcp"}),
            json!({"Name": "http"}),
            json!({"Name": "named"}),
            json!({"Name": "subset"}),
            json!({"Name": "tls", "CAFile": authority, "SNI": "out.test"}),
            json!({"Name": "mtls", "CAFile": authority, "SNI": "out.test",
                "CertFile": self.files.certificate, "KeyFile": self.files.key}),
            json!({"Name": "wrong-name", "CAFile": authority, "SNI": "other.test"}),
            json!({"Name": "wrong-authority", "CAFile": other, "SNI": "out.test"}),
        ];
        let linked: Vec<Value> = all
            .into_iter()
            .filter(|link| link["Name"].as_str().is_some_and(&wanted))
            .collect();
        self.consul
            .config_entry(
                json!({"Kind": "terminating-gateway", "Name": terminating::NAME,
                "Services": linked}),
            )
            .await;
    }

    /// Waits until everything that can answer does.
    async fn settled(&self) {
        wait::until("TCP outside", PATIENCE, async || exchange(b"x").await).await;
        for port in [HTTP, NAMED, TLS, MTLS] {
            let what = format!("what is behind {port}");
            wait::until(&what, PATIENCE, async || seen(port, "/").await).await;
        }
    }

    async fn tls_is_as_the_link_says(&self) {
        seen(TLS, "/").await.expect("a report over TLS");
        let greeted = self.tls.greeted().expect("a greeting");
        assert_eq!(greeted.name.as_deref(), Some("out.test"));
        assert_eq!(greeted.certificate, None);
        seen(MTLS, "/").await.expect("a report over mutual TLS");
        let greeted = self.mtls.greeted().expect("a greeting");
        assert_eq!(greeted.certificate.as_ref(), self.ours.chain.first());
        for port in [WRONG_NAME, WRONG_AUTHORITY] {
            let reply = get(port, Protocol::Http1, "/").await.expect("an answer");
            assert_eq!(reply.status, 503, "{port}");
        }
    }

    /// The sidecar asks Consul for gateways of the subset, and only knows them by their metadata.
    async fn subset_is_one_of_two(&self) {
        let entry = json!({"Name": terminating::NAME, "ID": terminating::NAME,
            "Kind": "terminating-gateway", "Address": "127.0.0.1", "Port": terminating::PORT,
            "Meta": {"version": "v2"}});
        external(&self.consul, entry).await;
        wait::until("the subset is reached", PATIENCE, async || {
            seen(SUBSET, "/").await
        })
        .await;
        for _ in 0..5 {
            let seen = seen(SUBSET, "/").await.expect("a report of the subset");
            assert_eq!(seen.origin, "second");
        }
    }

    /// The authority of `wrong-authority` becomes the right one.
    async fn files_are_read_again(&self) {
        let right = std::fs::read(&self.files.authority).expect("the authority");
        std::fs::write(&self.files.other_authority, right).expect("another authority");
        wait::until("the new authority", PATIENCE, async || {
            seen(WRONG_AUTHORITY, "/").await
        })
        .await;
    }

    async fn refusals(&self, result: &str) -> f64 {
        let metrics: Metrics = self.gateway.admin.metrics().await;
        let labels = [("side", "client"), ("result", result)];
        metrics.sum("meridian_tls_handshakes_total", &labels)
    }
}

/// Registers what lies outside, or anything else.
async fn external(consul: &Consul, body: Value) {
    consul
        .api(Method::PUT, "/v1/agent/service/register", Some(body))
        .await;
}

async fn caller_of_all(world: &World, consul: &Consul, kind: Kind) -> Sidecar {
    let caller = Service::new("caller", 8000)
        .sidecar(21000)
        .upstream("tcp", TCP)
        .upstream("http", HTTP)
        .upstream("named", NAMED)
        .upstream("tls", TLS)
        .upstream("mtls", MTLS)
        .upstream("wrong-name", WRONG_NAME)
        .upstream("wrong-authority", WRONG_AUTHORITY)
        .upstream("subset", SUBSET);
    consul.register(&caller).await;
    Sidecar::start(world, kind, &caller).await
}

async fn seen(port: u16, path: &str) -> Result<Seen, String> {
    let reply = get(port, Protocol::Http1, path).await;
    Seen::from_reply(&reply.map_err(|error| error.to_string())?)
}

/// Sends, closes the outgoing direction, and reads to the end.
async fn exchange(bytes: &[u8]) -> Result<Vec<u8>, String> {
    let stream = TcpStream::connect(loopback(TCP)).await;
    let mut stream = stream.map_err(|error| error.to_string())?;
    let mut answer = Vec::new();
    let talk = async {
        stream.write_all(bytes).await?;
        stream.shutdown().await?;
        stream.read_to_end(&mut answer).await
    };
    match tokio::time::timeout(PATIENCE, talk).await {
        Err(_) => Err("no end".to_owned()),
        Ok(Err(error)) => Err(error.to_string()),
        Ok(Ok(0)) => Err("closed without a byte".to_owned()),
        Ok(Ok(_)) => Ok(answer),
    }
}

/// A connection to the TCP service on which a byte went there and back.
async fn opened() -> TcpStream {
    wait::until("an open connection", PATIENCE, async || {
        let stream = TcpStream::connect(loopback(TCP)).await;
        let mut stream = stream.map_err(|error| error.to_string())?;
        let echo = async {
            stream.write_all(b"x").await?;
            stream.read_u8().await
        };
        match tokio::time::timeout(PATIENCE, echo).await {
            Ok(Ok(b'x')) => Ok(stream),
            Ok(other) => Err(format!("{other:?}")),
            Err(_) => Err("no echo".to_owned()),
        }
    })
    .await
}

async fn ends(open: &mut TcpStream) {
    let mut rest = Vec::new();
    let end = tokio::time::timeout(PATIENCE, open.read_to_end(&mut rest)).await;
    // In good order or not: it is over.
    drop(end.expect("the connection is closed"));
    assert!(rest.is_empty(), "nothing came before the end: {rest:?}");
}
