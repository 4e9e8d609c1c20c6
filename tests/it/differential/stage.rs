//! One Consul, an Envoy and a meshd side by side, and destinations that report.

use http::Method;
use meridian_tests::certs::Identity;
use meridian_tests::client::{Connection, Protocol, loopback};
use meridian_tests::consul::{Consul, Service};
use meridian_tests::sidecar::{Kind, Sidecar};
use meridian_tests::wait::{self, PATIENCE};
use meridian_tests::world::World;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};

use super::native::{Leaves, Native, certified};
use super::observe::{Ask, Outcome};

/// Both proxies, in the order in which outcomes are paired.
pub(crate) const KINDS: [Kind; 2] = [Kind::Envoy, Kind::Meshd];

/// Where every destination listens, but for the instances of subsets.
pub(crate) const DESTINATION: u16 = 9000;

/// The first upstream of each proxy.
const UPSTREAMS: [u16; 2] = [10000, 11000];

/// One destination of the callers.
#[derive(Debug, Clone)]
pub(crate) struct Destination {
    /// Service name.
    pub name: String,
    /// What callers speak.
    pub protocol: Protocol,
}

impl Destination {
    /// A destination over HTTP/1.1.
    pub(crate) fn http(name: &str) -> Self {
        Self::over(name, Protocol::Http1)
    }

    /// A destination over either version.
    pub(crate) fn over(name: &str, protocol: Protocol) -> Self {
        let name = name.to_owned();
        Self { name, protocol }
    }

    fn word(&self) -> &'static str {
        match self.protocol {
            Protocol::Http1 => "http",
            Protocol::Http2 => "http2",
        }
    }
}

/// Two callers with the same upstreams.
pub(crate) struct Callers {
    destinations: Vec<Destination>,
    _sidecars: Vec<Sidecar>,
    _natives: Vec<Native>,
}

impl Callers {
    /// Registers the destinations, says their protocols, and writes `entries`.
    /// `instances` are further listeners of the last destination: port and metadata.
    pub(crate) async fn start(
        world: &World,
        consul: &Consul,
        destinations: Vec<Destination>,
        instances: &[(u16, Value)],
        entries: &[Value],
    ) -> Self {
        let mut leaves = Leaves::new();
        for destination in &destinations {
            consul.protocol(&destination.name, destination.word()).await;
            let leaf = leaf(consul, &destination.name).await;
            leaves.insert(destination.name.clone(), certified(leaf));
        }
        let mut natives = vec![Native::start("all", DESTINATION, leaves.clone()).await];
        let (last, others) = destinations.split_last().expect("a destination");
        for destination in others {
            native(consul, &destination.name, DESTINATION, json!({})).await;
        }
        if instances.is_empty() {
            native(consul, &last.name, DESTINATION, json!({})).await;
        }
        for (port, meta) in instances {
            native(consul, &last.name, *port, meta.clone()).await;
            natives.push(Native::start(&port.to_string(), *port, leaves.clone()).await);
        }
        for entry in entries {
            consul.config_entry(entry.clone()).await;
        }
        let mut sidecars = Vec::new();
        for (number, kind) in KINDS.into_iter().enumerate() {
            sidecars.push(caller(world, consul, kind, number, &destinations).await);
        }
        let callers = Self {
            destinations,
            _sidecars: sidecars,
            _natives: natives,
        };
        callers.settled().await;
        callers
    }

    /// Sends one request through both proxies.
    pub(crate) async fn ask(&self, destination: usize, ask: &Ask, case: &str) -> [Outcome; 2] {
        let [one, other] = [0, 1].map(|proxy| self.ask_one(proxy, destination, ask, case));
        let (one, other) = tokio::join!(one, other);
        [one, other]
    }

    /// Sends one request through one proxy.
    pub(crate) async fn ask_one(&self, proxy: usize, at: usize, ask: &Ask, case: &str) -> Outcome {
        let port = UPSTREAMS[proxy] + u16::try_from(at).expect("few destinations");
        let protocol = self.destinations[at].protocol;
        let connection = Connection::open(loopback(port), protocol).await;
        let case = format!("{case} {:?}", KINDS[proxy]);
        ask.send(connection.expect("an upstream listener"), &case)
            .await
    }

    /// Waits until every destination is reached through both.
    async fn settled(&self) {
        for (at, destination) in self.destinations.iter().enumerate() {
            for (proxy, kind) in KINDS.into_iter().enumerate() {
                let what = format!("{} by {kind:?}", destination.name);
                wait::until(&what, PATIENCE, async || {
                    let ask = Ask::get("/settle").header("x-settle", "1");
                    let outcome = self.ask_one(proxy, at, &ask, "settle").await;
                    outcome
                        .sight
                        .ok_or_else(|| format!("{} {}", outcome.status, outcome.words))
                })
                .await;
            }
        }
    }
}

async fn caller(
    world: &World,
    consul: &Consul,
    kind: Kind,
    number: usize,
    destinations: &[Destination],
) -> Sidecar {
    let name = format!("caller-{kind:?}").to_lowercase();
    let shift = u16::try_from(number).expect("two proxies");
    let mut service = Service::new(&name, 8000 + shift).sidecar(21000 + shift);
    for (port, destination) in (UPSTREAMS[number]..).zip(destinations) {
        service = service.upstream(&destination.name, port);
    }
    // Answers of 5xx are part of many cases and must not empty the clusters.
    consul
        .config_entry(json!({
            "Kind": "service-defaults", "Name": name, "Protocol": "http",
            "UpstreamConfig": {"Defaults": {"PassiveHealthCheck": {
                "EnforcingConsecutive5xx": 0,
            }}},
        }))
        .await;
    consul.register(&service).await;
    Sidecar::start(world, kind, &service).await
}

/// Registers an instance that needs no sidecar.
async fn native(consul: &Consul, name: &str, port: u16, meta: Value) {
    let body = json!({
        "Name": name, "ID": format!("{name}-{port}"), "Address": "127.0.0.1", "Port": port,
        "Meta": meta, "Connect": {"Native": true},
    });
    let path = "/v1/agent/service/register";
    consul.api(Method::PUT, path, Some(body)).await;
}

/// The leaf that Consul signs for a service.
pub(crate) async fn leaf(consul: &Consul, service: &str) -> Identity {
    let path = format!("/v1/agent/connect/ca/leaf/{service}");
    let found = consul.api(Method::GET, &path, None).await;
    let text = |field: &str| found[field].as_str().unwrap_or_default().to_owned();
    let chain = CertificateDer::pem_slice_iter(text("CertPEM").as_bytes())
        .collect::<Result<_, _>>()
        .expect("certificates");
    let key = PrivateKeyDer::from_pem_slice(text("PrivateKeyPEM").as_bytes());
    Identity {
        chain,
        key: key.expect("a private key"),
    }
}
