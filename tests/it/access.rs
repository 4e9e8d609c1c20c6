//! With ACLs and TLS on: what a sidecar does with the rights of its service and no
//! others, and what it does once its token is good for nothing.
//!
//! Every agent here has `default_policy = deny` and asks for certificates, and every
//! sidecar has a token of its own, with a service identity alone where nothing else
//! is said.

mod gateways;
mod stage;

use http::Method;
use meridian_tests::client::loopback;
use meridian_tests::consul::Service;
use meridian_tests::load::{Load, Plan, Target};
use meridian_tests::sidecar::Sidecar;
use meridian_tests::wait::{self, PATIENCE};
use meridian_tests::world::{World, isolated};
use serde_json::json;
use stage::{HTTP, Mesh, TCP, ping, status};
use std::time::Duration;

const RATE: u32 = 200;

/// Load with nothing else going on: long enough for every pooled connection.
const CALM: Duration = Duration::from_secs(2);

#[test]
fn the_rights_of_its_service_are_all_a_sidecar_needs() {
    isolated("least rights", async |world| {
        let mesh = Mesh::start(world).await;
        status("/old", 200).await.expect("the router's rewrite");
        status("//open", 200)
            .await
            .expect("the mesh entry's slashes");
        status("/other", 403).await.expect("no permission");
        status("/token", 403).await.expect("a token is asked for");
        ping(TCP).await.expect("an echo");
        for sidecar in mesh.others.iter().chain([&mesh.caller]) {
            let snapshot = sidecar.admin.snapshot().await;
            assert_eq!(snapshot["rejected"], json!([]), "{snapshot:#}");
            assert_eq!(snapshot["sources"][0]["state"], "current", "{snapshot:#}");
            let metrics = sidecar.admin.metrics().await;
            assert_eq!(metrics.sum("meridian_source_token_refused", &[]), 0.0);
            assert_eq!(metrics.sum("meridian_source_watch_errors_total", &[]), 0.0);
        }
    });
}

/// Every response is counted: none is lost, neither while the token is refused nor
/// when another one takes its place.
#[test]
fn a_revoked_token_costs_no_request_and_is_named_until_it_is_replaced() {
    isolated("revoked", async |world| {
        let mesh = Mesh::start(world).await;
        let plan = Plan {
            rate: RATE,
            authority: "http.example".to_owned(),
            path: "/open?size=200".to_owned(),
        };
        let target = Target::new(loopback(HTTP), mesh.caller.admin);
        let load = Load::start(plan, vec![target]);

        mesh.consul.revoke(&mesh.token).await;
        let refused = async || {
            let source = mesh.source().await;
            (source["cause"] == "token").then_some(()).ok_or(source)
        };
        wait::until("the refusal is shown", PATIENCE, refused).await;
        let metrics = mesh.caller.admin.metrics().await;
        assert_eq!(metrics.sum("meridian_source_token_refused", &[]), 1.0);
        assert_eq!(metrics.sum("meridian_source_connected", &[]), 0.0);
        assert_eq!(mesh.caller.admin.ready().await, Ok(200));
        a_change_that_is_missed(&mesh).await;
        tokio::time::sleep(CALM).await;

        let fresh = mesh.consul.service_token("caller").await;
        std::fs::write(&mesh.token_file, &fresh.secret).expect("the token file");
        wait::until("the new token is taken", PATIENCE, async || {
            let source = mesh.source().await;
            (source["state"] == "current").then_some(()).ok_or(source)
        })
        .await;
        wait::until("what was missed is learned", PATIENCE, async || {
            // The origin sees the path as it was sent, which no permission allows.
            status("/old", 403).await
        })
        .await;
        let report = load.stop().await;
        assert_eq!(report.lost(), 0, "{report:#?}");
        assert!(report.sent > u64::from(RATE), "too little load: {report:?}");
        let metrics = mesh.caller.admin.metrics().await;
        assert_eq!(metrics.sum("meridian_source_token_refused", &[]), 0.0);
        let said = mesh.caller.process.log();
        for once in ["the token is refused", "without agent:read"] {
            assert_eq!(said.matches(once).count(), 1, "{once}: {said}");
        }
    });
}

