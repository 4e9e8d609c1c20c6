//! The agent itself, registration, catalog, health and coordinates on a real agent.

use std::time::Duration;

use consul::{
    agent::{
        CheckRegistration, ConnectRegistration, Proxy, ServiceKind, ServiceRegistration, Upstream,
    },
    blocking::Pacing,
    health::CheckStatus,
    intention::Action,
};

use crate::{agent::shared, until};

fn service(name: &str) -> ServiceRegistration {
    ServiceRegistration {
        name: name.to_owned(),
        port: Some(8080),
        ..Default::default()
    }
}

fn sidecar(of: &str, upstream_port: u16) -> ServiceRegistration {
    let upstream = Upstream {
        destination_name: "db".to_owned(),
        local_bind_port: upstream_port,
        ..Default::default()
    };
    let proxy = Proxy {
        destination_service_name: of.to_owned(),
        destination_service_id: of.to_owned(),
        local_service_port: 8080,
        upstreams: vec![upstream],
        ..Default::default()
    };
    ServiceRegistration {
        kind: ServiceKind::ConnectProxy,
        name: format!("{of}-proxy"),
        port: Some(21_000),
        proxy: Some(proxy),
        ..Default::default()
    }
}

#[tokio::test]
async fn agent_says_who_it_is() {
    let client = shared().await;
    let agent = client.agent_self().once().await.unwrap().value;
    assert_eq!(
        (
            agent.config.datacenter.as_str(),
            agent.config.node_name.as_str()
        ),
        ("dc1", "test")
    );
    assert!(agent.config.server && agent.config.version.contains('.'));
    assert_eq!(agent.debug_config.acl.default_policy, "allow");
    assert_eq!(agent.default_intention(), Action::Allow);
}

#[tokio::test]
async fn registration_is_followed_by_its_hash() {
    let client = shared().await;
    client.register_service(&service("hashed")).await.unwrap();
    client
        .register_service(&sidecar("hashed", 1_000))
        .await
        .unwrap();
    let query = client.agent_service("hashed-proxy");
    let read = query.once().await.unwrap();
    assert!(read.meta.content_hash.is_some());
    assert_eq!(read.value.kind, ServiceKind::ConnectProxy);
    let mut watch = query.watch(Pacing::default());
    let bound = |port| {
        move |s: &consul::agent::AgentService| {
            s.proxy
                .as_ref()
                .is_some_and(|proxy| proxy.upstreams[0].local_bind_port == port)
        }
    };
    until(&mut watch, bound(1_000)).await;
    client
        .register_service(&sidecar("hashed", 1_001))
        .await
        .unwrap();
    until(&mut watch, bound(1_001)).await;

    let all = client.agent_services().once().await.unwrap().value;
    assert!(all.contains_key("hashed") && all.contains_key("hashed-proxy"));
    client.deregister_service("hashed-proxy").await.unwrap();
    let gone = client
        .agent_service("hashed-proxy")
        .once()
        .await
        .unwrap_err();
    assert!(gone.is_not_found() && !gone.is_retryable(), "{gone:?}");
    client.deregister_service("hashed-proxy").await.unwrap_err();
}

#[tokio::test]
async fn sidecar_may_be_registered_along() {
    let client = shared().await;
    let along = ServiceRegistration {
        proxy: None,
        ..ServiceRegistration::default()
    };
    let connect = ConnectRegistration {
        native: false,
        sidecar_service: Some(Box::new(along)),
    };
    let web = ServiceRegistration {
        connect: Some(connect),
        ..service("along")
    };
    client.register_service(&web).await.unwrap();
    let read = client
        .agent_service("along-sidecar-proxy")
        .once()
        .await
        .unwrap()
        .value;
    assert_eq!(read.proxy.unwrap().destination_service_id, "along");
}

#[tokio::test]
async fn health_follows_checks() {
    let client = shared().await;
    let check = CheckRegistration {
        check_id: "healthy-ttl".to_owned(),
        ttl: Some(Duration::from_secs(3_600)),
        status: "warning".to_owned(),
        ..Default::default()
    };
    let mut healthy = service("healthy");
    healthy.checks = vec![check];
    healthy.meta.insert("v".to_owned(), "1".to_owned());
    let mut watch = client
        .health_service("healthy")
        .cached()
        .watch(Pacing::default());
    until(&mut watch, Vec::is_empty).await;
    client.register_service(&healthy).await.unwrap();
    client
        .register_service(&sidecar("healthy", 1_002))
        .await
        .unwrap();
    until(&mut watch, |list| {
        list.len() == 1 && list[0].status() == CheckStatus::Warning
    })
    .await;
    let entry = watch.last().unwrap()[0].clone();
    assert_eq!((entry.address(), entry.service.port), ("127.0.0.1", 8080));
    assert_eq!(
        (entry.node.node.as_str(), entry.service.weights.warning),
        ("test", 1)
    );

    let count = async |query: consul::Query<Vec<_>>| query.once().await.unwrap().value.len();
    assert_eq!(count(client.health_service("healthy").passing()).await, 0);
    assert_eq!(
        count(
            client
                .health_service("healthy")
                .filter("Service.Meta.v == 1")
        )
        .await,
        1
    );
    assert_eq!(
        count(
            client
                .health_service("healthy")
                .filter("Service.Meta.v == 2")
        )
        .await,
        0
    );
    assert_eq!(
        count(client.health_service("healthy").near("_agent")).await,
        1
    );

    let mut mesh = client.health_connect("healthy").watch(Pacing::default());
    until(&mut mesh, |list| {
        list.len() == 1 && list[0].service.port == 21_000
    })
    .await;
    client.deregister_service("healthy-proxy").await.unwrap();
    until(&mut mesh, Vec::is_empty).await;
}

#[tokio::test]
async fn catalog_lists_services_nodes_and_datacenters() {
    let client = shared().await;
    client.register_service(&service("listed")).await.unwrap();
    let mut watch = client.catalog_services().watch(Pacing::default());
    until(&mut watch, |services| services.contains_key("listed")).await;
    let instances = client.catalog_service("listed").once().await.unwrap();
    assert_eq!(instances.value[0].service_port, 8080);
    assert_eq!(instances.meta.known_leader, Some(true));
    assert!(instances.meta.index.is_some_and(|index| index > 0));
    assert_eq!(
        client.catalog_nodes().once().await.unwrap().value[0].node,
        "test"
    );
    assert_eq!(client.datacenters().once().await.unwrap().value, ["dc1"]);
    let error = client
        .catalog_service("listed")
        .datacenter("nowhere")
        .once()
        .await
        .unwrap_err();
    assert_eq!(error.status().map(|s| s.as_u16()), Some(500), "{error}");
}

#[tokio::test]
async fn coordinates_are_read() {
    let client = shared().await;
    let datacenters = client.datacenter_coordinates().once().await.unwrap().value;
    assert_eq!(
        (
            datacenters[0].datacenter.as_str(),
            datacenters[0].area_id.as_str()
        ),
        ("dc1", "wan")
    );
    let here = &datacenters[0].coordinates[0].coord;
    assert_eq!(here.vec.len(), 8);
    assert!(here.round_trip(here).unwrap() < Duration::from_secs(1));
    // A single node takes a while to have coordinates; the query must work before.
    client.node_coordinates().once().await.unwrap();
}

#[tokio::test]
async fn agents_cache_says_so() {
    let client = shared().await;
    let query = client.health_service("cached-service").cached();
    query.once().await.unwrap();
    assert_eq!(query.once().await.unwrap().meta.cache_hit, Some(true));
}
