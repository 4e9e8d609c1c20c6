//! A mesh gateway from hand-written answers to its contents.

use super::*;
use crate::knowledge::{Fact, News};
use consul::agent::Roots;
use meridian_model::Service;
use serde_json::{Value, json};
use std::time::{Duration, SystemTime};

fn gateway() -> MeshGateway {
    MeshGateway(SniGateway {
        name: "mgw".to_owned(),
        address: "10.0.0.1:8443".parse().unwrap(),
    })
}

/// Answers to everything that is wanted, again and again; what `answer` says wins.
fn known(answer: impl Fn(&Topic) -> Option<News>) -> Knowledge {
    let mut knowledge = Knowledge::default();
    for _ in 0..3 {
        for topic in gateway().wanted(&knowledge) {
            let news = answer(&topic).unwrap_or_else(|| News::Learned(usual(&topic)));
            knowledge.take(topic, news, SystemTime::UNIX_EPOCH);
        }
    }
    knowledge
}

fn usual(topic: &Topic) -> Fact {
    match topic {
        Topic::Registration(_) => registration(json!({})),
        Topic::Roots => Fact::Roots(Arc::new(Roots {
            trust_domain: "td".to_owned(),
            ..Roots::default()
        })),
        Topic::Mesh => Fact::Mesh(Arc::default()),
        Topic::Services => names(&["consul", "web"]),
        Topic::Datacenters => Fact::Datacenters(Arc::new(vec!["dc1".into(), "dc2".into()])),
        Topic::FederationStates => Fact::FederationStates(Arc::default()),
        Topic::GatewayNames(_) => names(&["far"]),
        Topic::Resolvers => resolvers(json!([{"Name": "web", "Subsets": {"v1": {}}}])),
        Topic::Entry(..) => Fact::Entry(Arc::default()),
        Topic::Agent => Fact::Agent(Arc::new(
            serde_json::from_value(json!({"DebugConfig": {"DNSDomain": "example."}})).unwrap(),
        )),
        Topic::Instances(query) => instances(match query.service.as_str() {
            "web" => instance("dc1", "10.0.0.5", "web-1", 21000),
            "consul" => instance("dc1", "10.0.0.9", "consul", 8300),
            _ => remote_gateway("1.2.3.4"),
        }),
        other => panic!("{other:?} is wanted"),
    }
}

fn registration(more: Value) -> Fact {
    let mut written = json!({"ID": "mgw", "Datacenter": "dc1"});
    written
        .as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    Fact::Registration(Arc::new(serde_json::from_value(written).unwrap()))
}

fn resolvers(written: Value) -> Fact {
    Fact::Resolvers(Arc::new(serde_json::from_value(written).unwrap()))
}

fn names(names: &[&str]) -> Fact {
    let names = names.iter().map(|name| ((*name).to_owned(), Vec::new()));
    Fact::Services(Arc::new(names.collect()))
}

fn instances(written: Value) -> Fact {
    Fact::Instances(Arc::new(serde_json::from_value(json!([written])).unwrap()))
}

fn instance(datacenter: &str, address: &str, id: &str, port: u16) -> Value {
    json!({"Node": {"Node": "Node1", "Address": address, "Datacenter": datacenter},
        "Service": {"ID": id, "Port": port}})
}

fn remote_gateway(wan: &str) -> Value {
    let mut written = instance("dc2", "10.0.9.9", "far", 8443);
    written["Service"]["TaggedAddresses"] = json!({"wan": {"Address": wan, "Port": 443}});
    written
}

fn contents(knowledge: &Knowledge) -> Contents {
    gateway()
        .contents(knowledge, &Snapshot::default())
        .expect("everything has answered")
}

/// Each name, and the address that it leads to.
fn led(contents: &Contents) -> Vec<(String, String)> {
    let listener = contents.listeners.values().next().unwrap();
    let Service::BySni(service) = &listener.service else {
        panic!("{listener:?}")
    };
    let mut led = Vec::new();
    for chain in &service.chains {
        let SniAction::Passthrough { cluster, .. } = &chain.action else {
            panic!("{chain:?}")
        };
        let endpoints = &contents.clusters[cluster].targets[0].endpoints;
        let address = endpoints.first().map(|one| one.address.to_string());
        for name in &chain.names {
            let name = match name {
                SniName::Exact(name) => name.clone(),
                SniName::Suffix(name) => format!("*{name}"),
            };
            led.push((name, address.clone().unwrap_or_default()));
        }
    }
    led
}

fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    let owned = |(name, address): &(&str, &str)| ((*name).into(), (*address).into());
    expected.iter().map(owned).collect()
}

const NEAR: [(&str, &str); 2] = [
    ("web.default.dc1.internal.td", "10.0.0.5:21000"),
    ("v1.web.default.dc1.internal.td", "10.0.0.5:21000"),
];
const FAR: &str = "*.dc2.internal.td";

