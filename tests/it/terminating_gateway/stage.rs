//! The stage of these tests: services outside, a gateway before them, and a caller in the mesh.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use http::Method;
use meridian_tests::admin::Metrics;
use meridian_tests::certs::{Authority, Identity, TRUST_DOMAIN};
use meridian_tests::client::{Protocol, get, loopback};
use meridian_tests::consul::{Consul, Service};
use meridian_tests::origin::{NameServer, Origin, Seen, TcpOrigin, TlsFront};
use meridian_tests::sidecar::{Kind, Sidecar};
use meridian_tests::terminating::{self, TerminatingGateway};
use meridian_tests::wait::{self, PATIENCE};
use meridian_tests::world::World;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Where the caller's sidecar offers what lies outside.
pub(super) const TCP: u16 = 5001;
pub(super) const HTTP: u16 = 5002;
pub(super) const NAMED: u16 = 5003;
const TLS: u16 = 5004;
const MTLS: u16 = 5005;
pub(super) const WRONG_NAME: u16 = 5006;
pub(super) const WRONG_AUTHORITY: u16 = 5007;
const SUBSET: u16 = 5008;
pub(super) const TLS_TCP: u16 = 5009;
pub(super) const GRPC: u16 = 5010;
pub(super) const UNKNOWN: u16 = 5011;

/// Port of the origins behind a name.
const ORIGIN: u16 = 8100;

/// Where the second origin behind a name is.
pub(super) const SECOND: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

/// Services outside, a gateway before them, and a caller in the mesh.
pub(super) struct Stage {
    pub(super) consul: Consul,
    pub(super) names: NameServer,
    pub(super) gateway: TerminatingGateway,
    tls: TlsFront,
    mtls: TlsFront,
    ours: Identity,
    files: Files,
    _sidecar: Sidecar,
    _origins: Vec<Origin>,
    _tcp: (TcpOrigin, TlsFront),
}

/// Files beside the gateway.
struct Files {
    authority: PathBuf,
    other_authority: PathBuf,
    certificate: PathBuf,
    key: PathBuf,
}

