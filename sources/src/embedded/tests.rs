//! The registry as sidecars and gateways see it.

use super::*;
use meridian_model::cluster::Transport;
use meridian_model::{
    Backend, Blueprint, Cluster, ConsulService, Discovery, Health, Security, Service, Snapshot,
    UpstreamProtocol,
};
use std::net::SocketAddr;
use std::time::Duration;

fn instance(id: &str, upstreams: &[(&str, u16)]) -> EmbeddedInstance {
    EmbeddedInstance {
        id: id.to_owned(),
        application: "127.0.0.1:8080".parse().unwrap(),
        sidecar: "127.0.0.1:21000".parse().unwrap(),
        health: Health::Healthy,
        upstreams: upstreams
            .iter()
            .map(|(service, port)| EmbeddedUpstream {
                service: (*service).to_owned(),
                bind: SocketAddr::new("127.0.0.1".parse().unwrap(), *port),
            })
            .collect(),
    }
}

fn service(name: &str, protocol: &str, instances: Vec<EmbeddedInstance>) -> EmbeddedService {
    EmbeddedService {
        name: name.to_owned(),
        protocol: protocol.to_owned(),
        instances,
    }
}

fn world() -> Embedded {
    let world = Embedded::new("td.consul", "dc1").unwrap();
    world.set_service(service("api", "http", vec![instance("api-1", &[])]));
    let web = instance("web-1", &[("api", 5000)]);
    world.set_service(service("web", "http", vec![web]));
    world
}

async fn wait(source: &mut Source, accept: impl Fn(&Snapshot) -> bool) -> Arc<Snapshot> {
    let found = tokio::time::timeout(
        Duration::from_secs(10),
        source.snapshots.wait_for(|snapshot| accept(snapshot)),
    );
    Arc::clone(&found.await.expect("in time").expect("running"))
}

#[tokio::test]
async fn a_sidecar_gets_listeners_clusters_and_an_identity() {
    let world = world();
    let mut source = world.sidecar("web-1", Arc::new(()));
    let snapshot = wait(&mut source, |snapshot| snapshot.generation > 0).await;
    assert_eq!(snapshot.generation, 1, "the first one is complete");
    let names: Vec<_> = snapshot
        .listeners
        .keys()
        .map(|name| name.as_str())
        .collect();
    assert_eq!(names, ["public_listener", "upstream/api"]);
    assert!(matches!(
        snapshot.listeners["public_listener"].security,
        Security::Mesh { .. }
    ));
    assert_eq!(snapshot.identities["web"].spiffe, world.spiffe("web"));
    let target = &snapshot.clusters["api"].targets[0];
    let Transport::Mesh(mesh) = &target.transport else {
        panic!("{target:?}")
    };
    assert_eq!(mesh.expected, [world.spiffe("api")]);
    assert_eq!(&*mesh.sni, "api.default.dc1.internal.td.consul");
    assert_eq!(target.endpoints.len(), 1);
    assert_eq!(snapshot.rejected, []);
}

#[tokio::test]
async fn a_sidecar_waits_for_its_instance() {
    let world = Embedded::new("td.consul", "dc1").unwrap();
    let mut source = world.sidecar("late-1", Arc::new(()));
    assert_eq!(source.snapshots.borrow_and_update().generation, 0);
    world.set_service(service("late", "tcp", vec![instance("late-1", &[])]));
    let snapshot = wait(&mut source, |snapshot| snapshot.generation > 0).await;
    assert!(snapshot.identities.contains_key("late"));
}

#[tokio::test]
async fn changes_reach_the_sidecars() {
    let world = world();
    let mut source = world.sidecar("web-1", Arc::new(()));
    let first = wait(&mut source, |snapshot| snapshot.generation > 0).await;

    let rules = |snapshot: &Snapshot| match &snapshot.listeners["public_listener"].service {
        Service::Http(http) => http.authorization.as_ref().map(|rules| (**rules).clone()),
        Service::Tcp(tcp) => tcp.authorization.as_ref().map(|rules| (**rules).clone()),
        Service::BySni(_) => None,
    };
    let denied = |snapshot: &Snapshot| {
        rules(snapshot)
            .unwrap()
            .connection_verdict(&world.spiffe("api"))
            == Verdict::Deny
    };
    assert!(denied(&first));
    world.set_intention("*", "web", Verdict::Allow);
    wait(&mut source, |snapshot| !denied(snapshot)).await;
    world.set_intention("api", "web", Verdict::Deny);
    wait(&mut source, denied).await;
    world.remove_intention("api", "web");
    wait(&mut source, |snapshot| !denied(snapshot)).await;

    let mut sick = instance("api-1", &[]);
    sick.health = Health::Unhealthy;
    world.set_service(service("api", "grpc", vec![sick]));
    let snapshot = wait(&mut source, |snapshot| {
        snapshot.clusters["api"].targets[0].endpoints[0].health == Health::Unhealthy
    });
    assert_eq!(
        snapshot.await.clusters["api"].protocol,
        UpstreamProtocol::Http2
    );

    world.rotate_leaves();
    let rotated = wait(&mut source, |now| {
        now.identities["web"].chain != first.identities["web"].chain
    })
    .await;
    assert_eq!(
        rotated.identities["web"].trust,
        first.identities["web"].trust
    );
    world.rotate_root().unwrap();
    let both = wait(&mut source, |now| {
        now.identities["web"].trust != first.identities["web"].trust
    });
    let domain = world.spiffe("web").trust_domain().clone();
    assert_eq!(both.await.identities["web"].trust.roots[&domain].len(), 2);
}

#[tokio::test]
async fn a_gateway_finds_its_backends_in_the_mesh() {
    let world = world();
    let backend = |name: &str, discovery| Backend {
        cluster: Cluster::new(name.into(), UpstreamProtocol::Http1, Vec::new()),
        discovery,
        tls: None,
    };
    let api = ConsulService {
        service: "api".to_owned(),
        datacenter: None,
        namespace: None,
        partition: None,
        filter: None,
    };
    let blueprint = Blueprint {
        listeners: Vec::new(),
        backends: vec![
            backend("mesh", Discovery::ConsulConnect(api.clone())),
            backend("plain", Discovery::Consul(api)),
        ],
    };
    let (_intents, intents) = watch::channel(Intent::from(blueprint));
    let mut source = world.gateway("edge", intents, Arc::new(()));
    let snapshot = wait(&mut source, |snapshot| snapshot.generation > 0).await;
    assert_eq!(snapshot.identities["edge"].spiffe, world.spiffe("edge"));
    let address = |cluster: &str| {
        let target = &snapshot.clusters[cluster].targets[0];
        target.endpoints[0].address.to_string()
    };
    assert_eq!(address("mesh"), "127.0.0.1:21000");
    assert_eq!(address("plain"), "127.0.0.1:8080");
    let transport = &snapshot.clusters["mesh"].targets[0].transport;
    assert!(matches!(transport, Transport::Mesh(mesh) if mesh.expected == [world.spiffe("api")]));
    assert_eq!(
        snapshot.clusters["plain"].targets[0].transport,
        Transport::Plain
    );
}
