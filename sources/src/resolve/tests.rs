//! Gateways from blueprints, on hand-written answers.

use super::*;
use crate::embedded::DevelopmentCa;
use crate::knowledge::{Fact, News};
use consul::chain::CompiledChain;
use meridian_model::{
    Backend, Blueprint, Cluster, ConsulService, Endpoint, EndpointAddress, Health, Rejection,
    SourceState, StaleCause, UpstreamProtocol,
};
use serde_json::{Value, json};
use std::time::SystemTime;

fn gateway() -> Gateway {
    Gateway {
        service: Some("edge".to_owned()),
        consul: true,
    }
}

fn backend(name: &str, discovery: Discovery) -> Backend {
    Backend {
        cluster: Cluster::new(name.into(), UpstreamProtocol::Http1, Vec::new()),
        discovery,
        tls: None,
    }
}

fn service(filter: Option<&str>) -> ConsulService {
    ConsulService {
        service: "api".to_owned(),
        datacenter: None,
        namespace: None,
        partition: None,
        filter: filter.map(str::to_owned),
    }
}

fn fixed() -> Backend {
    let endpoint = Endpoint {
        address: EndpointAddress::Tcp("10.0.0.1:80".parse().unwrap()),
        weight: 1,
        health: Health::Healthy,
        instance: "one".into(),
    };
    backend("fixed", Discovery::Static(vec![endpoint]))
}

fn intent(backends: Vec<Backend>) -> Intent {
    Intent::from(Blueprint {
        listeners: Vec::new(),
        backends,
    })
}

fn contents(intent: &Intent, knowledge: &Knowledge, previous: &Snapshot) -> Option<Contents> {
    let names = Names::new(Arc::new(()));
    gateway().contents(intent, knowledge, &names, previous)
}

/// Answers everything that is wanted with this chain and no instances.
fn answered(intent: &Intent, chain: Value) -> Knowledge {
    let ca = DevelopmentCa::new("td", "dc1").unwrap();
    let chain: CompiledChain = serde_json::from_value(chain).unwrap();
    let mut knowledge = Knowledge::default();
    // Twice: the chain brings instances along.
    for _ in 0..2 {
        for topic in gateway().wanted(intent, &knowledge) {
            let fact = match &topic {
                Topic::Roots => Fact::Roots(Arc::new(ca.roots())),
                Topic::Leaf(service) => Fact::Leaf(Arc::new(ca.leaf(service).unwrap())),
                Topic::Chain(_) => Fact::Chain(Arc::new(chain.clone())),
                Topic::Instances(_) => Fact::Instances(Arc::default()),
                other => panic!("nobody wants {other:?}"),
            };
            knowledge.take(topic, News::Learned(fact), SystemTime::UNIX_EPOCH);
        }
    }
    knowledge
}

fn chain(protocol: &str, start: &str) -> Value {
    json!({"ServiceName": "api", "Protocol": protocol, "StartNode": start,
        "Nodes": {
            "resolver:a": {"Type": "resolver", "Name": "a",
                "Resolver": {"ConnectTimeout": "2s", "Target": "a"}},
            "splitter:a": {"Type": "splitter", "Name": "a", "Splits": [
                {"Weight": 50, "NextNode": "resolver:a"}, {"Weight": 50, "NextNode": "resolver:a"}]}},
        "Targets": {"a": {"ID": "a", "Service": "api", "Datacenter": "dc1",
            "Subset": {"Filter": "x == 1"}}}})
}

#[test]
fn a_new_backend_holds_the_blueprint_back_until_it_has_answered() {
    let mesh = backend("mesh", Discovery::ConsulConnect(service(None)));
    let intent = intent(vec![fixed(), mesh]);
    let previous = Snapshot::default();
    assert_eq!(contents(&intent, &Knowledge::default(), &previous), None);
    let knowledge = answered(&intent, chain("http", "resolver:a"));
    let contents = contents(&intent, &knowledge, &previous).unwrap();
    assert_eq!(contents.rejected, []);
    assert_eq!(contents.clusters["fixed"].targets[0].endpoints.len(), 1);
    assert_eq!(contents.clusters["mesh"].targets.len(), 1);
    assert!(contents.identities.contains_key("edge"));
}

