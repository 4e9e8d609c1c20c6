//! Who may be picked at all, under every policy.

use super::*;

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