impl Stage {
    pub(super) async fn start(world: &World, caller: Kind, kind: Kind) -> Self {
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
        let tls_tcp = TlsFront::start(tcp.address(), server.clone(), None).await;
        let mtls = TlsFront::start(plain.address(), server, Some(authority.root())).await;

        let fronts = [
            ("tcp", tcp.address()),
            ("http", plain.address()),
            ("tls", tls.address()),
            ("mtls", mtls.address()),
            ("wrong-name", tls.address()),
            ("wrong-authority", tls.address()),
            ("tls-tcp", tls_tcp.address()),
            ("grpc", plain.address()),
            ("unknown", mtls.address()),
        ];
        register(&consul, &fronts, [first.address(), second.address()]).await;
        configure(&consul).await;
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
            _tcp: (tcp, tls_tcp),
        };
        stage.link(|_| true).await;
        stage.settled().await;
        stage
    }

    /// Links those services to the gateway, and no others.
    pub(super) async fn link(&self, wanted: impl Fn(&str) -> bool) {
        let (authority, other) = (&self.files.authority, &self.files.other_authority);
        let all = [
            json!({"Name": "tcp"}),
            json!({"Name": "http"}),
            json!({"Name": "named"}),
            json!({"Name": "subset"}),
            json!({"Name": "grpc"}),
            json!({"Name": "unknown", "CAFile": authority, "SNI": "out.test"}),
            json!({"Name": "tls-tcp", "CAFile": authority, "SNI": "out.test"}),
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
        self.link_to(json!(linked)).await;
    }

    /// Links whatever is there.
    pub(super) async fn link_everything(&self) {
        self.link_to(json!([{"Name": "*"}])).await;
    }

    async fn link_to(&self, services: Value) {
        let entry = json!({"Kind": "terminating-gateway", "Name": terminating::NAME,
            "Services": services});
        self.consul.config_entry(entry).await;
    }

    /// Waits until everything that can answer does.
    async fn settled(&self) {
        for port in [TCP, TLS_TCP] {
            wait::until("TCP outside", PATIENCE, async || exchange(port, b"x").await).await;
        }
        for port in [HTTP, NAMED, TLS, MTLS] {
            let what = format!("what is behind {port}");
            wait::until(&what, PATIENCE, async || seen(port, "/").await).await;
        }
    }

    pub(super) async fn tls_is_as_the_link_says(&self) {
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

    /// An Envoy beside a server agent only sees gateways whose own metadata passes the filter.
    pub(super) async fn subset_is_one_of_two(&self) {
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
    pub(super) async fn files_are_read_again(&self) {
        let right = std::fs::read(&self.files.authority).expect("the authority");
        std::fs::write(&self.files.other_authority, right).expect("another authority");
        wait::until("the new authority", PATIENCE, async || {
            seen(WRONG_AUTHORITY, "/").await
        })
        .await;
    }

    pub(super) async fn refusals(&self, result: &str) -> f64 {
        let metrics: Metrics = self.gateway.admin.metrics().await;
        let labels = [("side", "client"), ("result", result)];
        metrics.sum("meridian_tls_handshakes_total", &labels)
    }
}

/// Registers what lies outside: at addresses, behind a name, and in two versions.
async fn register(consul: &Consul, at: &[(&str, SocketAddr)], versions: [SocketAddr; 2]) {
    for (name, at) in at {
        let body = json!({"Name": name, "Port": at.port(), "Address": "127.0.0.1"});
        external(consul, body).await;
    }
    let named = json!({"Name": "named", "Address": "named.test", "Port": ORIGIN});
    external(consul, named).await;
    for (id, at) in ["v1", "v2"].iter().zip(versions) {
        let body = json!({"Name": "subset", "ID": id, "Address": at.ip().to_string(),
            "Port": at.port(), "Meta": {"version": id}});
        external(consul, body).await;
    }
}

/// Says what they speak, and which version is meant.
async fn configure(consul: &Consul) {
    consul
        .config_entry(json!({"Kind": "proxy-defaults", "Name": "global",
            "Config": {"protocol": "http"}}))
        .await;
    for (service, protocol) in [("tcp", "tcp"), ("tls-tcp", "tcp"), ("grpc", "grpc")] {
        consul.protocol(service, protocol).await;
    }
    let v2 = json!({"v2": {"Filter": "Service.Meta.version == v2"}});
    consul
        .config_entry(json!({"Kind": "service-resolver", "Name": "subset",
            "DefaultSubset": "v2", "Subsets": v2}))
        .await;
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
        .upstream("subset", SUBSET)
        .upstream("tls-tcp", TLS_TCP)
        .upstream("grpc", GRPC)
        .upstream("unknown", UNKNOWN);
    consul.register(&caller).await;
    Sidecar::start(world, kind, &caller).await
}

pub(super) async fn seen(port: u16, path: &str) -> Result<Seen, String> {
    let reply = get(port, Protocol::Http1, path).await;
    Seen::from_reply(&reply.map_err(|error| error.to_string())?)
}

/// Sends, closes the outgoing direction, and reads to the end.
pub(super) async fn exchange(port: u16, bytes: &[u8]) -> Result<Vec<u8>, String> {
    let stream = TcpStream::connect(loopback(port)).await;
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
pub(super) async fn opened() -> TcpStream {
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

pub(super) async fn ends(open: &mut TcpStream) {
    let mut rest = Vec::new();
    let end = tokio::time::timeout(PATIENCE, open.read_to_end(&mut rest)).await;
    // In good order or not: it is over.
    drop(end.expect("the connection is closed"));
    assert!(rest.is_empty(), "nothing came before the end: {rest:?}");
}
