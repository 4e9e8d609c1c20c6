//! Gateways of each kind under ACLs and TLS.

use super::stage::{Mesh, ping};
use meridian_tests::admin::Admin;
use meridian_tests::client::{Protocol, get, loopback};
use meridian_tests::consul::{Consul, Service};
use meridian_tests::origin::TcpOrigin;
use meridian_tests::sidecar::Sidecar;
use meridian_tests::tools;
use meridian_tests::wait::{self, PATIENCE};
use meridian_tests::world::isolated;
use serde_json::json;

/// What all of them may read.
const READS: &str = r#"service_prefix "" { policy = "read" } node_prefix "" { policy = "read" }"#;

/// Program, kind, name and port of each, and what else it may do.
const GATEWAYS: [(&str, &str, &str, u16, &str); 4] = [
    ("gateway", "ingress", "ingress", 9011, ""),
    ("gateway", "api", "api", 9012, r#"mesh = "read""#),
    (
        "meshd",
        "mesh",
        "mesh-gateway",
        9013,
        r#"agent_prefix "" { policy = "read" }"#,
    ),
    (
        "meshd",
        "terminating",
        "egress",
        9014,
        r#"service "outside" { policy = "write" }"#,
    ),
];

/// What the gateways have to do, and who may call.
async fn entries(consul: &Consul) {
    for entry in [
        json!({"Kind": "ingress-gateway", "Name": "ingress", "Listeners": [
            {"Port": 9001, "Protocol": "http", "Services": [
                {"Name": "http", "Hosts": ["*"]}]}]}),
        json!({"Kind": "api-gateway", "Name": "api", "Listeners": [
            {"Name": "main", "Port": 9002, "Protocol": "http"}]}),
        json!({"Kind": "http-route", "Name": "all",
            "Parents": [{"Kind": "api-gateway", "Name": "api"}],
            "Rules": [{"Services": [{"Name": "http"}]}]}),
        json!({"Kind": "terminating-gateway", "Name": "egress",
            "Services": [{"Name": "outside"}]}),
    ] {
        consul.config_entry(entry).await;
    }
    let allow = json!([{"Name": "ingress", "Action": "allow"}, {"Name": "api", "Action": "allow"}]);
    consul
        .config_entry(json!({"Kind": "service-intentions", "Name": "http", "Sources": allow}))
        .await;
    consul.intentions("outside", &[("far", "allow")]).await;
}

/// A gateway of each kind, with the policy that docs/operations.md names for it.
#[test]
fn gateways_work_with_the_policies_that_are_documented_for_them() {
    isolated("gateway rights", async |world| {
        let mesh = Mesh::start(world).await;
        let consul = &mesh.consul;
        let outside = Service::new("outside", 8005);
        let _outside = TcpOrigin::start(8005).await;
        consul.register(&outside).await;
        entries(consul).await;

        let mut running = Vec::new();
        for (program, kind, name, port, more) in GATEWAYS {
            let own = format!(r#"service "{name}" {{ policy = "write" }}"#);
            let token = consul
                .policy_token(kind, &format!("{own} {READS} {more}"))
                .await;
            let admin = loopback(world.fresh_port());
            let mut words = mesh.secured.words();
            let own = format!(
                "run --gateway {kind} --service {name} --address 127.0.0.1:{port} --register \
                 --admin-bind {admin} --token {}",
                token.secret
            );
            words.splice(0..0, own.split_whitespace().map(str::to_owned));
            let process = world.spawn(name, &tools::ours(program), &words);
            running.push((name, Admin::new(admin), process));
        }
        let far = Service::new("far", 8006)
            .sidecar(21006)
            .upstream("outside", 5006);
        consul.register(&far).await;
        let token = consul.service_token("far").await;
        let mut words = mesh.secured.words();
        words.extend(["--token".to_owned(), token.secret]);
        let mut sidecar = Sidecar::launch_with(world, &far, &words);
        sidecar.ready().await;

        for (name, admin, _) in &running {
            wait::until(
                &format!("{name} is ready"),
                PATIENCE,
                async || match admin.ready().await? {
                    200 => Ok(()),
                    status => Err(status.to_string()),
                },
            )
            .await;
        }
        for port in [9001, 9002] {
            wait::until("a gateway answers", PATIENCE, async || {
                let reply = get(port, Protocol::Http1, "/open").await;
                match reply.map_err(|error| error.to_string())?.status.as_u16() {
                    200 => Ok(()),
                    status => Err(format!("port {port}: {status}")),
                }
            })
            .await;
        }
        wait::until("the outside answers", PATIENCE, async || ping(5006).await).await;
        for (name, admin, _) in &running {
            let snapshot = admin.snapshot().await;
            assert_eq!(snapshot["rejected"], json!([]), "{name}: {snapshot:#}");
            assert_eq!(
                snapshot["sources"][0]["state"], "current",
                "{name}: {snapshot:#}"
            );
        }
    });
}
