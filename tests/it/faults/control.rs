//! A Consul that loses its leader, or its memory.

use meridian_tests::client::{Protocol, get};
use meridian_tests::consul::Consul;
use meridian_tests::process::Process;
use meridian_tests::tools;
use meridian_tests::wait::{self, PATIENCE};
use meridian_tests::world::{World, isolated};
use serde_json::{Value, json};

use super::scene::{Scene, calm};

/// Addresses of the two servers that the proxies do not ask.
const PEERS: [&str; 2] = ["127.0.0.2", "127.0.0.3"];

/// Changes between a snapshot and its return, so that the index falls far.
const CHANGES: usize = 50;

#[test]
fn a_lost_leader_costs_no_request_and_its_return_brings_changes() {
    isolated("leader lost", async |world| {
        let mut peers = Peers::start(world);
        let settings = json!({
            "bootstrap_expect": 3, "retry_join": PEERS, "retry_interval": "1s",
        });
        let consul = Consul::start_with(world, settings).await;
        let scene = Scene::start(world, consul).await;
        let loads = scene.loads().await;
        peers.kill();
        wait::holds("no leader", PATIENCE, async || leader().await.is_empty()).await;
        calm().await;
        for caller in &scene.callers {
            assert_eq!(caller.admin.ready().await, Ok(200));
        }
        peers.restart(world);
        wait::holds("a leader", PATIENCE, async || !leader().await.is_empty()).await;
        changes_arrive(&scene).await;
        loads.stop().await.assert_whole();
    });
}

#[test]
fn an_index_that_goes_backwards_costs_no_request_and_no_change() {
    isolated("snapshot restore", async |world| {
        let consul = Consul::start(world).await;
        let scene = Scene::start(world, consul).await;
        let file = world.directory().join("state.snap");
        let file = file.to_str().expect("a path of text");
        snapshot(world, &["save", file]).await;
        for number in 0..CHANGES {
            scene
                .consul
                .protocol(&format!("later-{number}"), "http")
                .await;
        }
        let before = index().await;
        let loads = scene.loads().await;
        snapshot(world, &["restore", file]).await;
        wait::until("a lower index", PATIENCE, async || {
            let now = index().await;
            (now < before).then_some(()).ok_or(now)
        })
        .await;
        changes_arrive(&scene).await;
        loads.stop().await.assert_whole();
    });
}

/// What is changed now is seen by the callers: an instance less, and one more.
async fn changes_arrive(scene: &Scene) {
    for (enable, endpoints) in [(true, 1), (false, 2)] {
        scene
            .consul
            .maintenance("web-0-sidecar-proxy", enable)
            .await;
        for caller in &scene.callers {
            wait::until("the change at a caller", PATIENCE, async || {
                let healthy = healthy(&caller.admin.snapshot().await);
                (healthy == endpoints).then_some(()).ok_or(healthy)
            })
            .await;
        }
    }
}

/// Healthy instances of the service, as a caller sees them.
fn healthy(snapshot: &Value) -> usize {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let clusters = list(&snapshot["clusters"]);
    let targets = clusters
        .iter()
        .flat_map(|cluster| list(&cluster["targets"]));
    let endpoints = targets.flat_map(|target| list(&target["endpoints"]));
    endpoints
        .filter(|endpoint| {
            let instance = endpoint["instance"].as_str().unwrap_or_default();
            instance.starts_with("web-") && endpoint["healthy"] == true
        })
        .count()
}

/// Address of the leader; empty without one.
async fn leader() -> String {
    match get(8500, Protocol::Http1, "/v1/status/leader").await {
        Ok(reply) if reply.status == 200 => reply.text().trim().trim_matches('"').to_owned(),
        _ => String::new(),
    }
}

/// Index of the catalog's services.
async fn index() -> u64 {
    let reply = get(8500, Protocol::Http1, "/v1/config/service-defaults").await;
    let reply = reply.expect("an answer of the agent");
    let index = reply.headers["x-consul-index"].to_str().expect("a number");
    index.parse().expect("a number")
}

/// `consul snapshot …`, to its end.
async fn snapshot(world: &World, words: &[&str]) {
    let words = [&["snapshot"], words].concat();
    let mut process = world.spawn("snapshot", &tools::consul(), words);
    assert_eq!(process.exit_code(PATIENCE).await, 0, "{}", process.log());
}

/// Two more servers, each on an address of its own.
struct Peers {
    files: Vec<String>,
    running: Vec<Process>,
}

impl Peers {
    fn start(world: &World) -> Self {
        let files = PEERS.iter().map(|address| {
            let settings = json!({
                "server": true, "bootstrap_expect": 3, "node_name": format!("node-{address}"),
                "data_dir": world.directory().join(address),
                "bind_addr": address, "client_addr": address,
                "retry_join": ["127.0.0.1"], "retry_interval": "1s",
                "disable_update_check": true, "log_level": "warn",
                "performance": {"raft_multiplier": 1},
                "ports": {"grpc": 8502, "serf_wan": -1},
                "connect": {"enabled": true, "test_ca_leaf_root_change_spread": "1ns"},
            });
            let file = world.write(&format!("{address}.json"), &settings.to_string());
            format!("-config-file={}", file.display())
        });
        let mut peers = Self {
            files: files.collect(),
            running: Vec::new(),
        };
        peers.restart(world);
        peers
    }

    fn restart(&mut self, world: &World) {
        let start = |(address, file): (&&str, &String)| {
            let words = ["agent", file.as_str()];
            world.spawn(&format!("consul-{address}"), &tools::consul(), words)
        };
        self.running = PEERS.iter().zip(&self.files).map(start).collect();
    }

    /// Two of three: whoever led, nobody leads now.
    fn kill(&mut self) {
        self.running.clear();
    }
}
