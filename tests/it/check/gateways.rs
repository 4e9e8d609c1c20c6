//! The same for gateways: each kind intact, and then with what can be broken of it.

use super::{breaks, check, lines, words};
use meridian_tests::certs::{Authority, TRUST_DOMAIN};
use meridian_tests::consul::{Consul, HTTP_API, Secured, Service};
use meridian_tests::datacenter::{FAR, FAR_ADDRESS, Federation, NEAR_ADDRESS, Site};
use meridian_tests::entry_gateway::{EntryGateway, Kind as EntryKind};
use meridian_tests::mesh_gateway::MeshGateway;
use meridian_tests::origin::{Origin, TcpOrigin, TlsFront};
use meridian_tests::sidecar::{Kind, Sidecar};
use meridian_tests::tools;
use meridian_tests::wait::{self, PATIENCE};
use meridian_tests::world::{World, isolated};
use rcgen::{CertificateParams, KeyPair};
use serde_json::{Value, json};
use std::path::Path;
use std::rc::Rc;

const HTTP: u16 = 9001;
const OTHER: u16 = 9002;

fn at_agent(more: &str) -> Vec<String> {
    words(&format!("{more} --http-addr {HTTP_API}"))
}

/// Waits until nothing is broken: a gateway's own check runs every ten seconds.
async fn intact(words: &[String]) -> Value {
    wait::until("all is well", PATIENCE, async || {
        let (document, code) = check(words).await;
        match code {
            0 => Ok(document),
            _ => Err(format!("{document:#}")),
        }
    })
    .await
}

/// Waits until a line of this group is broken, with these words and a remedy.
async fn broken(words: &[String], group: &str, finding: &str, remedy: &str) {
    wait::until(finding, PATIENCE, async || {
        let (document, code) = check(words).await;
        let failed = lines(&document, group, "failed");
        let is_it =
            |(said, help): &(String, String)| said.contains(finding) && help.contains(remedy);
        match code == 1 && failed.iter().any(is_it) {
            true => Ok(()),
            false => Err(format!("{document:#}")),
        }
    })
    .await;
}

fn says(document: &Value, group: &str, words: &str) {
    let good = lines(document, group, "ok");
    let said = good.iter().any(|(line, _)| line.contains(words));
    assert!(said, "{words}: {document:#}");
}

/// `one`, which speaks HTTP, with its sidecar.
async fn one(world: &World, consul: &Consul) -> (Origin, Sidecar) {
    consul.protocol("one", "http").await;
    let service = Service::new("one", 8001).sidecar(21001);
    consul.register(&service).await;
    let sidecar = Sidecar::start(world, Kind::Meshd, &service).await;
    consul.passing("one", 1).await;
    (Origin::start("one", service.port).await, sidecar)
}

#[test]
fn a_mesh_gateways_way_to_other_datacenters_is_looked_at() {
    isolated("check mesh gateway", async |world| {
        let federation = Federation::start(world, json!({})).await;
        let _near = MeshGateway::start(world, Kind::Meshd, NEAR_ADDRESS, &[]).await;
        let mut far = federation
            .far
            .within(async move |site: Rc<Site>| {
                MeshGateway::start(&site.world, Kind::Meshd, FAR_ADDRESS, &[]).await
            })
            .await;
        let _one = one(world, &federation.consul).await;
        let gateway = at_agent("--service mesh-gateway");
        let document = intact(&gateway).await;
        says(
            &document,
            "datacenters",
            &format!("{FAR}: mesh-gateway at {FAR_ADDRESS}"),
        );
        says(&document, "services", "1 of 1");
        assert_eq!(check(&at_agent("--proxy-id mesh-gateway")).await.1, 0);

        far.process.kill();
        broken(
            &gateway,
            "datacenters",
            "cannot connect",
            "start that gateway",
        )
        .await;
    });
}

