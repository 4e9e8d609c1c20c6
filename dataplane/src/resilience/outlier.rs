//! Leaving failing endpoints out for a while (Envoy's outlier detection by
//! consecutive failures, Consul's `PassiveHealthCheck`).

use crate::balance::{Balancer, EndpointStats, Member};
use fastrand::Rng;
use meridian_model::Health;
use meridian_model::policy::OutlierPolicy;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Watches the endpoints of one [`Balancer`].
#[derive(Debug)]
pub struct Outlier {
    policy: OutlierPolicy,
    /// Held while an ejection is decided, so that two threads cannot both use
    /// up the last permitted one. Only a threshold that is reached takes it.
    deciding: Mutex<()>,
}

/// How a request to an endpoint ended, as far as its health goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It answered, and not with a server error.
    Success,
    /// It broke off, took too long, or answered 5xx.
    Failure,
    /// It could not be reached, or was not who it should be.
    Unreachable,
}

/// One outcome.
#[derive(Clone, Copy)]
pub struct Report<'a> {
    /// The balancer that chose the endpoint.
    pub balancer: &'a Balancer,
    /// The endpoint.
    pub member: &'a Member,
    /// How it went.
    pub outcome: Outcome,
    /// Whether another target of the failover order could take over. Asked only where an ejection
    /// depends on it.
    pub relieved: &'a dyn Fn() -> bool,
}

impl Outcome {
    /// What an answer with this status says.
    pub fn of_status(status: u16) -> Self {
        match status {
            500..=599 => Self::Failure,
            _ => Self::Success,
        }
    }
}

/// An endpoint was just ejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ejection {
    /// For how long.
    pub length: Duration,
    /// Failures in a row that led to it.
    pub failures: u32,
}

impl Outlier {
    /// A detector with nothing seen.
    pub fn new(policy: OutlierPolicy) -> Self {
        Self {
            policy,
            deciding: Mutex::new(()),
        }
    }

    /// How often [`Outlier::sweep`] wants to be called.
    pub fn interval(&self) -> Duration {
        self.policy.interval
    }

    /// Takes note of one outcome. Says so if the endpoint was ejected for it,
    /// for the log and the metric.
    pub fn report(&self, report: &Report<'_>, now: Instant, rng: &mut Rng) -> Option<Ejection> {
        let stats = report.member.stats();
        // Answers to requests from before an ejection say nothing new.
        if stats.ejected_for(now).is_some() {
            return None;
        }
        if report.outcome == Outcome::Success {
            stats.count_success();
            return None;
        }
        let failures = stats.count_failure();
        if failures < self.policy.consecutive_failures {
            return None;
        }
        stats.forget_failures();
        let enforced = rng.u8(0..100) < self.policy.enforcing_percent;
        if !enforced {
            return None;
        }
        let length = self.eject(report, stats, now)?;
        Some(Ejection { length, failures })
    }

    /// Forgives endpoints that stayed in service one of their past ejections,
    /// so that the next one is shorter. Call it every [`Outlier::interval`].
    /// An ejection ends by time alone and does not wait for this.
    pub fn sweep(&self, balancer: &Balancer, now: Instant) {
        balancer.for_each(|member| {
            if member.stats().ejected_for(now).is_none() {
                member.stats().forgive();
            }
        });
    }

    fn eject(&self, report: &Report<'_>, stats: &EndpointStats, now: Instant) -> Option<Duration> {
        let _one_at_a_time = self.deciding.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.may_eject_one_more(report, now) {
            return None;
        }
        let times = stats.ejections().saturating_add(1);
        let longest = self.policy.max_ejection.max(self.policy.base_ejection);
        let length = self.policy.base_ejection.saturating_mul(times).min(longest);
        stats.eject(length, now);
        Some(length)
    }

