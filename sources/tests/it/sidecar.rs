//! A sidecar's snapshots follow what happens in Consul.

use crate::agent::Agent;
use crate::wait;
use consul::agent::{CheckRegistration, ConnectRegistration, Proxy, ServiceRegistration, Upstream};
use meridian_model::cluster::Transport;
use meridian_model::listener::{ClientCertificateHeader, HttpService};
use meridian_model::{
    Authorization, Health, Listener, Security, Service, Snapshot, SourceState, SpiffeId,
    UpstreamProtocol, Verdict,
};
use meridian_sources::consul_mesh::{self, Sidecar};
use meridian_sources::{ConsulOptions, Source};
use serde_json::json;
use std::sync::Arc;

fn service(name: &str, port: u16, upstreams: &[(&str, u16)]) -> ServiceRegistration {
    let upstreams = upstreams.iter().map(|(name, port)| Upstream {
        destination_name: (*name).to_owned(),
        local_bind_port: *port,
        ..Upstream::default()
    });
    let sidecar = ServiceRegistration {
        port: Some(port + 1),
        address: "127.0.0.1".to_owned(),
        proxy: Some(Proxy {
            upstreams: upstreams.collect(),
            ..Proxy::default()
        }),
        // Without one, the agent checks the port, where nobody listens in these tests.
        checks: vec![passing("proxy")],
        ..ServiceRegistration::default()
    };
    ServiceRegistration {
        name: name.to_owned(),
        port: Some(port),
        connect: Some(ConnectRegistration {
            native: false,
            sidecar_service: Some(Box::new(sidecar)),
        }),
        ..ServiceRegistration::default()
    }
}

fn passing(name: &str) -> CheckRegistration {
    CheckRegistration {
        check_id: name.to_owned(),
        name: name.to_owned(),
        ttl: Some(std::time::Duration::from_secs(3600)),
        status: "passing".to_owned(),
        ..CheckRegistration::default()
    }
}

fn follow(agent: &Agent, service: &str) -> Source {
    let sidecar = Sidecar::SidecarFor(service.to_owned());
    consul_mesh::run(
        agent.client.clone(),
        sidecar,
        ConsulOptions::default(),
        Arc::new(()),
    )
}

fn public(snapshot: &Snapshot) -> &Listener {
    &snapshot.listeners["public_listener"]
}

fn http(snapshot: &Snapshot) -> Option<&HttpService> {
    match &public(snapshot).service {
        Service::Http(http) => Some(http),
        Service::Tcp(_) | Service::BySni(_) => None,
    }
}

fn rules(snapshot: &Snapshot) -> &Authorization {
    let rules = match &public(snapshot).service {
        Service::Http(http) => &http.authorization,
        Service::Tcp(tcp) => &tcp.authorization,
        Service::BySni(_) => &None,
    };
    rules.as_deref().expect("every sidecar authorizes")
}

fn health(snapshot: &Snapshot, cluster: &str) -> Vec<Health> {
    let targets = &snapshot.clusters[cluster].targets;
    targets[0].endpoints.iter().map(|one| one.health).collect()
}

fn caller(snapshot: &Snapshot, service: &str) -> SpiffeId {
    let own = &snapshot.identities["web"].spiffe;
    let uri = format!(
        "spiffe://{}/ns/default/dc/dc1/svc/{service}",
        own.trust_domain()
    );
    SpiffeId::parse(&uri).expect("a SPIFFE ID")
}