#[test]
fn passes_services_subsets_and_other_datacenters_on_by_name() {
    let contents = contents(&known(|_| None));
    assert_eq!(contents.rejected, []);
    let expected = [NEAR[0], NEAR[1], (FAR, "1.2.3.4:443")];
    assert_eq!(led(&contents), pairs(&expected));
}

#[test]
fn a_datacenter_that_does_not_answer_is_known_by_its_federation_state() {
    let silent = |states: Value| {
        contents(&known(move |topic| match topic {
            Topic::GatewayNames(_) => {
                Some(News::Failed(crate::knowledge::Trouble::answer("no path")))
            }
            Topic::FederationStates => Some(News::Learned(Fact::FederationStates(Arc::new(
                serde_json::from_value(states.clone()).unwrap(),
            )))),
            _ => None,
        }))
    };
    let stated = silent(json!({"dc1": [], "dc2": [remote_gateway("4.3.2.1")]}));
    assert_eq!(led(&stated)[2], (FAR.to_owned(), "4.3.2.1:443".to_owned()));
    assert_eq!(stated.rejected, []);
    let unknown = silent(json!({}));
    assert_eq!(led(&unknown)[2], (FAR.to_owned(), String::new()));
    let rejected = &unknown.rejected[0];
    assert_eq!(rejected.resource, "datacenter dc2");
    assert!(rejected.reason.contains("no path"), "{rejected:?}");
}

#[test]
fn federation_states_that_are_refused_are_named_and_not_needed() {
    let contents = contents(&known(|topic| match topic {
        Topic::FederationStates => Some(News::Failed(crate::knowledge::Trouble::answer("403"))),
        _ => None,
    }));
    assert_eq!(led(&contents)[2].1, "1.2.3.4:443");
    assert_eq!(contents.rejected[0].resource, "federation states");
}

#[test]
fn servers_are_passed_on_where_the_registration_says_so() {
    let meta = json!({"Meta": {"consul-wan-federation": "1"}});
    let contents = contents(&known(|topic| match topic {
        Topic::Registration(_) => Some(News::Learned(registration(meta.clone()))),
        _ => None,
    }));
    let expected = [
        ("server.dc1.example", "10.0.0.9:8300"),
        ("node1.server.dc1.example", "10.0.0.9:8300"),
        ("server.dc2.example", "1.2.3.4:443"),
        ("*.server.dc2.example", "1.2.3.4:443"),
    ];
    assert_eq!(led(&contents)[3..], pairs(&expected));
}

#[test]
fn resolvers_and_defaults_shape_its_clusters() {
    let resolver = json!([{"Name": "web", "ConnectTimeout": "7s",
        "LoadBalancer": {"Policy": "least_request"}}]);
    let config = json!({"Proxy": {"Config": {"connect_timeout_ms": 300}}});
    let defaults = json!({"Name": "mgw", "UpstreamConfig": {"Defaults": {
        "Limits": {"MaxConnections": 3}}}});
    let contents = contents(&known(|topic| {
        Some(News::Learned(match topic {
            Topic::Resolvers => resolvers(resolver.clone()),
            Topic::Registration(_) => registration(config.clone()),
            Topic::Entry(..) => Fact::Entry(Arc::new(Some(defaults.clone()))),
            _ => return None,
        }))
    }));
    let near = &contents.clusters["web"];
    assert_eq!(near.connect_timeout, Duration::from_secs(7));
    assert_eq!(near.balancing, LoadBalancing::LeastRequest { choices: 2 });
    let far = &contents.clusters["dc/dc2"];
    assert_eq!(far.connect_timeout, Duration::from_millis(300));
    assert_eq!(far.limits.connections, Some(3));
    assert!(far.outlier.is_some());
}

#[test]
fn peering_through_it_is_named_where_it_is_wanted() {
    let rejected = |wanted: bool| {
        let entry = json!({"Peering": {"PeerThroughMeshGateways": wanted}});
        let known = known(move |topic| match topic {
            Topic::Mesh => {
                let entry = serde_json::from_value(entry.clone()).unwrap();
                Some(News::Learned(Fact::Mesh(Arc::new(Some(entry)))))
            }
            _ => None,
        });
        contents(&known).rejected
    };
    assert_eq!(rejected(false), []);
    let all = rejected(true);
    let [one] = &all[..] else { panic!("{all:?}") };
    assert_eq!(one.resource, "mesh");
    assert!(one.reason.contains("PeerThroughMeshGateways"), "{one:?}");
}

#[test]
fn nothing_is_said_before_all_has_answered() {
    let contents = gateway().contents(&Knowledge::default(), &Snapshot::default());
    assert_eq!(contents, None);
}
