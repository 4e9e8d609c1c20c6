//! Which service of an ingress gateway answers for a host: Meridian's gateway and a real Envoy.

use meridian_tests::client::{Connection, Protocol, loopback};
use meridian_tests::consul::{Consul, Service};
use meridian_tests::entry_gateway::{EntryGateway, Kind, Program};
use meridian_tests::origin::{Origin, Seen};
use meridian_tests::sidecar::{self, Sidecar};
use meridian_tests::wait::{self, PATIENCE};
use meridian_tests::world::{World, isolated};
use serde_json::{Value, json};

const FIRST: u16 = 9999;
const SECOND: u16 = 9998;

/// Services, and what of them a listener offers under which hosts.
type Offer = (&'static str, &'static [&'static str]);

/// A host, and who answers for it: at the first listener, and at the second where there is one.
type Expected = (&'static str, &'static [&'static str]);

/// What each of up to two listeners offers, and who answers.
const CASES: [(&[&[Offer]], &[Expected]); 5] = [
    (
        &[&[("a", &["*"]), ("b", &["b.test"])]],
        &[
            ("b.test", &["b"]),
            ("B.test:9999", &["b"]),
            ("b.test:80", &["a"]),
            ("x.b.test", &["a"]),
            ("127.0.0.1:80", &["a"]),
        ],
    ),
    (
        &[&[
            ("a", &["*.a.test"]),
            ("b", &["*.b.a.test"]),
            ("c", &["b.a.test"]),
        ]],
        &[
            ("b.a.test", &["c"]),
            ("x.a.test", &["a"]),
            ("x.b.a.test:9999", &["b"]),
            ("x.y.b.a.test", &["b"]),
            ("a.test", &["404"]),
        ],
    ),
    (
        &[&[("a", &["same.test"])], &[("b", &["same.test"])]],
        &[
            ("same.test", &["a", "b"]),
            ("same.test:9999", &["a", "404"]),
            ("same.test:9998", &["404", "b"]),
        ],
    ),
    (
        &[&[("a", &["a.test:9998"])], &[("b", &["a.test:9999"])]],
        &[
            ("a.test", &["404", "404"]),
            ("a.test:9999", &["404", "b"]),
            ("a.test:9998", &["a", "404"]),
        ],
    ),
    (
        &[&[("*", &[]), ("b", &["b.test", "*.ingress.b.test"])]],
        &[
            ("a.ingress.consul", &["a"]),
            ("c.ingress.dc1.consul:77", &["c"]),
            ("b.ingress.b.test", &["b"]),
            ("b.test", &["b"]),
            ("a.ingress", &["404"]),
        ],
    ),
];

#[test]
fn hosts_choose_services_at_gateway() {
    hosts_choose_services(Program::Gateway);
}

#[test]
fn hosts_choose_services_at_envoy() {
    hosts_choose_services(Program::Envoy);
}

fn hosts_choose_services(program: Program) {
    isolated(&format!("ingress hosts {program:?}"), async move |world| {
        let stage = Stage::start(world).await;
        let _gateway = EntryGateway::start_as(world, program, Kind::Ingress, "edge", &[]).await;
        for (listeners, expected) in CASES {
            stage.listeners(listeners).await;
            wait::until(&format!("{listeners:?}"), PATIENCE, async || {
                for (host, answers) in expected {
                    for (port, wanted) in [FIRST, SECOND].into_iter().zip(*answers) {
                        let seen = who(port, host).await?;
                        if seen != *wanted {
                            return Err(format!("{host} at {port}: {seen}"));
                        }
                    }
                }
                Ok(())
            })
            .await;
        }
    });
}

/// `*` with a port, and a host twice at one listener, are refused by Consul.
#[test]
fn hosts_that_mean_nothing_are_not_stored() {
    isolated("hosts refused", async |world| {
        let stage = Stage::start(world).await;
        let refused: [(&[Offer], &str); 3] = [
            (&[("a", &["*:9999"])], "wildcard"),
            (&[("a", &["a.test"]), ("b", &["a.test"])], "unique"),
            (&[("*", &["a.test"])], "wildcard service"),
        ];
        for (offers, reason) in refused {
            let written = stage.try_listeners(&[offers]).await;
            let error = written.expect_err("a refusal");
            assert!(error.contains(reason), "{error}");
        }
    });
}

#[test]
fn a_host_with_and_without_the_port_leads_to_both_services_at_gateway() {
    isolated("host twice gateway", async |world| {
        let stage = Stage::start(world).await;
        stage.listeners(&[&TWICE]).await;
        let ports = [FIRST];
        let _gateway =
            EntryGateway::start_as(world, Program::Gateway, Kind::Ingress, "edge", &ports).await;
        for (host, wanted) in [("a.test:9999", "a"), ("a.test", "b"), ("c.test", "c")] {
            stage.answers(host, wanted).await;
        }
    });
}

/// To Envoy one of them stands twice, since a host is also that with the listener's port, and it
/// takes nothing of the listener's table.
#[test]
fn a_host_with_and_without_the_port_leads_nowhere_at_envoy() {
    isolated("host twice envoy", async |world| {
        let stage = Stage::start(world).await;
        stage.listeners(&[&TWICE]).await;
        let ports = [FIRST];
        let _gateway =
            EntryGateway::start_as(world, Program::Envoy, Kind::Ingress, "edge", &ports).await;
        for host in ["a.test:9999", "a.test", "c.test"] {
            stage.answers(host, "404").await;
        }
    });
}

const TWICE: [Offer; 3] = [
    ("a", &["a.test:9999"]),
    ("b", &["a.test"]),
    ("c", &["c.test"]),
];

/// Three services, which tell their names.
struct Stage {
    consul: Consul,
    _running: Vec<(Origin, Sidecar)>,
}

impl Stage {
    async fn start(world: &World) -> Self {
        let consul = Consul::start(world).await;
        let mut running = Vec::new();
        for (number, name) in (1..).zip(["a", "b", "c"]) {
            consul.protocol(name, "http").await;
            let service = Service::new(name, 8000 + number).sidecar(21000 + number);
            consul.register(&service).await;
            let origin = Origin::start(name, service.port).await;
            let kind = sidecar::Kind::Meshd;
            running.push((origin, Sidecar::start(world, kind, &service).await));
        }
        for name in ["a", "b", "c"] {
            consul.passing(name, 1).await;
        }
        Self {
            consul,
            _running: running,
        }
    }

    async fn listeners(&self, offers: &[&[Offer]]) {
        self.try_listeners(offers).await.expect("an entry");
    }

    async fn try_listeners(&self, offers: &[&[Offer]]) -> Result<Value, String> {
        let service = |(name, hosts): &Offer| json!({"Name": name, "Hosts": hosts});
        let listeners: Vec<_> = [FIRST, SECOND]
            .into_iter()
            .zip(offers)
            .map(|(port, offers)| {
                let services: Vec<_> = offers.iter().map(service).collect();
                json!({"Port": port, "Protocol": "http", "Services": services})
            })
            .collect();
        let entry = json!({"Kind": "ingress-gateway", "Name": "edge", "Listeners": listeners});
        let method = http::Method::PUT;
        self.consul.try_api(method, "/v1/config", Some(entry)).await
    }

    async fn answers(&self, host: &str, wanted: &str) {
        wait::until(
            &format!("{wanted} for {host}"),
            PATIENCE,
            async || match who(FIRST, host).await? {
                seen if seen == wanted => Ok(()),
                other => Err(other),
            },
        )
        .await;
    }
}

/// The name of the service that answers, or the status of the gateway's own answer.
async fn who(port: u16, host: &str) -> Result<String, String> {
    let open = Connection::open(loopback(port), Protocol::Http1).await;
    let connection = open.map_err(|error| error.to_string())?;
    let reply = connection.authority(host).get("/").await;
    let reply = reply.map_err(|error| error.to_string())?;
    match reply.status.as_u16() {
        200 => Ok(Seen::from_reply(&reply)?.origin),
        other => Ok(other.to_string()),
    }
}
