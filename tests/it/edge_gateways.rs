//! Consul's gateways for strangers, Meridian's and a real Envoy, under the same entries.
//!
//! Behind them is a native service of the mesh, which notes how it was greeted.

use http::Method;
use meridian_tests::certs::{Authority, TRUST_DOMAIN, spiffe_id};
use meridian_tests::client::{Connection, Protocol, loopback};
use meridian_tests::consul::Consul;
use meridian_tests::entry_gateway::{EntryGateway, Kind, Program};
use meridian_tests::handshake;
use meridian_tests::origin::{Origin, Seen, TlsFront};
use meridian_tests::wait::{self, PATIENCE};
use meridian_tests::world::{World, isolated};
use rustls::CipherSuite::{
    self, TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
    TLS13_AES_128_GCM_SHA256, TLS13_AES_256_GCM_SHA384,
};
use rustls::crypto::ring;
use serde_json::{Value, json};

const NAME: &str = "edge";
const FIRST: u16 = 9999;
const SECOND: u16 = 9998;

#[test]
fn inside_an_ingress_gateway_speaks_as_the_mesh_entry_says_at_gateway() {
    the_mesh_entry_holds_inside(Kind::Ingress, Program::Gateway);
}

#[test]
fn inside_an_ingress_gateway_speaks_as_the_mesh_entry_says_at_envoy() {
    the_mesh_entry_holds_inside(Kind::Ingress, Program::Envoy);
}

#[test]
fn inside_an_api_gateway_speaks_as_the_mesh_entry_says_at_gateway() {
    the_mesh_entry_holds_inside(Kind::Api, Program::Gateway);
}

#[test]
fn inside_an_api_gateway_speaks_as_the_mesh_entry_says_at_envoy() {
    the_mesh_entry_holds_inside(Kind::Api, Program::Envoy);
}

/// `TLS.Outgoing` holds towards the mesh. Strangers are met as the gateway's own entry says:
/// `TLS.Incoming` is for those who come from the mesh.
fn the_mesh_entry_holds_inside(kind: Kind, program: Program) {
    isolated(
        &format!("mesh tls {kind:?} {program:?}"),
        async move |world| {
            let stage = Stage::start(world).await;
            let ports: &[u16] = match kind {
                Kind::Ingress => {
                    let own = json!({"Enabled": true, "TLSMaxVersion": "TLSv1_2"});
                    let services = json!([{"Name": "api", "Hosts": ["api.test"]}]);
                    stage
                        .ingress(json!([
                            {"Port": FIRST, "Protocol": "http", "TLS": {"Enabled": true},
                                "Services": services},
                            {"Port": SECOND, "Protocol": "http", "TLS": own, "Services": services},
                        ]))
                        .await;
                    &[FIRST, SECOND]
                }
                Kind::Api => {
                    stage.api(&[]).await;
                    &[FIRST]
                }
            };
            let old = json!({"TLSMaxVersion": "TLSv1_2",
            "CipherSuites": ["TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"]});
            let new = json!({"TLSMinVersion": "TLSv1_3", "TLSMaxVersion": "TLSv1_3"});
            let least = json!({"TLSMinVersion": "TLSv1_3"});
            // What Envoy offers is TLS 1.2 where nobody says that it may be more.
            let (unsaid, newest, at_least) = match program {
                Program::Gateway => {
                    let suite = TLS13_AES_128_GCM_SHA256;
                    (suite, suite, Some(suite))
                }
                Program::Envoy => {
                    let old = TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256;
                    (old, TLS13_AES_128_GCM_SHA256, None)
                }
            };
            stage.mesh(&new, &old).await;
            let _gateway = EntryGateway::start_as(world, program, kind, NAME, ports).await;
            for (incoming, outgoing, suite) in [
                (&new, &old, Some(TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384)),
                (&new, &json!({}), Some(unsaid)),
                (&old, &new, Some(newest)),
                (&old, &least, at_least),
            ] {
                stage.mesh(incoming, outgoing).await;
                stage.greeted_with(suite).await;
                assert_eq!(spoken(FIRST).await, [true, true], "{incoming}");
                if kind == Kind::Ingress {
                    assert_eq!(spoken(SECOND).await, [true, false], "{incoming}");
                }
            }
        },
    );
}

#[test]
fn one_listener_with_tls_brings_the_names_of_all_hosts_at_gateway() {
    one_listener_brings_all_names(Program::Gateway);
}

#[test]
fn one_listener_with_tls_brings_the_names_of_all_hosts_at_envoy() {
    one_listener_brings_all_names(Program::Envoy);
}