#[tokio::test]
async fn waits_for_its_registration_and_starts_complete() {
    let agent = Agent::start().await;
    agent.register(&service("api", 9000, &[])).await;
    let mut source = follow(&agent, "web");
    assert_eq!(source.snapshots.borrow_and_update().generation, 0);
    agent
        .register(&service("web", 9100, &[("api", 5000)]))
        .await;
    let snapshot = wait(&mut source, "the first snapshot", |now| now.generation > 0).await;

    assert_eq!(snapshot.generation, 1);
    assert_eq!(snapshot.rejected, []);
    let names: Vec<_> = snapshot
        .listeners
        .keys()
        .map(|name| name.as_str())
        .collect();
    assert_eq!(names, ["public_listener", "upstream/api"]);
    assert!(matches!(&public(&snapshot).security,
        Security::Mesh { identity, alpn, .. } if identity.as_str() == "web" && alpn.is_empty()));
    let identity = &snapshot.identities["web"];
    assert_eq!(identity.spiffe, caller(&snapshot, "web"));
    assert_eq!(identity.trust.roots.len(), 1);
    assert!(identity.expires > std::time::SystemTime::now());
    let application = &snapshot.clusters["local_app"].targets[0].endpoints[0];
    assert_eq!(application.address.to_string(), "127.0.0.1:9100");

    let target = &snapshot.clusters["api"].targets[0];
    let Transport::Mesh(mesh) = &target.transport else {
        panic!("{target:?}")
    };
    assert_eq!(mesh.expected, [caller(&snapshot, "api")]);
    assert!(
        mesh.sni.starts_with("api.default.dc1.internal."),
        "{}",
        mesh.sni
    );
    assert_eq!(target.endpoints[0].address.to_string(), "127.0.0.1:9001");
    assert_eq!(health(&snapshot, "api"), [Health::Healthy]);
}

#[tokio::test]
async fn follows_upstreams_intentions_protocol_and_health() {
    let agent = Agent::start().await;
    agent.register(&service("api", 9000, &[])).await;
    agent
        .register(&service("web", 9100, &[("api", 5000)]))
        .await;
    let mut source = follow(&agent, "web");
    let first = wait(&mut source, "the first snapshot", |now| now.generation > 0).await;
    let verdict = rules(&first).connection_verdict(&caller(&first, "api"));
    assert_eq!(verdict, Verdict::Allow, "Consul's default without ACLs");
    upstreams_come_and_go(&agent, &mut source).await;
    intentions_are_obeyed(&agent, &mut source).await;
    protocols_are_spoken(&agent, &mut source).await;
    the_sick_are_known(&agent, &mut source).await;
}

async fn upstreams_come_and_go(agent: &Agent, source: &mut Source) {
    let two = service("web", 9100, &[("api", 5000), ("db", 5001)]);
    agent.register(&two).await;
    let added = wait(source, "a second upstream", |now| {
        now.listeners.contains_key("upstream/db")
    });
    assert_eq!(added.await.clusters["db"].targets[0].endpoints.len(), 0);
    agent
        .register(&service("web", 9100, &[("api", 5000)]))
        .await;
    wait(source, "one upstream again", |now| {
        !now.listeners.contains_key("upstream/db") && !now.clusters.contains_key("db")
    })
    .await;
}

async fn intentions_are_obeyed(agent: &Agent, source: &mut Source) {
    let verdict = |now: &Snapshot| rules(now).connection_verdict(&caller(now, "api"));
    agent
        .write(json!({"Kind": "service-intentions", "Name": "web",
            "Sources": [{"Name": "api", "Action": "deny"}, {"Name": "*", "Action": "allow"}]}))
        .await;
    wait(source, "a denial", |now| verdict(now) == Verdict::Deny).await;
    let deleted = agent
        .client
        .delete_config_entry("service-intentions", "web")
        .await;
    deleted.expect("a deletion");
    wait(source, "no denial", |now| verdict(now) == Verdict::Allow).await;
}

async fn protocols_are_spoken(agent: &Agent, source: &mut Source) {
    agent
        .write(
            json!({"Kind": "service-defaults", "Name": "web", "Protocol": "http",
            "LocalRequestTimeoutMs": 1234}),
        )
        .await;
    let now = wait(source, "HTTP inbound", |now| http(now).is_some()).await;
    let service_now = http(&now).expect("just seen");
    assert_eq!(
        service_now.client_certificate,
        ClientCertificateHeader::AppendForward
    );
    assert_eq!(now.clusters["local_app"].protocol, UpstreamProtocol::Http1);
    agent
        .write(json!({"Kind": "service-defaults", "Name": "api", "Protocol": "grpc"}))
        .await;
    wait(source, "gRPC outbound", |now| {
        now.clusters["api"].protocol == UpstreamProtocol::Http2
            && matches!(now.listeners["upstream/api"].service, Service::Http(_))
    })
    .await;
}

