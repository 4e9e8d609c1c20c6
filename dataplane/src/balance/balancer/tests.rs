//! Distributions and updates, over every policy.

use super::*;
use std::collections::HashSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

fn endpoint(host: u16, weight: u32, health: Health) -> Endpoint {
    let [high, low] = host.to_be_bytes();
    let address = Ipv4Addr::new(10, 0, high, low);
    Endpoint {
        address: EndpointAddress::Tcp(SocketAddr::from((address, 8080))),
        weight,
        health,
        instance: format!("i-{host}").into(),
    }
}

fn healthy(weights: &[u32]) -> Vec<Endpoint> {
    weights
        .iter()
        .zip(0..)
        .map(|(weight, host)| endpoint(host, *weight, Health::Healthy))
        .collect()
}

fn policies() -> [LoadBalancing; 6] {
    [
        LoadBalancing::RoundRobin,
        LoadBalancing::Random,
        LoadBalancing::LeastRequest { choices: 2 },
        ring(),
        LoadBalancing::Maglev { hash: Vec::new() },
        LoadBalancing::PeakEwma,
    ]
}

fn ring() -> LoadBalancing {
    LoadBalancing::RingHash {
        min_size: 1024,
        max_size: 8 << 20,
        hash: Vec::new(),
    }
}

struct Bench {
    balancer: Balancer,
    rng: Rng,
    now: Instant,
}

impl Bench {
    fn new(policy: LoadBalancing, endpoints: &[Endpoint]) -> Self {
        Self::with(policy, BalanceOptions::default(), endpoints)
    }

    fn with(policy: LoadBalancing, options: BalanceOptions, endpoints: &[Endpoint]) -> Self {
        let now = Instant::now();
        Self {
            balancer: Balancer::new(policy, options, endpoints, now),
            rng: Rng::with_seed(42),
            now,
        }
    }

    fn pick(&mut self, hash: Option<u64>, exclude: &[EndpointId]) -> Option<Arc<Member>> {
        self.balancer.pick(PickContext {
            hash,
            rng: &mut self.rng,
            now: self.now,
            exclude,
        })
    }

    /// Share of each endpoint in `picks`, by instance.
    fn shares(&mut self, picks: u32) -> HashMap<Arc<str>, f64> {
        let mut shares = HashMap::new();
        for _ in 0..picks {
            let picked = self.pick(None, &[]).expect("someone is healthy");
            let share = shares.entry(Arc::clone(&picked.endpoint().instance));
            *share.or_insert(0.0) += 1.0 / f64::from(picks);
        }
        shares
    }

    fn member(&self, instance: &str) -> Arc<Member> {
        let mut found = None;
        self.balancer.for_each(|member| {
            if &*member.endpoint().instance == instance {
                found = Some(Arc::clone(member));
            }
        });
        found.expect("the instance is listed")
    }
}

#[test]
fn shares_follow_weights() {
    let weighted: [(LoadBalancing, f64); 5] = [
        (LoadBalancing::RoundRobin, 0.001),
        (LoadBalancing::Random, 0.01),
        (LoadBalancing::LeastRequest { choices: 2 }, 0.01),
        // 1024 points leave some unevenness, as in Envoy.
        (ring(), 0.06),
        (LoadBalancing::Maglev { hash: Vec::new() }, 0.01),
    ];
    for weights in [&[1, 1, 1, 1][..], &[1, 2, 5], &[10, 1]] {
        for (policy, tolerance) in &weighted {
            let shares = Bench::new(policy.clone(), &healthy(weights)).shares(40_000);
            let total: u32 = weights.iter().sum();
            for (weight, host) in weights.iter().zip(0..) {
                let expected = f64::from(*weight) / f64::from(total);
                let actual = shares[format!("i-{host}").as_str()];
                assert!(
                    (expected - actual).abs() < *tolerance,
                    "{policy:?} {weights:?}: {actual} for {weight}"
                );
            }
        }
    }
}

#[test]
fn round_robin_spreads_a_heavy_member_between_light_ones() {
    let mut bench = Bench::new(LoadBalancing::RoundRobin, &healthy(&[2, 1, 1]));
    let picks: Vec<_> = (0..40)
        .map(|_| bench.pick(None, &[]).unwrap().endpoint().weight)
        .collect();
    let longest = picks.chunk_by(|a, b| a == b).map(<[u32]>::len).max();
    assert!(longest <= Some(3), "{picks:?}");
}

#[test]
fn nobody_unhealthy_or_ejected_is_picked() {
    let endpoints = [
        endpoint(0, 1, Health::Unhealthy),
        endpoint(1, 1, Health::Healthy),
        endpoint(2, 1, Health::Healthy),
    ];
    for policy in policies() {
        let mut bench = Bench::new(policy, &endpoints);
        let now = bench.now;
        bench
            .member("i-1")
            .stats()
            .eject(Duration::from_secs(30), now);
        let shares = bench.shares(200);
        assert_eq!(
            shares.keys().map(|name| &**name).collect::<Vec<_>>(),
            ["i-2"]
        );

        bench
            .member("i-2")
            .stats()
            .eject(Duration::from_secs(30), now);
        assert!(bench.pick(None, &[]).is_none());
        assert!(!bench.balancer.has_available(now, &[]));

        bench.now += Duration::from_secs(31);
        assert_eq!(bench.shares(200).len(), 2, "{:?}", bench.balancer.policy());
        assert!(bench.balancer.has_available(bench.now, &[]));
    }
}

