//! What an update keeps, builds and moves.

use super::*;
use std::collections::HashSet;

#[test]
fn one_hash_keeps_its_endpoint_when_another_leaves() {
    for policy in [ring(), LoadBalancing::Maglev { hash: Vec::new() }] {
        let endpoints = healthy(&[1; 10]);
        let mut bench = Bench::new(policy, &endpoints);
        let hashes: Vec<u64> = (0..2000).map(|_| bench.rng.u64(..)).collect();
        let places = |bench: &mut Bench| -> Vec<_> {
            let place = |hash: &u64| bench.pick(Some(*hash), &[]).unwrap().endpoint().clone();
            hashes.iter().map(place).collect()
        };
        let before = places(&mut bench);
        assert_eq!(before, places(&mut bench));
        bench.balancer.update(&endpoints[..9], bench.now);
        let after = places(&mut bench);
        let moved = before.iter().zip(&after).filter(|(a, b)| a != b).count();
        // A tenth must move. Maglev moves a few more, and so does the ring,
        // whose remaining members get more points.
        assert!((150..500).contains(&moved), "{moved}");
    }
}

#[test]
fn who_stays_keeps_counters_and_name() {
    let endpoints = healthy(&[1, 1, 1, 1]);
    let bench = Bench::new(LoadBalancing::RoundRobin, &endpoints);
    let ids: Vec<_> = (0..4)
        .map(|n| bench.member(&format!("i-{n}")).id())
        .collect();
    let _active = bench.member("i-3").begin();
    let changed = [
        endpoint(9, 1, Health::Healthy),
        endpoint(3, 7, Health::Unhealthy),
        endpoint(1, 1, Health::Healthy),
        endpoint(0, 1, Health::Healthy),
    ];
    bench.balancer.update(&changed, bench.now);
    let mut listed = Vec::new();
    bench
        .balancer
        .for_each(|member| listed.push(Arc::clone(member)));
    let names: Vec<_> = listed
        .iter()
        .map(|member| member.endpoint().clone())
        .collect();
    assert_eq!(names, changed);
    assert_eq!(bench.member("i-3").id(), ids[3]);
    assert_eq!(bench.member("i-3").stats().active(), 1);
    assert_eq!(bench.member("i-1").id(), ids[1]);
    assert!(!ids.contains(&bench.member("i-9").id()));
}

#[test]
fn an_update_builds_only_what_changed() {
    let mut endpoints = healthy(&[1; 1000]);
    let bench = Bench::new(LoadBalancing::RoundRobin, &endpoints);
    let addresses = |bench: &Bench| {
        let mut pointers = HashSet::new();
        bench.balancer.for_each(|member| {
            pointers.insert(Arc::as_ptr(member));
        });
        pointers
    };
    let before = addresses(&bench);
    endpoints.insert(500, endpoint(5000, 1, Health::Healthy));
    endpoints.remove(499);
    bench.balancer.update(&endpoints, bench.now);
    let after = addresses(&bench);
    assert_eq!(after.difference(&before).count(), 1);
    bench.balancer.update(&endpoints, bench.now);
    assert_eq!(addresses(&bench), after);
}

#[test]
fn newcomers_warm_up() {
    let slow_start = SlowStart {
        window: Duration::from_secs(100),
        min_percent: 10,
    };
    let options = BalanceOptions {
        slow_start: Some(slow_start),
        ..BalanceOptions::default()
    };
    for policy in [
        LoadBalancing::RoundRobin,
        LoadBalancing::LeastRequest { choices: 1 },
    ] {
        let mut bench = Bench::with(policy.clone(), options, &healthy(&[1]));
        bench.balancer.update(&healthy(&[1, 1]), bench.now);
        let cold = bench.shares(10_000)["i-1"];
        bench.now += Duration::from_secs(50);
        let warmer = bench.shares(10_000)["i-1"];
        bench.now += Duration::from_secs(51);
        let warm = bench.shares(10_000)["i-1"];
        assert!(cold < warmer && warmer < warm, "{policy:?}");
        assert!((warm - 0.5).abs() < 0.02, "{policy:?} {warm}");
    }
}