fn one_listener_brings_all_names(program: Program) {
    isolated(
        &format!("tls of one listener {program:?}"),
        async move |world| {
            let stage = Stage::start(world).await;
            stage
                .ingress(json!([
                    {"Port": FIRST, "Protocol": "http", "TLS": {"Enabled": true},
                        "Services": [{"Name": "api", "Hosts": ["api.test"]}]},
                    {"Port": SECOND, "Protocol": "http",
                        "Services": [{"Name": "api", "Hosts": ["plain.test"]}]},
                ]))
                .await;
            let ports = [FIRST, SECOND];
            let _gateway =
                EntryGateway::start_as(world, program, Kind::Ingress, NAME, &ports).await;
            let wanted = [
                "*.ingress.consul.",
                "*.ingress.dc1.consul.",
                "api.test",
                "plain.test",
            ];
            wait::until("all names", PATIENCE, async || {
                let names = handshake::names(loopback(FIRST), "api.test").await;
                let names = names.map_err(|error| error.to_string())?;
                let missing = wanted
                    .iter()
                    .find(|name| !names.contains(&(**name).to_owned()));
                missing.map_or(Ok(()), |name| Err(format!("no {name} in {names:?}")))
            })
            .await;
            wait::until(
                "the other listener, without TLS",
                PATIENCE,
                async || match status(SECOND, "plain.test").await? {
                    200 => Ok(()),
                    other => Err(other.to_string()),
                },
            )
            .await;
        },
    );
}

#[test]
fn a_host_goes_with_the_port_that_it_is_written_with_at_gateway() {
    a_host_goes_with_its_port(Program::Gateway);
}

#[test]
fn a_host_goes_with_the_port_that_it_is_written_with_at_envoy() {
    a_host_goes_with_its_port(Program::Envoy);
}

fn a_host_goes_with_its_port(program: Program) {
    isolated(
        &format!("hosts with ports {program:?}"),
        async move |world| {
            let stage = Stage::start(world).await;
            let hosts = json!([
                "bare.test",
                "own.test:9999",
                "far.test:80",
                "*.wild.test:9999"
            ]);
            let services = json!([{"Name": "api", "Hosts": hosts}]);
            stage
                .ingress(json!([{"Port": FIRST, "Protocol": "http", "Services": services}]))
                .await;
            let _gateway =
                EntryGateway::start_as(world, program, Kind::Ingress, NAME, &[FIRST]).await;
            wait::until("the first answer", PATIENCE, async || {
                match status(FIRST, "bare.test").await? {
                    200 => Ok(()),
                    other => Err(other.to_string()),
                }
            })
            .await;
            for (host, expected) in [
                ("bare.test", 200),
                ("bare.test:9999", 200),
                ("bare.test:80", 404),
                ("own.test:9999", 200),
                ("own.test:80", 404),
                ("own.test", 404),
                ("far.test:80", 200),
                ("far.test:9999", 404),
                ("far.test", 404),
                ("a.wild.test:9999", 200),
                ("a.wild.test", 404),
            ] {
                assert_eq!(status(FIRST, host).await, Ok(expected), "{host}");
            }
        },
    );
}

#[test]
fn a_hostname_of_a_route_goes_with_its_port_at_gateway() {
    a_hostname_goes_with_its_port(Program::Gateway);
}

#[test]
fn a_hostname_of_a_route_goes_with_its_port_at_envoy() {
    a_hostname_goes_with_its_port(Program::Envoy);
}

fn a_hostname_goes_with_its_port(program: Program) {
    isolated(
        &format!("hostnames with ports {program:?}"),
        async move |world| {
            let stage = Stage::start(world).await;
            stage.api(&["bare.test", "own.test:9999"]).await;
            let _gateway = EntryGateway::start_as(world, program, Kind::Api, NAME, &[FIRST]).await;
            wait::until(
                "the first answer",
                PATIENCE,
                async || match secure_status("bare.test").await? {
                    200 => Ok(()),
                    other => Err(other.to_string()),
                },
            )
            .await;
            for (host, expected) in [
                ("bare.test:9999", 200),
                ("bare.test:80", 404),
                ("own.test:9999", 200),
                ("own.test", 404),
            ] {
                assert_eq!(secure_status(host).await, Ok(expected), "{host}");
            }
        },
    );
}

#[test]
fn an_api_gateway_is_not_ready_before_its_entry_at_gateway() {
    an_api_gateway_waits(Program::Gateway);
}

#[test]
fn an_api_gateway_is_not_ready_before_its_entry_at_envoy() {
    an_api_gateway_waits(Program::Envoy);
}

fn an_api_gateway_waits(program: Program) {
    isolated(
        &format!("api without entry {program:?}"),
        async move |world| {
            let stage = Stage::start(world).await;
            let mut gateway = EntryGateway::launch(world, program, Kind::Api, NAME);
            wait::until("its place in the registry", PATIENCE, async || {
                let path = format!("/v1/agent/service/{NAME}");
                stage.consul.try_api(Method::GET, &path, None).await
            })
            .await;
            let status =
                wait::until("an answer", PATIENCE, async || gateway.admin.ready().await).await;
            assert_eq!(status, 503);
            stage.api(&[]).await;
            gateway.ready(&[FIRST]).await;
        },
    );
}

