//! Limits and passive health checking: of an upstream, out of its free-form configuration, and
//! behind an ingress gateway.

use super::opaque::whole;
use consul::entry::PassiveHealthCheck;
use meridian_model::policy::{CircuitLimits, OutlierPolicy};
use serde_json::{Map, Value};
use std::time::Duration;

/// Consul writes these keys in Go's case when merged, and takes them in snake case.
fn raw<'a>(table: &'a Map<String, Value>, name: &str, snake: &str) -> Option<&'a Value> {
    table.get(name).or_else(|| table.get(snake))
}

fn field(table: &Map<String, Value>, name: &str, snake: &str) -> Option<u64> {
    raw(table, name, snake).and_then(whole)
}

/// `limits` of an upstream; what is not set is not limited.
pub(super) fn limits(table: &Map<String, Value>) -> CircuitLimits {
    let read = |name, snake| field(table, name, snake).and_then(|n| u32::try_from(n).ok());
    CircuitLimits {
        connections: read("MaxConnections", "max_connections"),
        pending_requests: read("MaxPendingRequests", "max_pending_requests"),
        requests: read("MaxConcurrentRequests", "max_concurrent_requests"),
    }
}

/// `passive_health_check` of an upstream. Durations are nanoseconds where Consul merged them, and
/// Go's text where an operator wrote them. Unset and zero fields have Envoy's defaults, except the
/// enforced share, where zero counts.
pub(super) fn outlier(table: &Map<String, Value>) -> OutlierPolicy {
    let read = |name, snake| field(table, name, snake);
    let number = |name, snake| read(name, snake).map(|n| u32::try_from(n).unwrap_or(u32::MAX));
    let duration = |name, snake| {
        let nanos = read(name, snake).filter(|n| *n > 0);
        let nanos = nanos.map(Duration::from_nanos);
        nanos.or_else(|| consul::positive_duration(raw(table, name, snake)?.as_str()?))
    };
    let written = PassiveHealthCheck {
        interval: duration("Interval", "interval"),
        max_failures: number("MaxFailures", "max_failures").unwrap_or_default(),
        enforcing_consecutive_5xx: number("EnforcingConsecutive5xx", "enforcing_consecutive_5xx"),
        max_ejection_percent: number("MaxEjectionPercent", "max_ejection_percent"),
        base_ejection_time: duration("BaseEjectionTime", "base_ejection_time"),
    };
    let mut policy = OutlierPolicy::default();
    refine(&mut policy, &written, ZeroShare::Counts);
    policy
}

/// What an enforced share of zero says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ZeroShare {
    /// That no instance is ever left out: of an upstream.
    Counts,
    /// Nothing, it is as if it were not written: behind an ingress gateway.
    IsUnset,
}

/// Writes what is set over what is there. Other fields of zero are not set.
pub(crate) fn refine(policy: &mut OutlierPolicy, written: &PassiveHealthCheck, zero: ZeroShare) {
    if written.max_failures > 0 {
        policy.consecutive_failures = written.max_failures;
    }
    if let Some(interval) = written.interval {
        policy.interval = interval;
    }
    if let Some(time) = written.base_ejection_time {
        policy.base_ejection = time;
        policy.max_ejection = policy.max_ejection.max(time);
    }
    let percent = |share: u32| u8::try_from(share.min(100)).unwrap_or(100);
    if let Some(share) = written.max_ejection_percent.filter(|share| *share > 0) {
        policy.max_ejected_percent = percent(share);
    }
    let enforced = written.enforcing_consecutive_5xx;
    if let Some(share) = enforced.filter(|share| *share > 0 || zero == ZeroShare::Counts) {
        policy.enforcing_percent = percent(share);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(table: Value) -> OutlierPolicy {
        outlier(table.as_object().unwrap())
    }

    #[test]
    fn durations_are_read_as_merged_and_as_written() {
        let merged = read(json!({"Interval": 3_000_000_000_u64, "BaseEjectionTime": 4e9}));
        let written = read(json!({"interval": "3s", "base_ejection_time": "4s"}));
        assert_eq!(merged.interval, Duration::from_secs(3));
        assert_eq!(merged.base_ejection, Duration::from_secs(4));
        assert_eq!(written, merged);
    }

    #[test]
    fn nonsense_and_zero_are_the_default() {
        for table in [
            json!({"interval": "soon"}),
            json!({"interval": 0}),
            json!({"interval": "0s"}),
        ] {
            assert_eq!(read(table.clone()), OutlierPolicy::default(), "{table}");
        }
    }

    #[test]
    fn what_is_not_set_stays_as_it_was() {
        let mut policy = OutlierPolicy::default();
        let written = PassiveHealthCheck {
            max_failures: 2,
            interval: Some(Duration::from_secs(1)),
            ..PassiveHealthCheck::default()
        };
        refine(&mut policy, &written, ZeroShare::IsUnset);
        let own = PassiveHealthCheck {
            max_failures: 3,
            max_ejection_percent: Some(0),
            enforcing_consecutive_5xx: Some(0),
            base_ejection_time: Some(Duration::from_secs(600)),
            ..PassiveHealthCheck::default()
        };
        refine(&mut policy, &own, ZeroShare::IsUnset);
        let expected = OutlierPolicy {
            consecutive_failures: 3,
            interval: Duration::from_secs(1),
            base_ejection: Duration::from_secs(600),
            max_ejection: Duration::from_secs(600),
            ..OutlierPolicy::default()
        };
        assert_eq!(policy, expected);
        refine(&mut policy, &own, ZeroShare::Counts);
        assert_eq!(policy.enforcing_percent, 0);
    }
}
