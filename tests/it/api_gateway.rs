//! An API gateway on real Consul: what the routes bound to it and its certificates say, as
//! Consul's Envoy does it.

use http::{Method, Request};
use meridian_tests::client::{Connection, Protocol, Reply, empty, loopback};
use meridian_tests::consul::{Consul, Service};
use meridian_tests::entry_gateway::{EntryGateway, Kind};
use meridian_tests::handshake;
use meridian_tests::origin::{Origin, Seen};
use meridian_tests::sidecar::{self, Sidecar};
use meridian_tests::wait::{self, PATIENCE};
use meridian_tests::world::{World, isolated, listens};
use rcgen::{CertificateParams, DnType, KeyPair};
use serde_json::{Value, json};
use std::collections::BTreeSet;

const HTTP: u16 = 9999;
const WILD: u16 = 9998;
const IDLE: u16 = 9997;

#[test]
fn routes_are_chosen_as_by_consuls_envoy() {
    isolated("api http", async |world| {
        let (consul, _mesh) = mesh(world).await;
        gateway_entry(
            &consul,
            json!([
                {"Name": "http", "Port": HTTP, "Protocol": "http"},
                {"Name": "wild", "Port": WILD, "Protocol": "http", "Hostname": "*.a.test"},
                {"Name": "idle", "Port": IDLE, "Protocol": "http"},
            ]),
        )
        .await;
        route(&consul, "rules", "http", &[], rules()).await;
        let one = json!([{"Services": [{"Name": "one"}]}]);
        route(
            &consul,
            "wild",
            "wild",
            &["b.a.test", "a.test", "b.test"],
            one.clone(),
        )
        .await;
        let mut gateway = EntryGateway::start(world, Kind::Api, "edge", &[HTTP, WILD]).await;
        wait::until("the first answer", PATIENCE, async || {
            seen(&ask(HTTP, "x", Method::GET, "/a").await?).map(drop)
        })
        .await;

        paths_and_methods_are_matched().await;
        for (host, status) in [
            ("b.a.test", 200),
            ("a.test:9998", 200),
            ("a.test:80", 404),
            ("c.a.test", 404),
            ("b.test", 404),
        ] {
            let reply = ask(WILD, host, Method::GET, "/").await.expect("a reply");
            assert_eq!(reply.status, status, "{host}");
        }
        assert!(!listens(IDLE), "a listener without routes stays closed");

        route(&consul, "late", "idle", &[], one).await;
        wait::holds(
            "a listener opens with its first route",
            PATIENCE,
            async || listens(IDLE),
        )
        .await;
        consul.delete_config_entry("http-route", "late").await;
        wait::holds("and closes with its last", PATIENCE, async || {
            !listens(IDLE)
        })
        .await;
        gateway.restart(world, &[HTTP, WILD]).await;
        let reply = ask(HTTP, "x", Method::GET, "/a").await.expect("a reply");
        assert_eq!(reply.status, 200);
    });
}

#[test]
fn certificates_are_chosen_by_name_and_the_leaf_answers_for_the_rest() {
    isolated("api tls", async |world| {
        let (consul, _mesh) = mesh(world).await;
        certificate(&consul, "host", "host.a.test", &[]).await;
        certificate(&consul, "wild", "*.a.test", &[]).await;
        certificate(&consul, "twice", "other", &["host.a.test", "twice.b.test"]).await;
        let (chain, key) = pair("file", &["file.test"]);
        let (chain, key) = (
            world.write("file.crt", &chain),
            world.write("file.key", &key),
        );
        consul
            .config_entry(json!({
                "Kind": "file-system-certificate", "Name": "file",
                "Certificate": chain.clone(), "PrivateKey": key.clone(),
            }))
            .await;
        gateway_entry(
            &consul,
            json!([
                secure("all", HTTP, &["host", "wild"]),
                secure("twice", WILD, &["host", "twice"]),
                {"Name": "file", "Port": IDLE, "Protocol": "http", "TLS": {"Certificates": [
                    {"Kind": "file-system-certificate", "Name": "file"},
                ]}},
            ]),
        )
        .await;
        for listener in ["all", "twice", "file"] {
            let one = json!([{"Services": [{"Name": "one"}]}]);
            route(&consul, listener, listener, &[], one).await;
        }
        let _gateway = EntryGateway::start(world, Kind::Api, "edge", &[HTTP, WILD, IDLE]).await;
        let leaf = consul.spiffe_id("edge").await;
        for (port, host, expected) in [
            (HTTP, "host.a.test", "host.a.test"),
            (HTTP, "b.a.test", "*.a.test"),
            (HTTP, "c.b.a.test", "*.a.test"),
            (HTTP, "nobody.test", leaf.as_str()),
            (WILD, "host.a.test", leaf.as_str()),
            (WILD, "twice.b.test", "other"),
            (IDLE, "whatever.test", "file"),
        ] {
            presents(port, host, expected).await;
        }

        certificate(&consul, "host", "host.a.test", &["renewed.test"]).await;
        presents(HTTP, "renewed.test", "host.a.test").await;
        let (renewed, renewed_key) = pair("renewed", &["file.test"]);
        std::fs::write(&key, renewed_key).expect("the key's file");
        std::fs::write(&chain, renewed).expect("the certificate's file");
        presents(IDLE, "whatever.test", "renewed").await;
    });
}

