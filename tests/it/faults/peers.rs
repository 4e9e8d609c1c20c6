//! Peers that die, or do not do their part.

use std::time::{Duration, Instant};

use meridian_tests::consul::Consul;
use meridian_tests::origin::Mood;
use meridian_tests::process::Signal;
use meridian_tests::sidecar::{Kind, Sidecar};
use meridian_tests::wait::{self, PATIENCE};
use meridian_tests::world::isolated;

use super::scene::{LIMIT, Loads, PAUSE, Scene, calm, web};

/// How often an instance comes and goes.
const FLAPS: usize = 10;

#[test]
fn a_killed_sidecar_takes_only_what_it_held_and_may_not_be_repeated() {
    isolated("killed sidecars", async |world| {
        let consul = Consul::start(world).await;
        let mut scene = Scene::start(world, consul).await;

        // One of the two destinations.
        let before = scene.refused_retries().await;
        let loads = scene.loads().await;
        let held = kill(&mut scene.webs[0], &loads).await;
        scene.consul.passing("web", 1).await;
        let reports = loads.stop().await;
        // A POST that nobody took may be tried again as well, and be refused that.
        scene.lost_where_refused(&reports, before).await;
        assert!(
            reports.post.lost() <= held.post,
            "{held:?}: {reports:#?}\n{}",
            scene.refusals()
        );

        // It comes back, and is used again.
        scene.webs[0] = Sidecar::start(world, Kind::Meshd, &web(0)).await;
        scene.consul.passing("web", 2).await;
        scene.both_serve().await;

        // One of the two callers: its clients see their connections end.
        let loads = scene.loads().await;
        let held = kill(&mut scene.callers[0], &loads).await;
        calm().await;
        let reports = loads.stop().await;
        assert!(
            reports.get.lost() <= held.get && reports.post.lost() <= held.post,
            "{held:?}: {reports:#?}"
        );
    });
}

/// Requests that the dead one may have held.
#[derive(Debug)]
struct Held {
    get: u64,
    post: u64,
}

/// Kills a sidecar. Whatever was under way then, or began before it was gone, may
/// have been with it.
async fn kill(sidecar: &mut Sidecar, loads: &Loads) -> Held {
    let both = [&loads.get, &loads.post];
    let before = both.map(|load| (load.under_way(), load.sent()));
    sidecar.process.signal(Signal::SIGKILL);
    sidecar.process.exit_code(PATIENCE).await;
    let [get, post] = [0, 1].map(|index| {
        let (under_way, sent) = before[index];
        under_way + both[index].sent() - sent
    });
    Held { get, post }
}

#[test]
fn a_misbehaving_origin_costs_only_what_it_took_and_kept() {
    isolated("fickle origins", async |world| {
        let consul = Consul::start(world).await;
        let scene = Scene::start(world, consul).await;
        slow(&scene).await;
        flapping(&scene).await;
        resetting(&scene).await;
        hung(&scene).await;
        let loads = scene.loads().await;
        loads.stop().await.assert_whole();
    });
}

/// Slow is not lost.
async fn slow(scene: &Scene) {
    let pause = LIMIT / 2;
    let loads = scene.loads().await;
    scene.origins[0].turn(Mood::Slow(pause));
    calm().await;
    let reports = loads.stop().await;
    scene.origins[0].turn(Mood::Slow(PAUSE));
    reports.assert_whole();
    assert!(reports.get.slowest >= pause, "{reports:#?}");
}

/// An instance that Consul takes out and puts back, over and over.
async fn flapping(scene: &Scene) {
    let loads = scene.loads().await;
    for _ in 0..FLAPS {
        for (enable, passing) in [(true, 1), (false, 2)] {
            scene
                .consul
                .maintenance("web-0-sidecar-proxy", enable)
                .await;
            scene.consul.passing("web", passing).await;
        }
    }
    loads.stop().await.assert_whole();
    scene.both_serve().await;
}

/// Whatever may be repeated is answered by the other instance, as far as the budget of
/// retries goes. Ten rounds on a busy machine lost 0 to 5 of some 210, and each time
/// as many retries were refused.
async fn resetting(scene: &Scene) {
    let before = scene.origins[0].spoiled();
    let refused = scene.refused_retries().await;
    let loads = scene.loads().await;
    scene.origins[0].turn(Mood::Resetting);
    wait::holds("requests that are reset", PATIENCE, async || {
        scene.origins[0].spoiled() > before + 10
    })
    .await;
    let reports = loads.stop().await;
    scene.origins[0].turn(Mood::Slow(PAUSE));
    let spoiled = scene.origins[0].spoiled() - before;
    let refused = scene.lost_where_refused(&reports, refused).await;
    assert_eq!(reports.get.lost(), refused, "no POST is tried again");
    assert!(
        reports.post.lost() <= spoiled,
        "{spoiled} requests spoiled: {reports:#?}\n{}",
        scene.refusals()
    );
    scene.both_serve().await;
}

/// What was given to the hung one is lost when its time is up, and nothing else is.
async fn hung(scene: &Scene) {
    let before = scene.origins[0].spoiled();
    let loads = scene.loads().await;
    scene.origins[0].turn(Mood::Hung);
    let began = Instant::now();
    wait::holds("time is up for the first", PATIENCE, async || {
        began.elapsed() > LIMIT + Duration::from_millis(500)
    })
    .await;
    let reports = loads.stop().await;
    scene.origins[0].turn(Mood::Slow(PAUSE));
    let spoiled = scene.origins[0].spoiled() - before;
    assert!(spoiled > 0, "nothing reached the hung origin");
    let lost = reports.get.lost() + reports.post.lost();
    assert_eq!(lost, spoiled, "{reports:#?}");
    let late = |report: &meridian_tests::load::Report| report.statuses.get(&504).copied();
    let late: u64 = [late(&reports.get), late(&reports.post)]
        .into_iter()
        .flatten()
        .sum();
    assert_eq!(
        late, lost,
        "each was told that its time is up: {reports:#?}"
    );
    scene.both_serve().await;
}