#[test]
fn a_known_backend_keeps_its_endpoints_until_the_new_ones_are_known() {
    let before = Arc::new(Cluster::new(
        "mesh".into(),
        UpstreamProtocol::Tcp,
        Vec::new(),
    ));
    let mut previous = Snapshot::default();
    previous.clusters.insert("mesh".into(), Arc::clone(&before));
    let mesh = backend("mesh", Discovery::ConsulConnect(service(None)));
    let contents = contents(&intent(vec![mesh]), &Knowledge::default(), &previous).unwrap();
    assert!(Arc::ptr_eq(&contents.clusters["mesh"], &before));
}

#[test]
fn a_backend_that_cannot_be_found_rejects_itself_only() {
    let mesh = backend("mesh", Discovery::ConsulConnect(service(None)));
    let intent = intent(vec![fixed(), mesh]);
    let knowledge = answered(&intent, chain("http", "splitter:a"));
    let contents = contents(&intent, &knowledge, &Snapshot::default()).unwrap();
    assert_eq!(contents.clusters["mesh"].targets, []);
    assert_eq!(contents.rejected[0].resource, "backend mesh");
    assert!(contents.rejected[0].reason.contains("splits"));
    assert_eq!(contents.clusters["fixed"].targets.len(), 1);
}

#[test]
fn without_consul_its_backends_are_refused() {
    let plain = backend("plain", Discovery::Consul(service(None)));
    let alone = Gateway {
        service: None,
        consul: false,
    };
    let names = Names::new(Arc::new(()));
    let (intent, previous) = (intent(vec![plain, fixed()]), Snapshot::default());
    let contents = alone.contents(&intent, &Knowledge::default(), &names, &previous);
    let contents = contents.unwrap();
    assert_eq!(contents.rejected.len(), 1);
    assert_eq!(contents.clusters.len(), 2);
}

#[test]
fn the_mesh_says_which_http_and_the_file_whether_http() {
    use UpstreamProtocol::{Http1, Http2, Tcp};
    for (written, told, expected) in [
        (Http1, "grpc", Http2),
        (Http2, "http", Http1),
        (Http1, "tcp", Http1),
        (Tcp, "http", Tcp),
    ] {
        let mut mesh = backend("mesh", Discovery::ConsulConnect(service(None)));
        mesh.cluster.protocol = written;
        let intent = intent(vec![mesh]);
        let knowledge = answered(&intent, chain(told, "resolver:a"));
        let contents = contents(&intent, &knowledge, &Snapshot::default()).unwrap();
        let cluster = &contents.clusters["mesh"];
        assert_eq!(cluster.protocol, expected, "{written:?} {told}");
        assert_eq!(cluster.connect_timeout, std::time::Duration::from_secs(2));
    }
}

#[test]
fn the_backends_filter_narrows_the_subset() {
    let mesh = backend("mesh", Discovery::ConsulConnect(service(Some("y == 2"))));
    let intent = intent(vec![mesh]);
    let knowledge = answered(&intent, chain("http", "resolver:a"));
    let filters: Vec<_> = gateway()
        .wanted(&intent, &knowledge)
        .into_iter()
        .filter_map(|topic| match topic {
            Topic::Instances(query) => query.filter,
            _ => None,
        })
        .collect();
    assert_eq!(filters, ["(x == 1) and (y == 2)"]);
}

#[tokio::test]
async fn a_refused_file_is_reported_beside_the_last_good_blueprint() {
    let (sender, intents) = watch::channel(intent(vec![fixed()]));
    let mut source = run(intents, None, Arc::new(()));
    let mut wait = async |generation| {
        let found = source
            .snapshots
            .wait_for(|now| now.generation == generation);
        let found = tokio::time::timeout(std::time::Duration::from_secs(10), found).await;
        Arc::clone(&found.expect("in time").expect("running"))
    };
    let first = wait(1).await;
    sender.send_modify(|intent| {
        intent.status = Some(SourceStatus {
            name: "file:g".into(),
            state: SourceState::Stale {
                since: SystemTime::UNIX_EPOCH,
                cause: StaleCause::Answer,
                reason: "refused".to_owned(),
            },
        });
        intent.rejected = Some(Rejection {
            resource: "file:g".to_owned(),
            reason: "line 1".to_owned(),
        });
    });
    let second = wait(2).await;
    assert_eq!(second.rejected[0].reason, "line 1");
    assert_eq!(second.sources.len(), 1);
    assert!(Arc::ptr_eq(
        &first.clusters["fixed"],
        &second.clusters["fixed"]
    ));
}