#[test]
fn of_conflicting_tcp_routes_none_is_served() {
    isolated("api tcp", async |world| {
        let consul = Consul::start(world).await;
        gateway_entry(
            &consul,
            json!([
                {"Name": "tcp", "Port": HTTP, "Protocol": "tcp"},
                {"Name": "fine", "Port": WILD, "Protocol": "tcp"},
            ]),
        )
        .await;
        for (name, listener) in [("a", "tcp"), ("b", "tcp"), ("c", "fine")] {
            let parent = json!({"Kind": "api-gateway", "Name": "edge", "SectionName": listener});
            consul
                .config_entry(json!({
                    "Kind": "tcp-route", "Name": name, "Parents": [parent], "Services": [{"Name": "s"}],
                }))
                .await;
        }
        let _gateway = EntryGateway::start(world, Kind::Api, "edge", &[WILD]).await;
        let entry = consul
            .api(Method::GET, "/v1/config/api-gateway/edge", None)
            .await;
        let conditions = entry["Status"]["Conditions"]
            .as_array()
            .expect("conditions");
        let conflicted = conditions.iter().any(|condition| {
            condition["Reason"] == "RouteConflict" && condition["Resource"]["SectionName"] == "tcp"
        });
        assert!(conflicted, "{conditions:?}");
        assert!(!listens(HTTP));
        consul.delete_config_entry("tcp-route", "a").await;
        wait::holds("the conflict is over", PATIENCE, async || listens(HTTP)).await;
    });
}

/// Rules that set `x-rule` to their own name.
fn rules() -> Value {
    let rule = |name: &str, matches: Value, more: Value| {
        let mut filters = json!({"Headers": [{"Set": {"x-rule": name}}]});
        if let (Some(filters), Value::Object(more)) = (filters.as_object_mut(), more) {
            filters.extend(more);
        }
        json!({"Matches": [matches], "Filters": filters, "Services": [{"Name": "one"}]})
    };
    let path = |kind: &str, value: &str| json!({"Path": {"Match": kind, "Value": value}});
    let post = json!({"Path": {"Match": "prefix", "Value": "/post"}, "Method": "POST"});
    json!([
        rule("prefix", path("prefix", "/a"), json!({})),
        rule("longer", path("prefix", "/a/b"), json!({})),
        rule("post", post, json!({})),
        rule("rewrite", path("prefix", "/old"), json!({"URLRewrite": {"Path": "/new"}})),
        {"Matches": [path("prefix", "/split")], "Services": [
            {"Name": "one", "Weight": 1, "Filters": {"URLRewrite": {"Path": "/ignored"}}},
            {"Name": "two", "Weight": 1},
        ]},
    ])
}

