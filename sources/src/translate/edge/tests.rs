//! Gateways for strangers, from hand-written answers to their contents.

use super::with_port;
use crate::embedded::DevelopmentCa;
use crate::knowledge::{ChainQuery, Fact, Knowledge, News, Topic};
use crate::publish::Contents;
use crate::role::Role;
use crate::translate::api::ApiGateway;
use crate::translate::ingress::IngressGateway;
use consul::Secret;
use consul::xds::GatewayCertificate;
use meridian_model::listener::EdgeTls;
use meridian_model::{CipherSuite, Security, Snapshot, TlsTerms, Transport};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

/// Answers to everything that a gateway asks for. Services whose chain is one of connections speak
/// TCP, all others HTTP.
struct World {
    ca: DevelopmentCa,
    /// The `mesh` entry, `null` for none.
    mesh: Value,
    /// One entry of each kind.
    entries: BTreeMap<&'static str, Value>,
    /// Rows of the services behind an ingress gateway.
    services: Value,
}

impl World {
    /// An HTTP listener with TLS on 8080, and one for bytes on 8081.
    fn ingress() -> Self {
        Self::new(
            json!([
                {"Service": {"Name": "web"}, "Port": 8080, "Protocol": "http", "Hosts": ["web.test"]},
                {"Service": {"Name": "db"}, "Port": 8081, "Protocol": "tcp"},
            ]),
            [(
                "ingress-gateway",
                json!({"Listeners": [
                    {"Port": 8080, "Protocol": "http", "TLS": {"Enabled": true},
                        "Services": [{"Name": "web", "Hosts": ["web.test"]}]},
                    {"Port": 8081, "Protocol": "tcp", "Services": [{"Name": "db"}]},
                ]}),
            )],
        )
    }

    /// The same of an API gateway, as `http` and `tcp`.
    fn api() -> Self {
        let certificates = json!([{"Kind": "inline-certificate", "Name": "c"}]);
        let (certificate, key) = certificate();
        Self::new(
            json!([]),
            [
                (
                    "api-gateway",
                    json!({"Listeners": [
                        {"Name": "http", "Port": 8080, "Protocol": "http",
                            "TLS": {"Certificates": certificates}},
                        {"Name": "tcp", "Port": 8081, "Protocol": "tcp"},
                    ]}),
                ),
                (
                    "bound-api-gateway",
                    json!({"Listeners": [
                        {"Name": "http", "Certificates": certificates,
                            "Routes": [{"Kind": "http-route", "Name": "h"}]},
                        {"Name": "tcp", "Routes": [{"Kind": "tcp-route", "Name": "t"}]},
                    ]}),
                ),
                (
                    "http-route",
                    json!({"Rules": [{"Services": [{"Name": "web"}]}]}),
                ),
                ("tcp-route", json!({"Services": [{"Name": "db"}]})),
                (
                    "inline-certificate",
                    json!({"Certificate": certificate, "PrivateKey": key}),
                ),
            ],
        )
    }

