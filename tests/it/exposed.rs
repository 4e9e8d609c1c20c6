//! Paths and checks of an application that are reachable without a certificate.

use http::Method;
use meridian_tests::client::{Protocol, get};
use meridian_tests::consul::{Consul, Service};
use meridian_tests::origin::Origin;
use meridian_tests::sidecar::{Kind, Sidecar};
use meridian_tests::wait::{self, PATIENCE};
use meridian_tests::world::isolated;
use serde_json::json;

/// The first port that an agent assigns to a check.
const CHECK: u16 = 21500;
const PATHS: u16 = 9100;

#[test]
fn checks_and_paths_pass_through_meshd() {
    exposed(Kind::Meshd);
}

#[test]
fn checks_and_paths_pass_through_envoy() {
    exposed(Kind::Envoy);
}

fn exposed(kind: Kind) {
    isolated(&format!("exposed by {kind:?}"), async move |world| {
        let consul = Consul::start(world).await;
        let paths = json!([{"Path": "/metrics", "ListenerPort": PATHS, "LocalPathPort": 8001}]);
        consul
            .config_entry(
                json!({"Kind": "service-defaults", "Name": "api", "Protocol": "http",
                "Expose": {"Checks": true, "Paths": paths}}),
            )
            .await;
        let mut api = Service::new("api", 8001).sidecar(21001);
        api.checks = vec![json!({"CheckID": "health", "Name": "health",
            "HTTP": "http://127.0.0.1:8001/health?deep=1", "Interval": "1s"})];
        consul.register(&api).await;
        let _origin = Origin::start("api", api.port).await;
        let _sidecar = Sidecar::start(world, kind, &api).await;

        wait::until(
            "the check that goes through the sidecar",
            PATIENCE,
            async || {
                let checks = consul.api(Method::GET, "/v1/agent/checks", None).await;
                let check = &checks["health"];
                let passes = check["Status"] == "passing" && check["ExposedPort"] == CHECK;
                passes.then_some(()).ok_or_else(|| check.to_string())
            },
        )
        .await;
        let cases = [
            (CHECK, "/health", 200),
            (CHECK, "/health?x=2", 200),
            (CHECK, "/health/", 404),
            (CHECK, "/x/../health", 404),
            (CHECK, "/metrics", 404),
            (PATHS, "/metrics", 200),
            (PATHS, "/health", 404),
            (PATHS, "/", 404),
        ];
        for (port, path, status) in cases {
            let reply = get(port, Protocol::Http1, path).await.expect("a reply");
            assert_eq!(reply.status, status, "{port} {path}");
        }
    });
}