    /// The percentage is checked with the new ejection counted in, as Envoy
    /// does. Below that one endpoint may still go (10 % of a small service is
    /// nobody), but only where another stays, or another target takes over:
    /// without that exception a lone instance that answers five errors would be
    /// cut off for half a minute. Where a target takes over, all that cannot be
    /// reached may go: a datacenter that is cut off must not be tried for ever.
    /// 0 % ejects nobody.
    fn may_eject_one_more(&self, report: &Report<'_>, now: Instant) -> bool {
        let percent = u64::from(self.policy.max_ejected_percent);
        let (mut all, mut ejected, mut available) = (0_u64, 0_u64, 0_u64);
        report.balancer.for_each(|member: &Arc<Member>| {
            let is_ejected = member.stats().ejected_for(now).is_some();
            let is_healthy = member.endpoint().health == Health::Healthy;
            all += 1;
            ejected += u64::from(is_ejected);
            available += u64::from(is_healthy && !is_ejected);
        });
        if percent == 0 {
            return false;
        }
        let within = (ejected + 1) * 100 <= all * percent;
        let first = ejected == 0;
        within
            || (first && available > 1)
            || ((first || report.outcome == Outcome::Unreachable) && (report.relieved)())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::balance::BalanceOptions;
    use meridian_model::policy::LoadBalancing;
    use meridian_model::{Endpoint, EndpointAddress};

    struct Bench {
        relieved: bool,
        outlier: Outlier,
        balancer: Balancer,
        members: Vec<Arc<Member>>,
        rng: Rng,
        now: Instant,
    }

    impl Bench {
        fn new(policy: OutlierPolicy, count: u16) -> Self {
            let endpoints: Vec<_> = (0..count)
                .map(|port| Endpoint {
                    address: EndpointAddress::Tcp(([127, 0, 0, 1], port).into()),
                    weight: 1,
                    health: Health::Healthy,
                    instance: "i".into(),
                })
                .collect();
            let now = Instant::now();
            let options = BalanceOptions::default();
            let balancer = Balancer::new(LoadBalancing::RoundRobin, options, &endpoints, now);
            let mut members = Vec::new();
            balancer.for_each(|member| members.push(Arc::clone(member)));
            Self {
                relieved: false,
                outlier: Outlier::new(policy),
                balancer,
                members,
                rng: Rng::with_seed(1),
                now,
            }
        }

        fn report(&mut self, member: usize, outcome: Outcome) -> Option<Ejection> {
            let Self {
                relieved,
                outlier,
                balancer,
                members,
                rng,
                now,
            } = self;
            let report = Report {
                balancer,
                member: &members[member],
                outcome,
                relieved: &|| *relieved,
            };
            outlier.report(&report, *now, rng)
        }

        /// Fails until ejected; at most so often as the threshold says.
        fn fail(&mut self, member: usize) -> Option<Duration> {
            self.fail_by(member, Outcome::Failure)
        }

        fn fail_by(&mut self, member: usize, outcome: Outcome) -> Option<Duration> {
            let threshold = self.outlier.policy.consecutive_failures;
            (0..threshold)
                .find_map(|_| self.report(member, outcome))
                .map(|ejection| ejection.length)
        }

        fn pass(&mut self, seconds: u64) {
            self.now += Duration::from_secs(seconds);
        }
    }

    fn all_may_go() -> OutlierPolicy {
        OutlierPolicy {
            max_ejected_percent: 100,
            ..OutlierPolicy::default()
        }
    }

    #[test]
    fn the_threshold_ejects_and_not_one_failure_before() {
        let mut bench = Bench::new(all_may_go(), 2);
        for _ in 0..4 {
            assert_eq!(bench.report(0, Outcome::Failure), None);
        }
        let ejection = bench.report(0, Outcome::Failure).unwrap();
        assert_eq!(ejection.length, Duration::from_secs(30));
        assert_eq!(ejection.failures, 5);
        assert!(bench.members[0].stats().ejected_for(bench.now).is_some());
        assert!(bench.members[1].stats().ejected_for(bench.now).is_none());
    }

    #[test]
    fn a_success_starts_the_count_anew() {
        let mut bench = Bench::new(all_may_go(), 1);
        for _ in 0..10 {
            for _ in 0..4 {
                assert_eq!(bench.report(0, Outcome::Failure), None);
            }
            bench.report(0, Outcome::Success);
        }
    }

    #[test]
    fn late_answers_of_an_ejected_endpoint_do_not_count() {
        let mut bench = Bench::new(all_may_go(), 1);
        assert!(bench.fail(0).is_some());
        assert!(bench.fail(0).is_none());
        bench.pass(31);
        assert_eq!(bench.members[0].stats().consecutive_failures(), 0);
    }

    #[test]
    fn ejections_grow_to_a_limit_and_good_behaviour_shortens_them() {
        let mut bench = Bench::new(all_may_go(), 1);
        let mut lengths = Vec::new();
        for _ in 0..12 {
            let length = bench.fail(0).unwrap().as_secs();
            lengths.push(length);
            bench.pass(length);
        }
        assert_eq!(
            lengths,
            [30, 60, 90, 120, 150, 180, 210, 240, 270, 300, 300, 300]
        );
        for _ in 0..11 {
            bench.outlier.sweep(&bench.balancer, bench.now);
        }
        assert_eq!(bench.fail(0), Some(Duration::from_secs(60)));
    }

    #[test]
    fn a_sweep_during_an_ejection_forgives_nothing() {
        let mut bench = Bench::new(all_may_go(), 1);
        bench.fail(0);
        bench.outlier.sweep(&bench.balancer, bench.now);
        assert_eq!(bench.members[0].stats().ejections(), 1);
    }

    #[test]
    fn only_so_many_are_ejected_and_a_lone_one_stays() {
        let cases = [
            (1, 10, 0),
            (1, 100, 1),
            (2, 10, 1),
            (5, 10, 1),
            (20, 10, 2),
            (4, 50, 2),
            (3, 100, 3),
            (3, 0, 0),
        ];
        for (count, percent, expected) in cases {
            let policy = OutlierPolicy {
                max_ejected_percent: percent,
                ..OutlierPolicy::default()
            };
            let mut bench = Bench::new(policy, count);
            let ejected = (0..usize::from(count))
                .filter(|member| bench.fail(*member).is_some())
                .count();
            assert_eq!(ejected, expected, "{percent} % of {count}");
        }
    }

    #[test]
    fn where_another_target_takes_over_all_that_cannot_be_reached_may_go() {
        let cases = [
            (1, 10, Outcome::Unreachable, 1),
            (3, 10, Outcome::Unreachable, 3),
            (3, 0, Outcome::Unreachable, 0),
            (1, 10, Outcome::Failure, 1),
            (3, 10, Outcome::Failure, 1),
        ];
        for (count, percent, outcome, expected) in cases {
            let policy = OutlierPolicy {
                max_ejected_percent: percent,
                ..OutlierPolicy::default()
            };
            let mut bench = Bench::new(policy, count);
            bench.relieved = true;
            let ejected = (0..usize::from(count))
                .filter(|member| bench.fail_by(*member, outcome).is_some())
                .count();
            assert_eq!(ejected, expected, "{outcome:?}: {percent} % of {count}");
        }
    }

    #[test]
    fn enforcement_is_by_chance() {
        for (percent, expected) in [(0, 0..=0), (100, 1000..=1000), (30, 240..=360)] {
            let policy = OutlierPolicy {
                enforcing_percent: percent,
                ..all_may_go()
            };
            let mut bench = Bench::new(policy, 1);
            let ejected = (0..1000)
                .filter(|_| {
                    bench.pass(1000);
                    bench.fail(0).is_some()
                })
                .count();
            assert!(expected.contains(&ejected), "{percent} %: {ejected}");
        }
    }

    #[test]
    fn server_errors_are_failures() {
        for (status, outcome) in [
            (200, Outcome::Success),
            (404, Outcome::Success),
            (429, Outcome::Success),
            (500, Outcome::Failure),
            (503, Outcome::Failure),
        ] {
            assert_eq!(Outcome::of_status(status), outcome);
        }
    }
}
