//! Memory: of a sidecar at rest and with what it has to know, of the edge with
//! connections that do nothing.

use http::Method;
use meridian_tests::wait::{self, PATIENCE};
use meridian_tests::world::World;
use serde_json::{Value, json};

use super::empty;
use crate::account::Tree;
use crate::edge::{self, Shape};
use crate::load::Client;
use crate::mesh::{self, Mesh, Pair, Setting, Sidecarred};
use crate::turns::{Measure, Plan, Sample, Series};

/// Idle connections.
const CONNECTIONS: usize = 10_000;

/// Operations of one transaction; Consul takes 128.
const OPERATIONS: usize = 64;

/// Instances of one node.
const INSTANCES_OF_A_NODE: usize = 50;

pub(super) async fn idle(world: &World, plan: Plan) -> Vec<Series> {
    let pairs = Pair::both(Setting::HTTP);
    let mesh = Mesh::start(world, Setting::HTTP, &pairs).await;
    let mut all = Vec::new();
    for pair in &pairs {
        let mut series = empty(pair.title());
        for _ in 0..plan.rounds {
            let running = mesh.run(world, pair).await;
            series
                .samples
                .push(resident(plan, running.caller.tree()).await);
        }
        all.push(series);
    }
    all
}

/// A calling sidecar that knows so many instances of its upstream. All rounds of one
/// contender come before the other's: what they know is registered in between.
pub(super) async fn with_endpoints(world: &World, plan: Plan, count: usize) -> Vec<Series> {
    let pairs = Pair::both(Setting::HTTP);
    let mesh = Mesh::start(world, Setting::HTTP, &pairs).await;
    let mut callees = Vec::new();
    let mut all = Vec::new();
    for pair in &pairs {
        // The callee's own sidecar is one of them.
        callees.push(mesh.run(world, pair).await.callee);
        register_elsewhere(&mesh, &pair.callee.name, count - 1).await;
        let mut series = empty(pair.title());
        for _ in 0..plan.rounds {
            let caller = mesh::ready(world, pair.kind, &pair.caller).await;
            let last = match count {
                1 => format!("127.0.0.1:{}", pair.callee.sidecar_ports()[0]),
                more => elsewhere(more - 2),
            };
            knows(&caller, &last, count).await;
            series.samples.push(resident(plan, caller.tree()).await);
        }
        all.push(series);
    }
    all
}

/// Each connection has carried one request, and waits for the next. Contenders
/// start anew for each round: memory that was needed once is seldom given back.
pub(super) async fn with_connections(world: &World, plan: Plan) -> Vec<Series> {
    let mut all: Vec<Series> = Vec::new();
    for _ in 0..plan.rounds {
        let edge = edge::start(world, Shape::PLAIN).await;
        all.resize_with(edge.contenders.len(), || empty(""));
        for ((title, contender), series) in edge.contenders.iter().zip(&mut all) {
            let mut clients = Vec::new();
            for _ in 0..CONNECTIONS {
                let mut client = Client::new(contender.ports.plain, b"");
                let reply = client.exchange().expect("a reply to an idle client");
                assert!(reply.good, "{title} refuses a client");
                clients.push(client);
            }
            series.contender = title;
            series.samples.push(resident(plan, contender.tree()).await);
        }
    }
    all
}

async fn resident(plan: Plan, tree: Tree) -> Sample {
    tokio::time::sleep(plan.rest).await;
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52 bytes")]
    let bytes = tree.usage().resident as f64;
    assert!(bytes > 0.0, "a contender is gone");
    [(Measure::Resident, bytes / 1_048_576.0)].into()
}

/// Instances on nodes without an agent; nobody listens there.
async fn register_elsewhere(mesh: &Mesh, service: &str, count: usize) {
    let operations: Vec<Value> = (0..count)
        .flat_map(|index| {
            let node = format!("far-{service}-{}", index / INSTANCES_OF_A_NODE);
            let first = index % INSTANCES_OF_A_NODE == 0;
            let new_node = first.then(|| {
                json!({"Node": {"Verb": "set", "Node": {"Node": node, "Address": elsewhere(index)}}})
            });
            new_node.into_iter().chain([instance(service, &node, index)])
        })
        .collect();
    for transaction in operations.chunks(OPERATIONS) {
        mesh.consul
            .api(Method::PUT, "/v1/txn", Some(json!(transaction)))
            .await;
    }
}

fn instance(service: &str, node: &str, index: usize) -> Value {
    let proxy = format!("{service}-sidecar-proxy");
    json!({"Service": {"Verb": "set", "Node": node, "Service": {
        "Kind": "connect-proxy",
        "ID": format!("{proxy}-{index}"),
        "Service": proxy,
        "Address": elsewhere(index),
        "Port": 20000,
        "Proxy": {"DestinationServiceName": service},
    }}})
}

fn elsewhere(index: usize) -> String {
    format!("127.1.{}.{}", index >> 8, index & 255)
}

/// Waits until a sidecar's own report has so many instances, of which `last` was registered last.
async fn knows(sidecar: &Sidecarred, last: &str, count: usize) {
    wait::until(&format!("{count} instances"), PATIENCE, async || {
        // Envoy's page names them all, ours counts them: each answers 404 to the other's.
        let envoys = sidecar.admin.ask(Method::GET, "/clusters", "").await?;
        let ours = sidecar.admin.ask(Method::GET, "/snapshot", "").await?;
        if envoys.text().contains(last) || most_instances(&ours.text()) == count as u64 {
            return Ok(());
        }
        Err("not known yet".to_owned())
    })
    .await;
}

/// Instances of the largest target in our report.
fn most_instances(snapshot: &str) -> u64 {
    let snapshot: Value = serde_json::from_str(snapshot).unwrap_or_default();
    let clusters = snapshot["clusters"].as_array().into_iter().flatten();
    let targets = clusters.filter_map(|cluster| cluster["targets"].as_array());
    let counts = targets
        .flatten()
        .filter_map(|target| target["instances"]["all"].as_u64());
    counts.max().unwrap_or_default()
}
