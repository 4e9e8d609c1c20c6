//! `AccessLogs` of proxy-defaults.

use std::path::Path;

use meridian_tests::client::{Protocol, get};
use meridian_tests::consul::{Consul, Service};
use meridian_tests::origin::Origin;
use meridian_tests::sidecar::{Kind, Sidecar};
use meridian_tests::wait::{self, PATIENCE};
use meridian_tests::world::isolated;
use serde_json::{Value, json};

const API: u16 = 5001;

#[test]
fn requests_are_written_down_where_and_how_proxy_defaults_say() {
    isolated("access logs", async |world| {
        let consul = Consul::start(world).await;
        consul.protocol("api", "http").await;
        let api = Service::new("api", 8001)
            .sidecar(21001)
            .upstream("api", API);
        consul.register(&api).await;
        let _origin = Origin::start("api", api.port).await;
        let sidecar = Sidecar::start(world, Kind::Meshd, &api).await;
        consul.passing("api", 1).await;

        let log = world.directory().join("access.json");
        written(&consul, &log, json!({})).await;
        let line = line_of(&log, "/first").await;
        let line: Value = serde_json::from_str(&line).expect("a line of JSON");
        assert_eq!(line["method"], "GET");
        assert_eq!(line["response_code"], 200);
        assert_eq!(line["upstream_cluster"], "local_app");

        let log = world.directory().join("access.txt");
        let format = "%REQ(:METHOD)% %REQ(:PATH)% %RESPONSE_CODE% %REQ(X-ODD)%";
        written(&consul, &log, json!({"TextFormat": format})).await;
        let line = line_of(&log, "/second").await;
        assert_eq!(line, "GET /second 200 -");
        let snapshot = sidecar.admin.snapshot().await;
        let rejected = snapshot["rejected"].to_string();
        assert!(rejected.contains("%REQ(X-ODD)%"), "{rejected}");
    });
}

async fn written(consul: &Consul, log: &Path, mut settings: Value) {
    settings["Enabled"] = json!(true);
    settings["Type"] = json!("file");
    settings["Path"] = json!(log);
    let entry = json!({"Kind": "proxy-defaults", "Name": "global", "AccessLogs": settings});
    consul.config_entry(entry).await;
}

/// Asks for a path until the log has a line of it, in which the application was called.
async fn line_of(log: &Path, path: &str) -> String {
    wait::until("a line in the log", PATIENCE, async || {
        let reply = get(API, Protocol::Http1, path).await;
        reply.map_err(|error| error.to_string())?;
        let text = std::fs::read_to_string(log).map_err(|error| error.to_string())?;
        let mut lines = text.lines().filter(|line| line.contains(path));
        let inbound = |line: &&str| line.starts_with("GET ") || line.contains("local_app");
        lines
            .find(inbound)
            .map(str::to_owned)
            .ok_or_else(|| text.clone())
    })
    .await
}
