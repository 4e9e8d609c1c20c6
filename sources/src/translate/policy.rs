//! Limits and passive health checking of an upstream, out of its free-form configuration.

use super::opaque::whole;
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
/// Go's text where an operator wrote them. Unset and zero fields have Envoy's defaults, except the enforced share, where zero counts.
pub(super) fn outlier(table: &Map<String, Value>) -> OutlierPolicy {
    let mut policy = OutlierPolicy::default();
    let read = |name, snake| field(table, name, snake);
    let positive = |name, snake| read(name, snake).filter(|n| *n > 0);
    let duration = |name, snake| {
        let nanos = positive(name, snake).map(Duration::from_nanos);
        nanos.or_else(|| consul::positive_duration(raw(table, name, snake)?.as_str()?))
    };
    if let Some(count) = positive("MaxFailures", "max_failures") {
        policy.consecutive_failures = u32::try_from(count).unwrap_or(u32::MAX);
    }
    if let Some(interval) = duration("Interval", "interval") {
        policy.interval = interval;
    }
    if let Some(length) = duration("BaseEjectionTime", "base_ejection_time") {
        policy.base_ejection = length;
        policy.max_ejection = policy.max_ejection.max(policy.base_ejection);
    }
    let percent = |n: u64| u8::try_from(n.min(100)).unwrap_or(100);
    if let Some(share) = positive("MaxEjectionPercent", "max_ejection_percent") {
        policy.max_ejected_percent = percent(share);
    }
    if let Some(share) = read("EnforcingConsecutive5xx", "enforcing_consecutive_5xx") {
        policy.enforcing_percent = percent(share);
    }
    policy
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
}