#[test]
fn one_that_was_tried_is_not_available_and_one_that_recovered_is() {
    let endpoints = healthy(&[1]);
    let bench = Bench::new(LoadBalancing::RoundRobin, &endpoints);
    let lone = bench.member("i-0");
    let now = bench.now;
    assert!(!bench.balancer.has_available(now, &[lone.id()]));
    lone.stats().eject(Duration::from_secs(30), now);
    let checked = |health| bench.balancer.update(&[endpoint(0, 1, health)], now);
    checked(Health::Unhealthy);
    assert!(!bench.balancer.has_available(now, &[]));
    checked(Health::Healthy);
    assert!(
        bench.balancer.has_available(now, &[]),
        "a check has seen it since"
    );
    assert_eq!(bench.member("i-0").stats().ejections(), 1);
}

#[test]
fn the_last_one_standing_is_found_among_many() {
    for policy in policies() {
        let mut bench = Bench::new(policy, &healthy(&[1; 300]));
        let now = bench.now;
        bench.balancer.for_each(|member| {
            if &*member.endpoint().instance != "i-77" {
                member.stats().eject(Duration::from_secs(30), now);
            }
        });
        assert_eq!(bench.shares(20).len(), 1);
    }
}

#[test]
fn no_endpoints_means_no_pick() {
    for policy in policies() {
        assert!(Bench::new(policy.clone(), &[]).pick(Some(1), &[]).is_none());
        let unhealthy = [endpoint(0, 1, Health::Unhealthy)];
        assert!(Bench::new(policy, &unhealthy).pick(None, &[]).is_none());
    }
}

#[test]
fn panic_uses_everyone_where_it_is_asked_for() {
    let endpoints = [
        endpoint(0, 1, Health::Unhealthy),
        endpoint(1, 1, Health::Unhealthy),
        endpoint(2, 1, Health::Healthy),
    ];
    let options = BalanceOptions {
        panic_percent: 50,
        ..BalanceOptions::default()
    };
    for policy in policies() {
        let mut bench = Bench::with(policy.clone(), options, &endpoints);
        assert_eq!(bench.shares(500).len(), 3, "{policy:?}");

        let mut bench = Bench::with(policy, options, &endpoints[2..]);
        let now = bench.now;
        bench
            .member("i-2")
            .stats()
            .eject(Duration::from_secs(30), now);
        assert!(bench.pick(None, &[]).is_some());
    }
}

#[test]
fn tried_endpoints_come_last() {
    for policy in policies() {
        let mut bench = Bench::new(policy, &healthy(&[1, 1, 1]));
        let mut tried = Vec::new();
        for _ in 0..3 {
            let picked = bench.pick(Some(7), &tried).unwrap();
            assert!(!tried.contains(&picked.id()));
            tried.push(picked.id());
        }
        assert!(bench.pick(Some(7), &tried).is_some());
    }
}

#[test]
fn busy_endpoints_get_less() {
    for policy in [
        LoadBalancing::LeastRequest { choices: 2 },
        LoadBalancing::PeakEwma,
    ] {
        let mut bench = Bench::new(policy, &healthy(&[1, 1]));
        let busy = bench.member("i-0");
        let _requests: Vec<_> = (0..5).map(|_| busy.begin()).collect();
        let shares = bench.shares(1000);
        assert!(shares["i-1"] > 0.7, "{shares:?}");
    }
}

#[test]
fn slow_endpoints_get_less_by_latency() {
    let mut bench = Bench::new(LoadBalancing::PeakEwma, &healthy(&[1, 1]));
    let now = bench.now;
    bench
        .member("i-0")
        .stats()
        .observe(Duration::from_secs(1), now);
    assert!(bench.shares(1000)["i-1"] > 0.9);
}

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
fn ring_points_follow_size_and_weight() {
    let bench = |weights: &[u32]| Bench::new(ring(), &healthy(weights));
    for (weights, heavy) in [(&[1, 1][..], 0.5), (&[1, 3], 0.75)] {
        let share = bench(weights).shares(20_000)["i-1"];
        assert!((share - heavy).abs() < 0.05, "{weights:?}: {share}");
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

#[test]
fn many_threads_share_one_balancer() {
    let bench = Bench::new(LoadBalancing::RoundRobin, &healthy(&[1, 1, 1, 1]));
    let now = bench.now;
    std::thread::scope(|scope| {
        for seed in 0..4 {
            let balancer = &bench.balancer;
            scope.spawn(move || {
                let mut rng = Rng::with_seed(seed);
                for _ in 0..1000 {
                    let context = PickContext {
                        hash: None,
                        rng: &mut rng,
                        now,
                        exclude: &[],
                    };
                    let picked = balancer.pick(context).expect("all are healthy");
                    drop(picked.begin());
                }
            });
        }
    });
    bench.balancer.for_each(|member| {
        assert_eq!(member.stats().requests(), 1000);
        assert_eq!(member.stats().active(), 0);
    });
}
