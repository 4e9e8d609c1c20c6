//! Cases without load: memory at rest, the first reply, the effect of a change.

use std::time::{Duration, Instant};

use http::Method;
use meridian_tests::client::{Protocol, get};
use meridian_tests::wait::{self, PATIENCE};
use meridian_tests::world::World;
use serde_json::json;

use super::{delay, pairs};
use crate::mesh::{self, Mesh, Pair, Setting, Sidecarred};
use crate::turns::{Measure, Plan, Sample, Series};

/// Between two looks for something that takes milliseconds.
const LOOK: Duration = Duration::from_millis(1);

/// Endpoints of the larger memory case.
const ENDPOINTS: u16 = 1000;

pub(super) async fn idle_memory(world: &World, plan: Plan) -> Vec<Series> {
    let pairs = Pair::both(Setting::HTTP);
    let mesh = Mesh::start(world, Setting::HTTP, &pairs).await;
    let mut all = Vec::new();
    for pair in &pairs {
        let mut samples = Vec::new();
        for _ in 0..plan.rounds {
            let running = mesh.run(world, pair).await;
            samples.push(resident(&running.caller));
        }
        all.push(Series {
            contender: pair.title(),
            samples,
        });
    }
    all
}

pub(super) async fn memory_with_endpoints(world: &World, plan: Plan) -> Vec<Series> {
    let pairs = Pair::both(Setting::HTTP);
    let mesh = Mesh::start(world, Setting::HTTP, &pairs).await;
    let mut callees = Vec::new();
    let mut all = Vec::new();
    for pair in &pairs {
        callees.push(mesh.run(world, pair).await.callee);
        for index in 0..ENDPOINTS {
            register_elsewhere(&mesh, &pair.callee.name, index).await;
        }
        let mut samples = Vec::new();
        for _ in 0..plan.rounds {
            let caller = mesh::ready(world, pair.kind, &pair.caller).await;
            knows(&caller, &elsewhere(ENDPOINTS - 1)).await;
            samples.push(resident(&caller));
        }
        all.push(Series {
            contender: pair.title(),
            samples,
        });
    }
    all
}

pub(super) async fn start(world: &World, plan: Plan) -> Vec<Series> {
    let pairs = Pair::both(Setting::HTTP);
    let mesh = Mesh::start(world, Setting::HTTP, &pairs).await;
    let mut all: Vec<_> = pairs.iter().map(empty).collect();
    let mut callees = Vec::new();
    for pair in &pairs {
        callees.push(mesh.run(world, pair).await.callee);
    }
    for _ in 0..plan.rounds {
        for (pair, series) in pairs.iter().zip(&mut all) {
            let began = Instant::now();
            let _caller = mesh::launch(world, pair.kind, &pair.caller);
            until_status(pair.port(), 200).await;
            series.samples.push(delay(began.elapsed()));
        }
    }
    all
}

pub(super) async fn change(world: &World, plan: Plan) -> Vec<Series> {
    let (mesh, running) = pairs(world, Setting::HTTP).await;
    let pairs = Pair::both(Setting::HTTP);
    let mut all: Vec<_> = pairs.iter().map(empty).collect();
    for _ in 0..plan.rounds {
        for ((pair, series), (_, running)) in pairs.iter().zip(&mut all).zip(&running) {
            let caller = pair.caller.name.as_str();
            let say = async |action| {
                mesh.consul
                    .intentions(&pair.callee.name, &[(caller, action), ("*", "deny")])
                    .await;
            };
            let began = Instant::now();
            say("deny").await;
            until_status(running.port, 403).await;
            series.samples.push(delay(began.elapsed()));
            say("allow").await;
            until_status(running.port, 200).await;
        }
    }
    all
}

fn empty(pair: &Pair) -> Series {
    Series {
        contender: pair.title(),
        samples: Vec::new(),
    }
}

fn resident(sidecar: &Sidecarred) -> Sample {
    #[expect(clippy::cast_precision_loss, reason = "far below 2^52 bytes")]
    let bytes = sidecar.tree().usage().resident as f64;
    [(Measure::Resident, bytes / 1_048_576.0)].into()
}

/// An instance on a node without an agent; nobody listens there.
async fn register_elsewhere(mesh: &Mesh, service: &str, index: u16) {
    let address = elsewhere(index);
    let proxy = format!("{service}-sidecar-proxy");
    let body = json!({
        "Node": format!("far-{index}"),
        "Address": address,
        "SkipNodeUpdate": false,
        "Service": {
            "Kind": "connect-proxy",
            "ID": format!("{proxy}-{index}"),
            "Service": proxy,
            "Address": address,
            "Port": 20000,
            "Proxy": {"DestinationServiceName": service},
        },
    });
    mesh.consul
        .api(Method::PUT, "/v1/catalog/register", Some(body))
        .await;
}

fn elsewhere(index: u16) -> String {
    let [high, low] = index.to_be_bytes();
    format!("127.1.{high}.{low}")
}

/// Waits until a sidecar's own report names an endpoint.
async fn knows(sidecar: &Sidecarred, address: &str) {
    wait::until(&format!("endpoint {address}"), PATIENCE, async || {
        // Envoy's page, or else ours: each answers 404 to the other's.
        for path in ["/clusters", "/snapshot"] {
            let reply = sidecar.admin.ask(Method::GET, path, "").await?;
            if reply.text().contains(address) {
                return Ok(());
            }
        }
        Err("not known yet".to_owned())
    })
    .await;
}

/// Asks every millisecond until a reply has this status.
async fn until_status(port: u16, status: u16) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let reply = get(port, Protocol::Http1, "/").await;
        match reply {
            Ok(reply) if reply.status == status => return,
            last => assert!(Instant::now() < deadline, "no {status} on {port}: {last:?}"),
        }
        #[expect(clippy::disallowed_methods, reason = "the pause between two looks")]
        std::thread::sleep(LOOK);
    }
}