/// Consul under a CA of the test's own, and a native service beneath it.
struct Stage {
    consul: Consul,
    authority: Authority,
    front: TlsFront,
    _origin: Origin,
}

impl Stage {
    async fn start(world: &World) -> Self {
        let authority = Authority::new(TRUST_DOMAIN);
        let settings = json!({"connect": authority.consul_settings()});
        let consul = Consul::start_with(world, settings).await;
        consul.protocol("api", "http").await;
        let origin = Origin::start("api", 0).await;
        let leaf = authority.leaf(&[&spiffe_id(TRUST_DOMAIN, "api")]);
        let front = TlsFront::start(origin.address(), leaf, None).await;
        let body = json!({"Name": "api", "Address": "127.0.0.1",
            "Port": front.address().port(), "Connect": {"Native": true}});
        let path = "/v1/agent/service/register";
        consul.api(Method::PUT, path, Some(body)).await;
        Self {
            consul,
            authority,
            front,
            _origin: origin,
        }
    }

    async fn ingress(&self, listeners: Value) {
        let entry = json!({"Kind": "ingress-gateway", "Name": NAME, "Listeners": listeners});
        self.consul.config_entry(entry).await;
    }

    /// One listener with TLS, and a route of everything under these names.
    async fn api(&self, hosts: &[&str]) {
        let leaf = self.authority.host_leaf("api.test");
        let kind = "inline-certificate";
        for entry in [
            json!({"Kind": kind, "Name": "c", "Certificate": leaf.chain_pem(),
                "PrivateKey": leaf.key_pem()}),
            json!({"Kind": "api-gateway", "Name": NAME, "Listeners": [{"Name": "secure",
                "Port": FIRST, "Protocol": "http",
                "TLS": {"Certificates": [{"Kind": kind, "Name": "c"}]}}]}),
            json!({"Kind": "http-route", "Name": "all", "Hostnames": hosts,
                "Rules": [{"Services": [{"Name": "api"}]}],
                "Parents": [{"Kind": "api-gateway", "Name": NAME, "SectionName": "secure"}]}),
        ] {
            self.consul.config_entry(entry).await;
        }
    }

    async fn mesh(&self, incoming: &Value, outgoing: &Value) {
        let tls = json!({"Incoming": incoming, "Outgoing": outgoing});
        let entry = json!({"Kind": "mesh", "TLS": tls});
        self.consul.config_entry(entry).await;
    }

    /// Waits until requests reach the service over a connection of this suite, or not at all.
    async fn greeted_with(&self, suite: Option<CipherSuite>) {
        wait::until(&format!("{suite:?} inside"), PATIENCE, async || {
            let used = match secure_status("api.test").await? {
                200 => self.front.greeted().and_then(|greeting| greeting.suite),
                503 => None,
                other => return Err(other.to_string()),
            };
            (used == suite)
                .then_some(())
                .ok_or_else(|| format!("{used:?}"))
        })
        .await;
    }
}

/// Whether strangers are served with a suite of TLS 1.2, and with one of 1.3.
async fn spoken(port: u16) -> [bool; 2] {
    let mut spoken = [false; 2];
    let suites = [
        TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
        TLS13_AES_256_GCM_SHA384,
    ];
    for (suite, spoken) in suites.into_iter().zip(&mut spoken) {
        let mut provider = ring::default_provider();
        provider.cipher_suites.retain(|one| one.suite() == suite);
        let address = loopback(port);
        let met = handshake::connect_offering(address, "api.test", None, provider).await;
        *spoken = met.is_ok();
    }
    spoken
}

/// Status of a request for a host; of the service's own only where it got there.
async fn status(port: u16, host: &str) -> Result<u16, String> {
    let connection = Connection::open(loopback(port), Protocol::Http1).await;
    answer(connection.map_err(|error| error.to_string())?, host).await
}

/// The same over TLS.
async fn secure_status(host: &str) -> Result<u16, String> {
    let text = |error: meridian_tests::client::Error| error.to_string();
    let stream = handshake::connect_to(loopback(FIRST), "api.test").await;
    let own = "api.test".parse().expect("an authority");
    let connection = Connection::over(stream.map_err(text)?, Protocol::Http1, own).await;
    answer(connection.map_err(text)?, host).await
}

async fn answer(connection: Connection, host: &str) -> Result<u16, String> {
    let reply = connection.authority(host).get("/").await;
    let reply = reply.map_err(|error| error.to_string())?;
    if reply.status == 200 {
        Seen::from_reply(&reply)?;
    }
    Ok(reply.status.as_u16())
}