async fn the_sick_are_known(agent: &Agent, source: &mut Source) {
    let mut sick = service("api", 9000, &[]);
    let sidecar = sick
        .connect
        .as_mut()
        .and_then(|one| one.sidecar_service.as_mut());
    // Under a new ID: the agent carries the status of a known check over.
    sidecar.expect("it has one").checks = vec![CheckRegistration {
        status: "critical".to_owned(),
        ..passing("failing")
    }];
    agent.register(&sick).await;
    wait(source, "an unhealthy instance", |now| {
        health(now, "api") == [Health::Unhealthy]
    })
    .await;
}

#[tokio::test]
async fn routes_and_splits_become_routes_and_clusters() {
    let agent = Agent::start().await;
    agent
        .write(json!({"Kind": "proxy-defaults", "Name": "global", "Config": {"protocol": "http"}}))
        .await;
    agent
        .write(
            json!({"Kind": "service-splitter", "Name": "api", "Splits": [
            {"Weight": 25.5, "Service": "api"}, {"Weight": 74.5, "Service": "v2"}]}),
        )
        .await;
    agent
        .write(json!({"Kind": "service-router", "Name": "api", "Routes": [
            {"Match": {"HTTP": {"PathPrefix": "/v2", "Methods": ["GET"]}},
             "Destination": {"Service": "v2", "PrefixRewrite": "/", "RequestTimeout": "9s"}}]}))
        .await;
    agent
        .register(&service("web", 9100, &[("api", 5000)]))
        .await;
    let mut source = follow(&agent, "web");
    let now = wait(&mut source, "the first snapshot", |now| now.generation > 0).await;
    assert_eq!(now.rejected, []);
    let Service::Http(http) = &now.listeners["upstream/api"].service else {
        panic!("{now:#?}")
    };
    let routes = &http.routes.hosts[0].routes;
    assert_eq!(routes.len(), 2, "the written one and Consul's catch-all");
    assert_eq!(
        routes[0].action.timeouts.request,
        Some(std::time::Duration::from_secs(9))
    );
    let meridian_model::route::Destination::Clusters(split) = &routes[1].action.destination else {
        panic!("{routes:#?}")
    };
    let weights: Vec<_> = split.iter().map(|one| one.weight).collect();
    assert_eq!(weights, [2550, 7450]);
    for one in split {
        assert!(now.clusters.contains_key(&one.cluster), "{one:?}");
    }
}

#[tokio::test]
async fn goes_on_while_the_agent_is_away() {
    let mut agent = Agent::start().await;
    agent
        .register(&service("web", 9100, &[("api", 5000)]))
        .await;
    let mut source = follow(&agent, "web");
    let before = wait(&mut source, "the first snapshot", |now| now.generation > 0).await;
    let is = |now: &Snapshot, current: bool| {
        let mut states = now.sources.iter().map(|source| &source.state);
        !now.sources.is_empty() && states.all(|state| (*state == SourceState::Current) == current)
    };
    assert!(is(&before, true));
    agent.stop().await;
    let stale = wait(&mut source, "a stale source", |now| is(now, false)).await;
    assert!(stale.same_traffic(&before));
    agent.run().await;
    let after = wait(&mut source, "a current source", |now| is(now, true)).await;
    assert_eq!(after.listeners, before.listeners);
    assert_eq!(
        after.identities["web"].trust, before.identities["web"].trust,
        "the agent has kept its CA"
    );

    agent
        .register(&service("web", 9100, &[("api", 5000), ("db", 5001)]))
        .await;
    wait(&mut source, "changes after the restart", |now| {
        now.listeners.contains_key("upstream/db")
    })
    .await;
    let gone = agent.client.deregister_service("web-sidecar-proxy").await;
    gone.expect("a deregistration");
    let last = wait(&mut source, "a stale source", |now| is(now, false)).await;
    assert!(
        last.listeners.contains_key("upstream/db"),
        "a registration that is gone ends nothing"
    );
}
