//! A gateway is a service of the mesh, and finds its backends there.

use crate::agent::Agent;
use crate::wait;
use consul::agent::{ConnectRegistration, ServiceRegistration};
use meridian_model::cluster::Transport;
use meridian_model::{
    Backend, Blueprint, Cluster, ConsulService, Discovery, SourceState, UpstreamProtocol,
};
use meridian_sources::register::{GatewayService, register};
use meridian_sources::resolve::{self, Consul};
use meridian_sources::{ConsulOptions, Intent};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

fn backend(name: &str, discovery: Discovery) -> Backend {
    Backend {
        cluster: Cluster::new(name.into(), UpstreamProtocol::Http1, Vec::new()),
        discovery,
        tls: None,
    }
}

fn consul(service: &str) -> ConsulService {
    ConsulService {
        service: service.to_owned(),
        datacenter: None,
        namespace: None,
        partition: None,
        filter: None,
    }
}

#[tokio::test]
async fn backends_are_found_in_catalog_mesh_and_dns() {
    let agent = Agent::start().await;
    let sidecar = ServiceRegistration {
        port: Some(9001),
        ..ServiceRegistration::default()
    };
    let api = ServiceRegistration {
        name: "api".to_owned(),
        port: Some(9000),
        connect: Some(ConnectRegistration {
            native: false,
            sidecar_service: Some(Box::new(sidecar)),
        }),
        ..ServiceRegistration::default()
    };
    agent.register(&api).await;
    let dns = Discovery::Dns {
        host: "localhost".to_owned(),
        port: 80,
        refresh: Duration::from_secs(30),
    };
    let blueprint = Blueprint {
        listeners: Vec::new(),
        backends: vec![
            backend("plain", Discovery::Consul(consul("api"))),
            backend("mesh", Discovery::ConsulConnect(consul("api"))),
            backend("dns", dns),
        ],
    };
    let (intents, receiver) = watch::channel(Intent::from(blueprint.clone()));
    let gateway = Consul {
        client: agent.client.clone(),
        options: ConsulOptions::default(),
        service: Some("edge".to_owned()),
    };
    let mut source = resolve::run(receiver, Some(gateway), Arc::new(()));
    let now = wait(&mut source, "the first snapshot", |now| now.generation > 0).await;
    let first = |cluster: &str| {
        now.clusters[cluster].targets[0].endpoints[0]
            .address
            .to_string()
    };
    assert_eq!(first("plain"), "127.0.0.1:9000");
    assert_eq!(first("mesh"), "127.0.0.1:9001");
    assert_eq!(first("dns"), "127.0.0.1:80");
    let edge = &now.identities["edge"];
    let Transport::Mesh(mesh) = &now.clusters["mesh"].targets[0].transport else {
        panic!("{now:#?}")
    };
    assert_eq!(mesh.identity, edge.name);
    assert!(
        edge.spiffe
            .as_str()
            .ends_with("/ns/default/dc/dc1/svc/edge")
    );

    let mut fewer = blueprint;
    fewer.backends.truncate(1);
    intents.send_replace(Intent::from(fewer));
    let now = wait(&mut source, "one backend", |now| now.clusters.len() == 1).await;
    assert!(now.identities.is_empty(), "{:?}", now.identities.keys());
    let mut states = now.sources.iter().map(|source| &source.state);
    assert!(!now.sources.is_empty() && states.all(|state| *state == SourceState::Current));
}

#[tokio::test]
async fn registers_again_after_the_agent_forgot_and_takes_itself_out() {
    let agent = Agent::start().await;
    let known = || async { agent.client.agent_service("edge-1").once().await.is_ok() };
    let until = |wanted: bool| async move {
        let mut tick = tokio::time::interval(Duration::from_millis(50));
        let seen = async {
            while known().await != wanted {
                tick.tick().await;
            }
        };
        tokio::time::timeout(crate::DEADLINE, seen)
            .await
            .expect("in time");
    };
    let registered = register(
        agent.client.clone(),
        GatewayService {
            name: "edge".to_owned(),
            id: "edge-1".to_owned(),
            port: 8080,
            ..GatewayService::default()
        },
    );
    until(true).await;
    let forgotten = agent.client.deregister_service("edge-1").await;
    forgotten.expect("a deregistration");
    until(true).await;
    registered.deregister().await.expect("a deregistration");
    until(false).await;
}
