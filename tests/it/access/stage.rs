//! A mesh under ACLs and TLS, each of its sidecars with the rights of its service.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use meridian_tests::client::{Protocol, get, loopback};
use meridian_tests::consul::{AclToken, Consul, Secured, Service};
use meridian_tests::origin::{Origin, TcpOrigin};
use meridian_tests::sidecar::Sidecar;
use meridian_tests::wait::{self, PATIENCE};
use meridian_tests::world::World;
use serde_json::{Value, json};
use std::path::PathBuf;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

pub(super) const HTTP: u16 = 5001;
pub(super) const TCP: u16 = 5002;

/// The public key of RFC 7517, appendix A.1.
const KEYS: &str = r#"{"keys": [{"kty": "EC", "crv": "P-256", "kid": "1", "use": "sig",
    "x": "MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4",
    "y": "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM"}]}"#;

/// A caller, an HTTP and a TCP destination, each with the least rights.
pub(super) struct Mesh {
    pub(super) consul: Consul,
    pub(super) secured: Secured,
    pub(super) caller: Sidecar,
    pub(super) token: AclToken,
    pub(super) token_file: PathBuf,
    pub(super) others: Vec<Sidecar>,
    _http: Origin,
    _tcp: TcpOrigin,
}

fn caller() -> Service {
    Service::new("caller", 8000)
        .sidecar(21000)
        .upstream("http", HTTP)
        .upstream("tcp", TCP)
}

impl Mesh {
    pub(super) async fn start(world: &World) -> Self {
        let secured = Secured::new(world);
        let consul = Consul::start_secured(world, &secured).await;
        entries(&consul).await;
        let mut others = Vec::new();
        for service in [
            Service::new("http", 8001).sidecar(21001),
            Service::new("tcp", 8002).sidecar(21002),
        ] {
            consul.register(&service).await;
            let token = consul.service_token(&service.name).await;
            let mut words = secured.words();
            words.extend(["--token".to_owned(), token.secret]);
            others.push(Sidecar::launch_with(world, &service, &words));
        }
        consul.register(&caller()).await;
        let token = consul.service_token("caller").await;
        let token_file = world.write("caller.token", &token.secret);
        let mut words = secured.words();
        words.extend(by_file(&token_file));
        let mut caller = Sidecar::launch_with(world, &caller(), &words);
        caller.ready().await;
        for sidecar in &mut others {
            sidecar.ready().await;
        }
        let mesh = Self {
            consul,
            secured,
            caller,
            token,
            token_file,
            others,
            _http: Origin::start("http", 8001).await,
            _tcp: TcpOrigin::start(8002).await,
        };
        wait::until("HTTP answers", PATIENCE, async || {
            status("/open", 200).await
        })
        .await;
        wait::until("TCP answers", PATIENCE, async || ping(TCP).await).await;
        mesh
    }

    pub(super) async fn source(&self) -> Value {
        let snapshot = self.caller.admin.snapshot().await;
        let sources = snapshot["sources"].as_array().cloned().unwrap_or_default();
        let found = sources.into_iter().find(|one| one["name"] == "consul");
        found.expect("Consul is a source")
    }
}

/// One of each kind that a sidecar reads.
async fn entries(consul: &Consul) {
    consul.protocol("http", "http").await;
    consul
        .config_entry(json!({"Kind": "proxy-defaults", "Name": "global",
            "Config": {"local_connect_timeout_ms": 2000}}))
        .await;
    consul
        .config_entry(json!({"Kind": "mesh",
            "HTTP": {"Incoming": {"RequestNormalization": {"MergeSlashes": true}}}}))
        .await;
    consul
        .config_entry(json!({"Kind": "service-router", "Name": "http", "Routes": [
            {"Match": {"HTTP": {"PathPrefix": "/old"}}, "Destination": {"PrefixRewrite": "/open"}}]}))
        .await;
    consul
        .config_entry(
            json!({"Kind": "jwt-provider", "Name": "issuer", "Issuer": "https://issuer",
            "JSONWebKeySet": {"Local": {"JWKS": STANDARD.encode(KEYS)}}}),
        )
        .await;
    let jwt = json!({"Providers": [{"Name": "issuer"}]});
    consul
        .config_entry(
            json!({"Kind": "service-intentions", "Name": "http", "Sources": [
            {"Name": "caller", "Permissions": [
                {"Action": "allow", "HTTP": {"PathPrefix": "/open"}},
                {"Action": "allow", "HTTP": {"PathPrefix": "/token"}, "JWT": jwt}]}]}),
        )
        .await;
    consul.intentions("tcp", &[("caller", "allow")]).await;
}

fn by_file(path: &std::path::Path) -> [String; 2] {
    ["--token-file".to_owned(), path.display().to_string()]
}

pub(super) async fn status(path: &str, expected: u16) -> Result<(), String> {
    let reply = get(HTTP, Protocol::Http1, path).await;
    let status = reply.map_err(|error| error.to_string())?.status;
    if status == expected {
        Ok(())
    } else {
        Err(format!("{path} answers {status}"))
    }
}

pub(super) async fn ping(port: u16) -> Result<(), String> {
    let exchange = async {
        let mut stream = TcpStream::connect(loopback(port)).await?;
        stream.write_all(b"ping").await?;
        let mut answer = [0; 4];
        stream.read_exact(&mut answer).await?;
        std::io::Result::Ok(answer)
    };
    match exchange.await {
        Ok(answer) if answer == *b"ping" => Ok(()),
        other => Err(format!("{other:?}")),
    }
}