/// A query that waits was let in before: it learns this change, and no other.
async fn a_change_that_is_missed(mesh: &Mesh) {
    let kept = json!({"Match": {"HTTP": {"PathPrefix": "/old"}},
        "Destination": {"PrefixRewrite": "/open"}});
    let other = json!({"Match": {"HTTP": {"PathPrefix": "/other"}}});
    mesh.consul
        .config_entry(json!({"Kind": "service-router", "Name": "http", "Routes": [kept, other]}))
        .await;
    wait::holds("the chain is refused, too", PATIENCE, async || {
        let metrics = mesh.caller.admin.metrics().await;
        let chain = [("watch", "chain")];
        metrics.sum("meridian_source_watch_errors_total", &chain) >= 2.0
    })
    .await;
    mesh.consul
        .config_entry(json!({"Kind": "service-router", "Name": "http", "Routes": []}))
        .await;
    status("/old", 200).await.expect("the last known route");
}

#[test]
fn a_missing_right_is_named_and_the_rest_works() {
    isolated("missing right", async |world| {
        let mesh = Mesh::start(world).await;
        without_a_right(world, &mesh).await;
        without_a_token(world, &mesh).await;
    });
}

/// A token may read `tcp` and nothing else but what is its own.
async fn without_a_right(world: &World, mesh: &Mesh) {
    let rules = r#"
        service "narrow" { policy = "write" }
        service "narrow-sidecar-proxy" { policy = "write" }
        service_prefix "tcp" { policy = "read" }
        node_prefix "" { policy = "read" }"#;
    let token = mesh.consul.policy_token("narrow", rules).await;
    let narrow = Service::new("narrow", 8003)
        .sidecar(21003)
        .upstream("http", 5003)
        .upstream("tcp", 5004);
    mesh.consul.register(&narrow).await;
    let mut words = mesh.secured.words();
    words.extend(["--token".to_owned(), token.secret]);
    let sidecar = Sidecar::launch_with(world, &narrow, &words);
    wait::until(
        "ready without the upstream",
        PATIENCE,
        async || match sidecar.admin.ready().await? {
            200 => Ok(()),
            status => Err(status.to_string()),
        },
    )
    .await;
    let snapshot = sidecar.admin.snapshot().await;
    let rejected = snapshot["rejected"].as_array().expect("a list");
    let [rejection] = rejected.as_slice() else {
        panic!("{snapshot:#}");
    };
    assert_eq!(rejection["resource"], "upstream http");
    let reason = rejection["reason"].as_str().unwrap_or_default();
    assert!(reason.contains("service:read"), "{reason}");
    // What may not be read is named; all else is as Consul says now.
    let sources = snapshot["sources"].as_array().expect("a list");
    let [consul, chain] = sources.as_slice() else {
        panic!("{snapshot:#}");
    };
    assert_eq!(
        (&consul["name"], &consul["state"]),
        (&json!("consul"), &json!("current"))
    );
    assert_eq!(
        (&chain["name"], &chain["cause"]),
        (&json!("consul/chain"), &json!("rights"))
    );
    let metrics = sidecar.admin.metrics().await;
    assert_eq!(metrics.sum("meridian_source_connected", &[]), 1.0);
}

/// Nothing can be served then, and `/ready` says why.
async fn without_a_token(world: &World, mesh: &Mesh) {
    let nobody = Service::new("nobody", 8004).sidecar(21004);
    mesh.consul.register(&nobody).await;
    let sidecar = Sidecar::launch_with(world, &nobody, &mesh.secured.words());
    let reason = wait::until("the reason", PATIENCE, async || {
        let reply = sidecar.admin.ask(Method::GET, "/ready", "").await?;
        let text = reply.text();
        (reply.status == 503 && text.contains("registration"))
            .then_some(text.clone())
            .ok_or(text)
    })
    .await;
    assert!(reason.contains("service:read"), "{reason}");
    let snapshot = sidecar.admin.snapshot().await;
    assert_eq!(snapshot["generation"], 0);
    assert_eq!(snapshot["sources"][0]["cause"], "rights", "{snapshot:#}");
}
