//! Balancers at work: what the tests stand on, and how picks are distributed.

mod availability;
mod updates;

use super::*;
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
fn ring_points_follow_size_and_weight() {
    let bench = |weights: &[u32]| Bench::new(ring(), &healthy(weights));
    for (weights, heavy) in [(&[1, 1][..], 0.5), (&[1, 3], 0.75)] {
        let share = bench(weights).shares(20_000)["i-1"];
        assert!((share - heavy).abs() < 0.05, "{weights:?}: {share}");
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