#[test]
fn what_a_terminating_gateway_stands_in_for_is_looked_at_to_the_server_outside() {
    isolated("check terminating", async |world| {
        let secured = Secured::new(world);
        let consul = Consul::start_secured(world, &secured).await;
        let authority = Authority::new(TRUST_DOMAIN);
        let (plain, _tls) = servers_outside(&consul, &authority).await;
        let right = world.write("right.pem", &authority.root_pem());
        let wrong = world.write("wrong.pem", &Authority::new(TRUST_DOMAIN).root_pem());
        link(&consul, &right).await;
        let reads = r#"service "egress" { policy = "write" } service "plain" { policy = "write" }
            service_prefix "" { policy = "read" } node_prefix "" { policy = "read" }"#;
        let all = format!(r#"{reads} service "tls" {{ policy = "write" }}"#);
        let token = consul.policy_token("egress", &all).await;
        let narrow = consul.policy_token("narrow", reads).await;
        let with = |token: &str| {
            let mut all = secured.words();
            all.extend(words(&format!("--token {token}")));
            all
        };
        let mut run = words(
            "run --gateway terminating --service egress --register --address 127.0.0.1:8443 \
             --admin-bind 127.0.0.1:19443",
        );
        run.extend(with(&narrow.secret));
        let mut gateway = world.spawn("egress", &tools::ours("meshd"), &run);
        let checked = |token: &str| [words("--service egress"), with(token)].concat();
        let own = checked(&token.secret);

        let lacks_right = async || {
            let (narrow, lacks) = (checked(&narrow.secret), "service:write on \"tls\"");
            broken(&narrow, "service tls", "Permission denied", lacks).await;
        };
        lacks_right().await;
        let document = intact(&own).await;
        // The agent has that leaf now, and shows it whatever the token.
        lacks_right().await;
        says(&document, "service tls", "/svc/tls is valid");
        says(&document, "service plain", "intentions let caller call it");
        // The test's certificates live for an hour.
        let warned = lines(&document, "handshakes", "warning");
        let proof = "proves to be out.test";
        assert!(warned[0].0.contains(proof), "{document:#}");
        says(&document, "handshakes", "without TLS");

        link(&consul, &wrong).await;
        broken(&own, "handshakes", "no trusted root", "CAFile").await;
        link(&consul, &right).await;
        consul.intentions("plain", &[("*", "deny")]).await;
        closed_to_all(&own, "service plain").await;
        drop(plain);
        broken(&own, "handshakes", "cannot connect", "start the service").await;
        gateway.kill();
        broken(
            &own,
            "registration",
            "nobody listens",
            "meshd run --gateway terminating",
        )
        .await;
    });
}

/// A service without TLS and one with, which `caller` may call.
async fn servers_outside(
    consul: &Consul,
    authority: &Authority,
) -> (TcpOrigin, (TcpOrigin, TlsFront)) {
    let server = authority.host_leaf("out.test");
    let (plain, behind) = (TcpOrigin::start(0).await, TcpOrigin::start(0).await);
    let front = TlsFront::start(behind.address(), server, None).await;
    for (name, port) in [
        ("plain", plain.address().port()),
        ("tls", front.address().port()),
    ] {
        consul.register(&Service::new(name, port)).await;
        consul.intentions(name, &[("caller", "allow")]).await;
    }
    (plain, (behind, front))
}

/// Waits until it is said that nobody may call a service, and what would let somebody.
async fn closed_to_all(words: &[String], group: &str) {
    wait::holds("nobody may call it", PATIENCE, async || {
        let (document, _) = check(words).await;
        let warned = lines(&document, group, "warning");
        warned
            .iter()
            .any(|(line, help)| line.contains("nobody") && help.contains("consul intention create"))
    })
    .await;
}

/// Both are linked, one by this authority.
async fn link(consul: &Consul, authority: &Path) {
    let tls = json!({"Name": "tls", "CAFile": authority, "SNI": "out.test"});
    consul
        .config_entry(json!({"Kind": "terminating-gateway", "Name": "egress",
            "Services": [{"Name": "plain"}, tls]}))
        .await;
}

#[test]
fn an_ingress_gateways_listeners_are_looked_at() {
    isolated("check ingress", async |world| {
        let consul = Consul::start(world).await;
        let _one = one(world, &consul).await;
        let entry = async |more: &[Value]| {
            let listener = json!({"Port": HTTP, "Protocol": "http", "Services": [{"Name": "one"}]});
            let listeners = [&[listener], more].concat();
            consul
                .config_entry(json!({"Kind": "ingress-gateway", "Name": "edge",
                    "TLS": {"Enabled": true}, "Listeners": listeners}))
                .await;
        };
        entry(&[]).await;
        let gateway = at_agent("--service edge");
        let mut running = EntryGateway::start(world, EntryKind::Ingress, "edge", &[HTTP]).await;
        let document = intact(&gateway).await;
        says(&document, "entry", "listener http:9001 leads to one");
        says(&document, "listeners", "is open at 127.0.0.1:9001");
        says(&document, "listeners", "is valid for");
        says(&document, "handshakes", &consul.spiffe_id("one").await);

        let nobody = json!({"Port": OTHER, "Protocol": "grpc", "Services": [{"Name": "*"}]});
        entry(&[nobody]).await;
        broken(
            &gateway,
            "entry",
            "listener grpc:9002 leads to no service",
            "name services",
        )
        .await;
        entry(&[]).await;
        consul.intentions("one", &[("edge", "deny")]).await;
        broken(&gateway, "service one", "denies edge", "-allow edge one").await;
        consul.intentions("one", &[("edge", "allow")]).await;
        intact(&gateway).await;
        running.process.kill();
        let start = "gateway run --gateway ingress --service edge";
        broken(&gateway, "listeners", "is not open", start).await;
        consul.delete_config_entry("ingress-gateway", "edge").await;
        broken(
            &gateway,
            "entry",
            "no ingress-gateway entry edge",
            "config write",
        )
        .await;
    });
}

#[test]
fn what_consul_does_not_accept_of_an_api_gateway_is_named() {
    isolated("check api", async |world| {
        let consul = Consul::start(world).await;
        let _one = one(world, &consul).await;
        let certificate = async |end: i32| {
            let (chain, key) = pair(end);
            consul
                .config_entry(json!({"Kind": "inline-certificate", "Name": "site",
                    "Certificate": chain, "PrivateKey": key}))
                .await;
        };
        certificate(2100).await;
        let reference = json!({"Kind": "inline-certificate", "Name": "site"});
        consul
            .config_entry(json!({"Kind": "api-gateway", "Name": "edge", "Listeners": [
                {"Name": "web", "Port": HTTP, "Protocol": "http",
                    "TLS": {"Certificates": [reference]}},
                {"Name": "bytes", "Port": OTHER, "Protocol": "tcp"}]}))
            .await;
        let route = async |kind: &str, name: &str, listener: &str, more: Value| {
            let parent = json!({"Kind": "api-gateway", "Name": "edge", "SectionName": listener});
            let mut entry = json!({"Kind": kind, "Name": name, "Parents": [parent]});
            if let (Some(entry), Value::Object(more)) = (entry.as_object_mut(), more) {
                entry.extend(more);
            }
            consul.config_entry(entry).await;
        };
        let rules = json!({"Rules": [{"Services": [{"Name": "one"}]}]});
        route("http-route", "all", "web", rules).await;
        let _bytes = TcpOrigin::start(8002).await;
        let two = Service::new("two", 8002).sidecar(21002);
        consul.register(&two).await;
        let _two = Sidecar::start(world, Kind::Meshd, &two).await;
        let to_two = || json!({"Services": [{"Name": "two"}]});
        route("tcp-route", "first", "bytes", to_two()).await;
        let mut running = EntryGateway::start(world, EntryKind::Api, "edge", &[HTTP, OTHER]).await;
        let gateway = at_agent("--service edge");
        let document = intact(&gateway).await;
        says(
            &document,
            "entry",
            "listener web, http:9001 has the routes all",
        );
        says(&document, "routes", "tcp-route first is accepted");
        says(
            &document,
            "listeners",
            "the certificate site of web is valid",
        );
        for service in ["one", "two"] {
            says(&document, "handshakes", &consul.spiffe_id(service).await);
        }

        certificate(2020).await;
        broken(&gateway, "listeners", "site of web expired", "renew it").await;
        certificate(2100).await;
        route("tcp-route", "second", "bytes", to_two()).await;
        broken(&gateway, "entry", "RouteConflict", "all tcp-routes but one").await;
        consul.delete_config_entry("tcp-route", "second").await;
        route("http-route", "lost", "nowhere", json!({"Rules": []})).await;
        broken(&gateway, "routes", "http-route lost", "mend Parents").await;
        consul.delete_config_entry("http-route", "lost").await;
        intact(&gateway).await;
        running.process.kill();
        broken(
            &gateway,
            "listeners",
            "web is not open",
            "gateway run --gateway api",
        )
        .await;
    });
}

/// A certificate that ends with that year, and its key.
fn pair(end: i32) -> (String, String) {
    let mut wanted = CertificateParams::new(vec!["site.test".to_owned()]).expect("a host name");
    wanted.not_before = rcgen::date_time_ymd(2019, 1, 1);
    wanted.not_after = rcgen::date_time_ymd(end, 12, 31);
    let key = KeyPair::generate().expect("a key");
    let made = wanted.self_signed(&key).expect("a certificate");
    (made.pem(), key.serialize_pem())
}

#[test]
fn a_gateway_that_is_not_registered_is_told_how_it_would_be() {
    isolated("check no gateway", async |world| {
        let _consul = Consul::start(world).await;
        let (document, code) = check(&at_agent("--service nobody")).await;
        assert_eq!(code, 1);
        breaks(&document, "registration", "no gateway nobody", "--register");
    });
}
