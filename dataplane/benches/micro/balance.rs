//! Choosing an endpoint, and taking in that one of them changed.

use criterion::{BatchSize, BenchmarkId, Criterion};
use meridian_dataplane::balance::{BalanceOptions, Balancer, PickContext};
use meridian_model::policy::LoadBalancing;
use meridian_model::{Endpoint, EndpointAddress, Health};
use std::hint::black_box;
use std::net::Ipv4Addr;
use std::time::Instant;

const SIZES: [usize; 3] = [10, 1_000, 100_000];

fn policies() -> [(&'static str, LoadBalancing); 6] {
    [
        ("round robin", LoadBalancing::RoundRobin),
        ("random", LoadBalancing::Random),
        ("least request", LoadBalancing::LeastRequest { choices: 2 }),
        (
            "ring hash",
            LoadBalancing::RingHash {
                min_size: 1024,
                max_size: 8 << 20,
                hash: Vec::new(),
            },
        ),
        ("maglev", LoadBalancing::Maglev { hash: Vec::new() }),
        ("peak ewma", LoadBalancing::PeakEwma),
    ]
}

pub(crate) fn pick(criterion: &mut Criterion) {
    for (name, policy) in policies() {
        let mut group = criterion.benchmark_group(format!("pick, {name}"));
        for size in SIZES {
            let balancer = balancer(&policy, &endpoints(size));
            let mut rng = fastrand::Rng::with_seed(7);
            let now = Instant::now();
            group.bench_function(BenchmarkId::from_parameter(size), |bencher| {
                bencher.iter(|| {
                    let hash = Some(rng.u64(..));
                    balancer.pick(PickContext {
                        hash,
                        rng: &mut rng,
                        now,
                        exclude: black_box(&[]),
                    })
                });
            });
        }
    }
}

/// One endpoint turns unhealthy and back.
pub(crate) fn update(criterion: &mut Criterion) {
    for (name, policy) in policies() {
        let mut group = criterion.benchmark_group(format!("one endpoint changes, {name}"));
        group.sample_size(10);
        for size in SIZES {
            let healthy = endpoints(size);
            let mut sick = healthy.clone();
            sick[size / 2].health = Health::Unhealthy;
            let balancer = balancer(&policy, &healthy);
            let mut turn = [&sick, &healthy].into_iter().cycle();
            group.bench_function(BenchmarkId::from_parameter(size), |bencher| {
                bencher.iter_batched(
                    || turn.next().unwrap(),
                    |endpoints| balancer.update(endpoints, Instant::now()),
                    BatchSize::PerIteration,
                );
            });
        }
    }
}

fn balancer(policy: &LoadBalancing, endpoints: &[Endpoint]) -> Balancer {
    let options = BalanceOptions::default();
    Balancer::new(policy.clone(), options, endpoints, Instant::now())
}

pub(crate) fn endpoints(count: usize) -> Vec<Endpoint> {
    (0_u32..)
        .take(count)
        .map(|number| Endpoint {
            address: EndpointAddress::Tcp((Ipv4Addr::from_bits(0x0a00_0000 + number), 80).into()),
            weight: 1,
            health: Health::Healthy,
            instance: format!("instance-{number}").into(),
        })
        .collect()
}
