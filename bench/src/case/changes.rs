//! From a change in Consul to the first request that shows it. All take their
//! time from just before Consul is told.

use std::time::Instant;

use http::Method;
use meridian_tests::client::{Protocol, get};
use meridian_tests::wait::PATIENCE;
use meridian_tests::world::World;
use serde_json::json;

use super::loads::pairs;
use super::relay::Relay;
use super::start::{pause, until_status};
use super::{delay, empty};
use crate::mesh::{Mesh, Pair, Running, Setting};
use crate::turns::{Plan, Series};

/// Requests in a row to one of two instances that show its new weight: taking
/// turns never does it, and chance once in a thousand times.
const RUN: usize = 10;

/// The heaviest that an instance can be for Envoy.
const HEAVY: u32 = 128;

/// Both contenders of a case, and the Consul that changes.
struct Scene {
    mesh: Mesh,
    pairs: [Pair; 2],
    running: Vec<(&'static str, Running)>,
}

impl Scene {
    async fn set(world: &World) -> Self {
        let (mesh, running) = pairs(world, Setting::HTTP).await;
        Self {
            mesh,
            pairs: Pair::both(Setting::HTTP),
            running,
        }
    }

    /// Rounds of a change and of its undoing; `change` returns once a request has shown it.
    async fn rounds(
        &self,
        plan: Plan,
        change: impl AsyncFn(&Mesh, &Pair),
        undo: impl AsyncFn(&Mesh, &Pair),
    ) -> Vec<Series> {
        let titles = self.running.iter().map(|(title, _)| empty(title));
        let mut all: Vec<_> = titles.collect();
        for _ in 0..plan.rounds {
            for (pair, series) in self.pairs.iter().zip(&mut all) {
                let began = Instant::now();
                change(&self.mesh, pair).await;
                series.samples.push(delay(began.elapsed()));
                undo(&self.mesh, pair).await;
            }
        }
        all
    }
}

pub(super) async fn intention(world: &World, plan: Plan) -> Vec<Series> {
    let say = async |mesh: &Mesh, pair: &Pair, action, status| {
        let sources = [(pair.caller.name.as_str(), action), ("*", "deny")];
        mesh.consul.intentions(&pair.callee.name, &sources).await;
        until_status(pair.port(), status).await;
    };
    let scene = Scene::set(world).await;
    let deny = async |mesh: &Mesh, pair: &Pair| say(mesh, pair, "deny", 403).await;
    let allow = async |mesh: &Mesh, pair: &Pair| say(mesh, pair, "allow", 200).await;
    scene.rounds(plan, deny, allow).await
}

/// The only instance turns critical, so the next request has nowhere to go.
pub(super) async fn critical(world: &World, plan: Plan) -> Vec<Series> {
    let say = async |mesh: &Mesh, pair: &Pair, enable, status| {
        let id = format!("{}-sidecar-proxy", pair.callee.name);
        let path = format!("/v1/agent/service/maintenance/{id}?enable={enable}");
        mesh.consul.api(Method::PUT, &path, None).await;
        until_status(pair.port(), status).await;
    };
    let scene = Scene::set(world).await;
    let fail = async |mesh: &Mesh, pair: &Pair| say(mesh, pair, true, 503).await;
    let pass = async |mesh: &Mesh, pair: &Pair| say(mesh, pair, false, 200).await;
    scene.rounds(plan, fail, pass).await
}

/// A second address of the callee's sidecar is registered.
pub(super) async fn instance(world: &World, plan: Plan) -> Vec<Series> {
    let scene = Scene::set(world).await;
    let relays = scene.pairs.each_ref().map(before_callee);
    let relay = |pair: &Pair| &relays[usize::from(pair.kind != scene.pairs[0].kind)];
    let add = async |mesh: &Mesh, pair: &Pair| {
        register(mesh, pair, relay(pair), 1).await;
        until_drawn(pair, relay(pair), 1).await;
    };
    let remove = async |mesh: &Mesh, pair: &Pair| {
        deregister(mesh, pair).await;
        until_left(pair, relay(pair)).await;
    };
    scene.rounds(plan, add, remove).await
}

/// One of two instances becomes so heavy that it draws nearly every request.
pub(super) async fn weight(world: &World, plan: Plan) -> Vec<Series> {
    let scene = Scene::set(world).await;
    let relays = scene.pairs.each_ref().map(before_callee);
    let relay = |pair: &Pair| &relays[usize::from(pair.kind != scene.pairs[0].kind)];
    let even = async |mesh: &Mesh, pair: &Pair| {
        register(mesh, pair, relay(pair), 1).await;
        until_shared(pair, relay(pair)).await;
    };
    for pair in &scene.pairs {
        even(&scene.mesh, pair).await;
    }
    let heavy = async |mesh: &Mesh, pair: &Pair| {
        register(mesh, pair, relay(pair), HEAVY).await;
        until_drawn(pair, relay(pair), RUN).await;
    };
    scene.rounds(plan, heavy, even).await
}

fn before_callee(pair: &Pair) -> Relay {
    Relay::before(pair.callee.sidecar_ports()[0])
}

/// Puts the relay into the catalog as an instance on a node without an agent.
async fn register(mesh: &Mesh, pair: &Pair, relay: &Relay, weight: u32) {
    let proxy = format!("{}-sidecar-proxy", pair.callee.name);
    let body = json!({
        "Node": far(pair),
        "Address": "127.0.0.1",
        "Service": {
            "Kind": "connect-proxy",
            "ID": format!("{proxy}-far"),
            "Service": proxy,
            "Address": "127.0.0.1",
            "Port": relay.port(),
            "Weights": {"Passing": weight, "Warning": 1},
            "Proxy": {"DestinationServiceName": pair.callee.name},
        },
    });
    mesh.consul
        .api(Method::PUT, "/v1/catalog/register", Some(body))
        .await;
}

async fn deregister(mesh: &Mesh, pair: &Pair) {
    let body = json!({"Node": far(pair)});
    mesh.consul
        .api(Method::PUT, "/v1/catalog/deregister", Some(body))
        .await;
}

fn far(pair: &Pair) -> String {
    format!("far-{}", pair.callee.name)
}

/// Sends requests until so many in a row have gone through the relay.
async fn until_drawn(pair: &Pair, relay: &Relay, run: usize) {
    until_run(pair, relay, run, true).await;
}

/// Sends requests until none goes through the relay any more.
async fn until_left(pair: &Pair, relay: &Relay) {
    until_run(pair, relay, RUN, false).await;
}

/// Sends requests until both ways have their share again.
async fn until_shared(pair: &Pair, relay: &Relay) {
    for _ in 0..3 {
        until_run(pair, relay, 1, true).await;
        until_run(pair, relay, 1, false).await;
    }
}

async fn until_run(pair: &Pair, relay: &Relay, run: usize, through: bool) {
    let deadline = Instant::now() + PATIENCE;
    let mut length = 0;
    while length < run {
        assert!(
            Instant::now() < deadline,
            "no {run} requests in a row through the relay: {through}"
        );
        let before = relay.bytes();
        let reply = get(pair.port(), Protocol::Http1, "/").await;
        let good = reply.is_ok_and(|reply| reply.status == 200);
        let relayed = relay.bytes() > before;
        length = if good && relayed == through {
            length + 1
        } else {
            0
        };
        if length == 0 {
            pause();
        }
    }
}