    fn new<const N: usize>(services: Value, entries: [(&'static str, Value); N]) -> Self {
        Self {
            ca: DevelopmentCa::new("td", "dc1").unwrap(),
            mesh: Value::Null,
            entries: entries.into(),
            services,
        }
    }

    fn entry(&mut self, kind: &str) -> &mut Value {
        self.entries.get_mut(kind).unwrap()
    }

    fn answer(&self, topic: &Topic) -> Fact {
        match topic {
            Topic::Roots => Fact::Roots(Arc::new(self.ca.roots())),
            Topic::Leaf(service) => Fact::Leaf(Arc::new(self.ca.leaf(service).unwrap())),
            Topic::Mesh => Fact::Mesh(Arc::new(serde_json::from_value(self.mesh.clone()).unwrap())),
            Topic::Entry(kind, _) => Fact::Entry(Arc::new(self.entries.get(kind).cloned())),
            Topic::GatewayServices(_) => {
                let rows = serde_json::from_value(self.services.clone()).unwrap();
                Fact::GatewayServices(Arc::new(rows))
            }
            Topic::GatewayCertificate(_) => {
                let (certificate_pem, key) = certificate();
                let private_key_pem = Secret::new(key);
                Fact::GatewayCertificate(Arc::new(Some(GatewayCertificate {
                    certificate_pem,
                    private_key_pem,
                })))
            }
            Topic::Chain(query) => Fact::Chain(Arc::new(chain(query))),
            Topic::Instances(_) => Fact::Instances(Arc::default()),
            other => panic!("no gateway for strangers wants {other:?}"),
        }
    }

    /// What is known once everything has answered that is wanted and not held back.
    fn knowledge(&self, role: &impl Role, held_back: Option<&Topic>) -> Knowledge {
        let mut knowledge = Knowledge::default();
        // Answers bring new questions.
        for _ in 0..4 {
            for topic in role.wanted(&knowledge) {
                if Some(&topic) != held_back {
                    let news = News::Learned(self.answer(&topic));
                    knowledge.take(topic, news, SystemTime::UNIX_EPOCH);
                }
            }
        }
        knowledge
    }

    fn contents(&self, role: &impl Role) -> Contents {
        role.contents(&self.knowledge(role, None), &Snapshot::default())
            .expect("everything has answered")
    }
}

/// A certificate for `web.test` and its key; PEM.
fn certificate() -> (String, String) {
    let made = rcgen::generate_simple_self_signed(vec!["web.test".to_owned()]).unwrap();
    (made.cert.pem(), made.signing_key.serialize_pem())
}

fn chain(query: &ChainQuery) -> consul::chain::CompiledChain {
    let service = &query.service;
    let protocol = query.protocol.as_deref().unwrap_or("http");
    let id = format!("{service}.id");
    serde_json::from_value(json!({"ServiceName": service, "Protocol": protocol,
        "StartNode": "resolver:a",
        "Nodes": {"resolver:a": {"Type": "resolver", "Name": "a", "Resolver": {"Target": id}}},
        "Targets": {&id: {"ID": id, "Service": service, "Datacenter": "dc1"}}}))
    .unwrap()
}

fn ingress() -> IngressGateway {
    IngressGateway {
        name: "edge".to_owned(),
        address: "10.0.0.1:8443".parse().unwrap(),
    }
}

fn api() -> ApiGateway {
    ApiGateway {
        name: "edge".to_owned(),
        host: "10.0.0.1".parse().unwrap(),
    }
}

/// What is offered to the instances of each cluster.
fn offered(contents: &Contents) -> Vec<(&str, TlsTerms)> {
    let targets = contents.clusters.iter().flat_map(|(name, cluster)| {
        let targets = cluster.targets.iter();
        targets.map(move |target| (name.as_str(), target.transport.clone()))
    });
    targets
        .map(|(name, transport)| match transport {
            Transport::Mesh(mesh) => (name, mesh.terms),
            other => panic!("{name}: {other:?}"),
        })
        .collect()
}

/// TLS of a listener.
fn presented(contents: &Contents, listener: &str) -> EdgeTls {
    match &contents.listeners[listener].security {
        Security::Edge(tls) => tls.clone(),
        other => panic!("{listener}: {other:?}"),
    }
}

fn reasons(contents: &Contents) -> Vec<(&str, &str)> {
    let rejected = contents.rejected.iter();
    rejected
        .map(|one| (one.resource.as_str(), one.reason.as_str()))
        .collect()
}

/// An SDS server's certificate.
fn sds() -> Value {
    json!({"SDS": {"ClusterName": "sds", "CertResource": "c"}})
}

#[test]
fn the_mesh_entry_holds_towards_the_mesh_and_not_towards_strangers() {
    let mesh = json!({"TLS": {"Incoming": {"TLSMinVersion": "TLSv1_3"}, "Outgoing": {
        "TLSMaxVersion": "TLSv1_2",
        "CipherSuites": ["TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"]}}});
    let one = TlsTerms {
        tls12: vec![CipherSuite::EcdsaAes256],
        tls13: false,
    };
    let (mut for_ingress, mut for_api) = (World::ingress(), World::api());
    (for_ingress.mesh, for_api.mesh) = (mesh.clone(), mesh);
    let ingress = for_ingress.contents(&ingress());
    assert_eq!(
        offered(&ingress),
        [("db@8081", one.clone()), ("web", one.clone())]
    );
    let api = for_api.contents(&api());
    assert_eq!(offered(&api), [("edge/a", one.clone()), ("tcp/db", one)]);
    for (contents, listener) in [(ingress, "http:8080"), (api, "http")] {
        assert_eq!(presented(&contents, listener).terms, TlsTerms::default());
        assert_eq!(reasons(&contents), []);
    }
}

#[test]
fn only_what_would_hold_is_named() {
    let old = json!({"TLSMinVersion": "TLSv1_0"});
    let named = |direction: &str| {
        let mut world = World::ingress();
        world.mesh = json!({"TLS": {direction: old}, "HTTP": {"Incoming": {
            "RequestNormalization": {"PathWithEscapedSlashesAction": "GUESS"}}}});
        world.contents(&ingress()).rejected
    };
    assert_eq!(named("Incoming"), []);
    let all = named("Outgoing");
    let [one] = &all[..] else { panic!("{all:?}") };
    assert_eq!(one.resource, "mesh");
    assert!(
        one.reason.starts_with("TLS.Outgoing.TLSMinVersion"),
        "{one:?}"
    );
}

#[test]
fn a_gateways_own_fields_hold_towards_strangers() {
    let newest = TlsTerms::newest();
    let mut world = World::ingress();
    world.mesh = json!({"TLS": {"Incoming": {"TLSMaxVersion": "TLSv1_2"}}});
    world.entry("ingress-gateway")["TLS"] = json!({"TLSMinVersion": "TLSv1_3"});
    let contents = world.contents(&ingress());
    assert_eq!(presented(&contents, "http:8080").terms, newest);
    let mut world = World::api();
    world.mesh = json!({"TLS": {"Incoming": {"TLSMaxVersion": "TLSv1_2"}}});
    world.entry("api-gateway")["Listeners"][0]["TLS"]["MinVersion"] = json!("TLSv1_3");
    assert_eq!(presented(&world.contents(&api()), "http").terms, newest);
}

#[test]
fn the_first_generation_waits_for_the_mesh_entry() {
    fn waits(world: &World, role: &impl Role) {
        let knowledge = world.knowledge(role, Some(&Topic::Mesh));
        let first = role.contents(&knowledge, &Snapshot::default());
        assert_eq!(first, None);
    }
    waits(&World::ingress(), &ingress());
    waits(&World::api(), &api());
}

#[test]
fn one_listener_with_tls_is_enough_for_a_certificate_with_names() {
    let contents = World::ingress().contents(&ingress());
    let tls = presented(&contents, "http:8080");
    let hosts = &tls.certificates[0].hosts;
    assert!(hosts.contains(&"web.test".to_owned()), "{hosts:?}");
    let other = &contents.listeners["tcp:8081"].security;
    assert!(matches!(other, Security::Plain), "{other:?}");
    assert_eq!(reasons(&contents), []);

    let mut plain = World::ingress();
    plain.entry("ingress-gateway")["Listeners"][0]["TLS"] = Value::Null;
    let wanted = ingress().wanted(&plain.knowledge(&ingress(), None));
    let certificate = Topic::GatewayCertificate("edge".to_owned());
    assert!(!wanted.contains(&certificate), "{wanted:?}");
}

#[test]
fn what_needs_an_sds_server_is_named_and_not_served() {
    let refused = "certificates from an SDS server are not served";
    let listeners = |contents: &Contents| {
        let names = contents.listeners.keys();
        names.map(ToString::to_string).collect::<Vec<_>>()
    };
    let mut world = World::ingress();
    world.entry("ingress-gateway")["TLS"] = sds();
    let contents = world.contents(&ingress());
    assert_eq!(listeners(&contents), ["check"]);
    assert_eq!(
        reasons(&contents),
        [
            ("listener http:8080", refused),
            ("listener tcp:8081", refused)
        ]
    );

    let mut world = World::ingress();
    world.entry("ingress-gateway")["Listeners"][0]["TLS"] = sds();
    let contents = world.contents(&ingress());
    assert_eq!(listeners(&contents), ["check", "tcp:8081"]);
    assert_eq!(reasons(&contents), [("listener http:8080", refused)]);

    let mut world = World::ingress();
    world.entry("ingress-gateway")["Listeners"][0]["Services"][0]["TLS"] = sds();
    let contents = world.contents(&ingress());
    assert_eq!(listeners(&contents), ["check", "http:8080", "tcp:8081"]);
    assert_eq!(reasons(&contents), [("service web", refused)]);
    assert!(!contents.clusters.contains_key("web"));
}

#[test]
fn hosts_go_with_the_listeners_port_unless_they_are_written_with_one() {
    let cases: [(&str, &[&str]); 7] = [
        ("a.test", &["a.test:9", "a.test"]),
        ("*.a.test", &["*.a.test:9", "*.a.test"]),
        ("a.test:9", &["a.test:9"]),
        ("a.test:80", &["a.test:80"]),
        ("web.ingress.*", &["web.ingress.*"]),
        ("*", &["*"]),
        ("[::1]", &["[::1]:9", "[::1]"]),
    ];
    for (written, expected) in cases {
        assert_eq!(with_port([written.to_owned()], 9), expected, "{written}");
    }
}

#[test]
fn a_listener_that_asks_for_tokens_stays_closed_and_is_named() {
    for field in ["Override", "Default"] {
        let mut world = World::api();
        world.entry("api-gateway")["Listeners"][0][field] =
            json!({"JWT": {"Providers": [{"Name": "okta"}]}});
        let contents = world.contents(&api());
        let open: Vec<_> = contents.listeners.keys().map(ToString::to_string).collect();
        assert_eq!(open, ["tcp"], "{field}");
        assert_eq!(
            reasons(&contents),
            [("listener http", "JWT rules of listeners are not served")],
            "{field}"
        );
    }
}

#[test]
fn an_api_gateway_waits_for_its_first_entry_and_closes_without_one() {
    let mut world = World::api();
    world.entries.remove("api-gateway");
    let knowledge = world.knowledge(&api(), None);
    assert_eq!(api().contents(&knowledge, &Snapshot::default()), None);
    let started = Snapshot {
        generation: 1,
        ..Snapshot::default()
    };
    let contents = api().contents(&knowledge, &started).expect("no listeners");
    assert!(contents.listeners.is_empty(), "{contents:?}");
}