async fn paths_and_methods_are_matched() {
    for (method, path, rule, target) in [
        (Method::GET, "/ab", "prefix", "/ab"),
        (Method::GET, "/a/bc", "longer", "/a/bc"),
        (Method::POST, "/post", "post", "/post"),
        (Method::GET, "/old/x?y", "rewrite", "/new/x?y"),
    ] {
        let reply = ask(HTTP, "x", method, path).await.expect("a reply");
        let seen = seen(&reply).expect("a report");
        assert_eq!(seen.header("x-rule"), [rule], "{path}");
        assert_eq!(seen.target, target);
    }
    for (method, path) in [(Method::GET, "/post"), (Method::GET, "/none")] {
        let reply = ask(HTTP, "x", method, path).await.expect("a reply");
        assert_eq!(
            (reply.status.as_u16(), reply.text().as_str()),
            (404, ""),
            "{path}"
        );
    }
    let mut origins = BTreeSet::new();
    for _ in 0..40 {
        let reply = ask(HTTP, "x", Method::GET, "/split")
            .await
            .expect("a reply");
        let seen = seen(&reply).expect("a report");
        assert_eq!(seen.target, "/split");
        origins.insert(seen.origin);
    }
    assert_eq!(origins, ["one", "two"].map(str::to_owned).into());
}

fn seen(reply: &Reply) -> Result<Seen, String> {
    Seen::from_reply(reply)
}

async fn ask(port: u16, host: &str, method: Method, path: &str) -> Result<Reply, String> {
    let connection = Connection::open(loopback(port), Protocol::Http1).await;
    let mut connection = connection
        .map_err(|error| error.to_string())?
        .authority(host);
    let request = Request::builder().method(method).uri(path).body(empty());
    let request = request.map_err(|error| error.to_string())?;
    connection
        .send(request)
        .await
        .map_err(|error| error.to_string())
}

async fn mesh(world: &World) -> (Consul, (Vec<Origin>, Vec<Sidecar>)) {
    let consul = Consul::start(world).await;
    let (mut origins, mut sidecars) = (Vec::new(), Vec::new());
    for (number, name) in (1..).zip(["one", "two"]) {
        consul.protocol(name, "http").await;
        let service = Service::new(name, 8000 + number).sidecar(21000 + number);
        origins.push(Origin::start(name, service.port).await);
        consul.register(&service).await;
        sidecars.push(Sidecar::launch(world, sidecar::Kind::Meshd, &service));
    }
    for sidecar in &mut sidecars {
        sidecar.ready().await;
    }
    for name in ["one", "two"] {
        consul.passing(name, 1).await;
    }
    (consul, (origins, sidecars))
}

async fn gateway_entry(consul: &Consul, listeners: Value) {
    consul
        .config_entry(json!({"Kind": "api-gateway", "Name": "edge", "Listeners": listeners}))
        .await;
}

async fn route(consul: &Consul, name: &str, listener: &str, hosts: &[&str], rules: Value) {
    consul
        .config_entry(json!({
            "Kind": "http-route", "Name": name, "Hostnames": hosts, "Rules": rules,
            "Parents": [{"Kind": "api-gateway", "Name": "edge", "SectionName": listener}],
        }))
        .await;
}

fn secure(name: &str, port: u16, certificates: &[&str]) -> Value {
    let certificates: Vec<_> = certificates
        .iter()
        .map(|name| json!({"Kind": "inline-certificate", "Name": name}))
        .collect();
    json!({"Name": name, "Port": port, "Protocol": "http", "TLS": {"Certificates": certificates}})
}

async fn certificate(consul: &Consul, name: &str, common: &str, hosts: &[&str]) {
    let (chain, key) = pair(common, hosts);
    let kind = "inline-certificate";
    consul
        .config_entry(json!({"Kind": kind, "Name": name, "Certificate": chain, "PrivateKey": key}))
        .await;
}

/// A certificate and its key, PEM.
fn pair(common: &str, hosts: &[&str]) -> (String, String) {
    let hosts: Vec<_> = hosts.iter().map(|host| (*host).to_owned()).collect();
    let mut wanted = CertificateParams::new(hosts).expect("host names");
    wanted.distinguished_name = rcgen::DistinguishedName::new();
    wanted.distinguished_name.push(DnType::CommonName, common);
    let key = KeyPair::generate().expect("a key");
    let made = wanted.self_signed(&key).expect("a certificate");
    (made.pem(), key.serialize_pem())
}

/// Waits until the certificate that answers for a host begins with a name.
async fn presents(port: u16, host: &str, expected: &str) {
    let what = format!("{expected} for {host} on {port}");
    wait::until(&what, PATIENCE, async || {
        let names = handshake::names(loopback(port), host).await;
        let names = names.map_err(|error| error.to_string())?;
        let first = names.first().is_some_and(|name| name == expected);
        first.then_some(()).ok_or_else(|| format!("{names:?}"))
    })
    .await;
}
