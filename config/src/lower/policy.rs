//! Backend policies: which settings hold for which backend.

use super::context::{Context, Names};
use crate::file::{
    self, BackendPolicy, CircuitBreaker, GatewayFile, LoadBalancingType, PassiveHealth,
};
use crate::path::Path;
use meridian_model::Cluster;
use meridian_model::policy::{CircuitLimits, LoadBalancing, OutlierPolicy};
use std::time::Duration;

/// The settings that hold for one backend; `None` leaves the cluster's default.
#[derive(Debug, Clone, Default)]
pub(super) struct Settings {
    balancing: Option<LoadBalancing>,
    connect_timeout: Option<Duration>,
    idle_timeout: Option<Duration>,
    limits: Option<CircuitLimits>,
    outlier: Option<OutlierPolicy>,
}

impl Settings {
    /// Writes them into a cluster.
    pub(super) fn apply(self, cluster: &mut Cluster) {
        let Self {
            balancing,
            connect_timeout,
            idle_timeout,
            limits,
            outlier,
        } = self;
        cluster.balancing = balancing.unwrap_or_default();
        cluster.connect_timeout = connect_timeout.unwrap_or(cluster.connect_timeout);
        cluster.idle_timeout = idle_timeout.unwrap_or(cluster.idle_timeout);
        cluster.limits = limits.unwrap_or_default();
        cluster.outlier = outlier;
    }

    fn or(self, general: &Self) -> Self {
        Self {
            balancing: self.balancing.or_else(|| general.balancing.clone()),
            connect_timeout: self.connect_timeout.or(general.connect_timeout),
            idle_timeout: self.idle_timeout.or(general.idle_timeout),
            limits: self.limits.or(general.limits),
            outlier: self.outlier.or(general.outlier),
        }
    }

    /// The first key that both set.
    fn clash(&self, other: &Self) -> Option<&'static str> {
        let both = [
            (
                "loadBalancing",
                self.balancing.is_some() && other.balancing.is_some(),
            ),
            (
                "connectTimeout",
                self.connect_timeout.is_some() && other.connect_timeout.is_some(),
            ),
            (
                "idleTimeout",
                self.idle_timeout.is_some() && other.idle_timeout.is_some(),
            ),
            (
                "circuitBreaker",
                self.limits.is_some() && other.limits.is_some(),
            ),
            (
                "passiveHealth",
                self.outlier.is_some() && other.outlier.is_some(),
            ),
        ];
        both.into_iter()
            .find(|(_, clash)| *clash)
            .map(|(key, _)| key)
    }
}

/// The settings of each backend, in order.
pub(super) fn lower(
    file: &GatewayFile,
    backends: &Names<'_>,
    cx: &mut Context<'_>,
) -> Vec<Settings> {
    let list = Path::default().key("backendPolicies");
    // Policies are not referred to: only two alike are of interest.
    cx.names(
        "policy",
        &list,
        file.backend_policies.iter().map(|p| p.name.0.as_str()),
    );

    let mut general = Settings::default();
    let mut particular = vec![Settings::default(); file.backends.len()];
    for (index, policy) in file.backend_policies.iter().enumerate() {
        let path = list.index(index);
        let settings = one(policy, cx, &path);
        for (position, target) in policy.targets.iter().enumerate() {
            let path = path.key("targets").index(position).key("name");
            let held = match target.name.as_str() {
                "*" => Some(&mut general),
                name => cx
                    .find(backends, name, &path)
                    .and_then(|backend| particular.get_mut(backend)),
            };
            let Some(held) = held else { continue };
            if let Some(key) = held.clash(&settings) {
                let message = format!("an earlier policy sets {key} for {:?} already", target.name);
                cx.error(&path, message);
            }
            *held = std::mem::take(held).or(&settings);
        }
    }
    particular.into_iter().map(|p| p.or(&general)).collect()
}

fn one(policy: &BackendPolicy, cx: &mut Context<'_>, path: &Path) -> Settings {
    let health = path.key("passiveHealth");
    Settings {
        balancing: policy
            .load_balancing
            .as_ref()
            .map(|written| balancing(written, cx, &path.key("loadBalancing"))),
        connect_timeout: policy
            .connect_timeout
            .as_ref()
            .map(|timeout| positive(timeout, cx, &path.key("connectTimeout"))),
        idle_timeout: policy.idle_timeout.as_ref().map(|timeout| timeout.0),
        limits: policy.circuit_breaker.as_ref().map(circuit),
        outlier: policy
            .passive_health
            .as_ref()
            .map(|written| outlier(written, cx, &health)),
    }
}

fn balancing(written: &file::LoadBalancing, cx: &mut Context<'_>, path: &Path) -> LoadBalancing {
    let draws = written.kind == LoadBalancingType::LeastRequest;
    if written.choices.is_some() && !draws && cx.sound(&path.key("type")) {
        cx.error(&path.key("choices"), "only LeastRequest draws endpoints");
    }
    match written.kind {
        LoadBalancingType::RoundRobin => LoadBalancing::RoundRobin,
        LoadBalancingType::Random => LoadBalancing::Random,
        LoadBalancingType::LeastRequest => LoadBalancing::LeastRequest {
            choices: written.choices.unwrap_or(LEAST_REQUEST_CHOICES),
        },
        LoadBalancingType::PeakEwma => LoadBalancing::PeakEwma,
    }
}

/// Envoy's; more choices send a herd to the one that is idle.
const LEAST_REQUEST_CHOICES: u32 = 2;

fn circuit(written: &CircuitBreaker) -> CircuitLimits {
    CircuitLimits {
        connections: written.max_connections,
        pending_requests: written.max_pending,
        requests: written.max_requests,
    }
}

fn outlier(written: &PassiveHealth, cx: &mut Context<'_>, path: &Path) -> OutlierPolicy {
    if written.max_eject_for.0 < written.eject_for.0 {
        let message = "expected maxEjectFor to be at least ejectFor";
        cx.error(path, message);
    }
    OutlierPolicy {
        consecutive_failures: written.consecutive_errors,
        interval: positive(&written.interval, cx, &path.key("interval")),
        base_ejection: positive(&written.eject_for, cx, &path.key("ejectFor")),
        max_ejection: written.max_eject_for.0,
        max_ejected_percent: written.max_ejected.0,
        ..OutlierPolicy::default()
    }
}

fn positive(duration: &file::Duration, cx: &mut Context<'_>, path: &Path) -> Duration {
    if duration.0.is_zero() {
        cx.error(path, "expected more than 0s");
    }
    duration.0
}
