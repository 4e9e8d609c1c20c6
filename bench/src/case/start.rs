//! From the start of a sidecar to its first reply.

use std::time::{Duration, Instant};

use meridian_tests::client::{Protocol, get};
use meridian_tests::wait::PATIENCE;
use meridian_tests::world::World;

use super::{delay, empty};
use crate::mesh::{self, Mesh, Pair, Setting};
use crate::turns::{Plan, Series};

/// Between two looks for something that takes milliseconds.
const LOOK: Duration = Duration::from_millis(1);

pub(super) async fn start(world: &World, plan: Plan) -> Vec<Series> {
    let pairs = Pair::both(Setting::HTTP);
    let mesh = Mesh::start(world, Setting::HTTP, &pairs).await;
    let mut all: Vec<_> = pairs.iter().map(|pair| empty(pair.title())).collect();
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

/// Asks every millisecond until a reply has this status.
pub(super) async fn until_status(port: u16, status: u16) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match get(port, Protocol::Http1, "/").await {
            Ok(reply) if reply.status == status => return,
            last => assert!(Instant::now() < deadline, "no {status} on {port}: {last:?}"),
        }
        pause();
    }
}

/// The pause between two looks.
pub(super) fn pause() {
    #[expect(clippy::disallowed_methods, reason = "the pause between two looks")]
    std::thread::sleep(LOOK);
}
