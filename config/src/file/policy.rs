//! Backend policies: balancing, limits and health.

use super::{Duration, Name, Percentage};
use meridian_model::policy::OutlierPolicy;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Settings for some backends. Where several policies hold for a backend,
/// each setting is taken from the one that names the backend, before `*`.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BackendPolicy {
    /// Unique name, for error messages.
    pub name: Name,
    /// Backends it holds for.
    #[schemars(length(min = 1))]
    pub targets: Vec<PolicyTarget>,
    /// How an endpoint is chosen. In turn, if absent.
    pub load_balancing: Option<LoadBalancing>,
    /// TCP connect and TLS handshake together. 5s, if absent.
    pub connect_timeout: Option<Duration>,
    /// How long an unused connection is kept. 1m, if absent.
    pub idle_timeout: Option<Duration>,
    /// Caps on connections and requests.
    pub circuit_breaker: Option<CircuitBreaker>,
    /// Leaves out endpoints that fail. Off, if absent.
    pub passive_health: Option<PassiveHealth>,
}

/// What a policy holds for.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PolicyTarget {
    /// Kind of the target.
    #[serde(default)]
    pub kind: TargetKind,
    /// Name of a backend, or `*` for all of them.
    pub name: String,
}

/// Kind of a policy's target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
pub enum TargetKind {
    /// A backend.
    #[default]
    Backend,
}

/// How an endpoint is chosen.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LoadBalancing {
    /// The way of choosing.
    #[serde(rename = "type")]
    pub kind: LoadBalancingType,
    /// How many endpoints `LeastRequest` draws. 2, if absent.
    #[schemars(range(min = 2, max = 100))]
    pub choices: Option<u32>,
}

/// Way of choosing an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum LoadBalancingType {
    /// In turn, by weight.
    RoundRobin,
    /// By chance, by weight.
    Random,
    /// The least busy of some drawn ones.
    LeastRequest,
    /// The lowest moving average of latency times requests under way, of two drawn.
    PeakEwma,
}

/// Caps on connections and requests. One more is answered 503 at once.
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CircuitBreaker {
    /// Connections. 1024, if absent.
    #[schemars(range(min = 1))]
    pub max_connections: Option<u32>,
    /// Requests that wait for a connection. 1024, if absent.
    #[schemars(range(min = 1))]
    pub max_pending: Option<u32>,
    /// Requests under way. 1024, if absent.
    #[schemars(range(min = 1))]
    pub max_requests: Option<u32>,
}

/// Leaves out endpoints that fail for a while.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub struct PassiveHealth {
    /// Failures in a row: 5xx, resets, timeouts, refused connections.
    #[schemars(range(min = 1))]
    pub consecutive_errors: u32,
    /// How often it is looked whether an endpoint may come back.
    pub interval: Duration,
    /// First time that an endpoint is left out; it grows with each further one.
    pub eject_for: Duration,
    /// Longest time that an endpoint is left out.
    pub max_eject_for: Duration,
    /// Share of the endpoints that may be left out at once; one always may.
    pub max_ejected: Percentage,
}

impl Default for PassiveHealth {
    fn default() -> Self {
        let policy = OutlierPolicy::default();
        Self {
            consecutive_errors: policy.consecutive_failures,
            interval: Duration(policy.interval),
            eject_for: Duration(policy.base_ejection),
            max_eject_for: Duration(policy.max_ejection),
            max_ejected: Percentage(policy.max_ejected_percent),
        }
    }
}
