//! `proxy-defaults` and `service-defaults`: what proxies of all services, and of one, do.

use std::{collections::BTreeMap, time::Duration};

use serde::Deserialize;
use serde_json::{Map, Value};

use super::Entry;
use crate::{
    agent::{Expose, MeshGateway, TransparentProxy},
    wire::{duration, nullable},
};

/// The `proxy-defaults` entry, as far as proxies read it.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ProxyDefaults {
    /// Always `global`.
    pub name: String,
    /// Free-form settings of all proxies: `protocol`, `local_connect_timeout_ms`, …
    #[serde(deserialize_with = "nullable")]
    pub config: Map<String, Value>,
    /// `transparent`, `direct` or empty.
    pub mode: String,
    /// Settings of transparent mode.
    #[serde(deserialize_with = "nullable")]
    pub transparent_proxy: Option<TransparentProxy>,
    /// `strict`, `permissive` or empty.
    #[serde(rename = "MutualTLSMode")]
    pub mutual_tls_mode: String,
    /// How remote datacenters are reached.
    #[serde(deserialize_with = "nullable")]
    pub mesh_gateway: MeshGateway,
    /// Paths reachable without mTLS.
    #[serde(deserialize_with = "nullable")]
    pub expose: Expose,
    /// Access logs, as written.
    pub access_logs: Value,
    /// Envoy extensions, as written.
    #[serde(deserialize_with = "nullable")]
    pub envoy_extensions: Vec<Value>,
    /// Metadata.
    #[serde(deserialize_with = "nullable")]
    pub meta: BTreeMap<String, String>,
    /// Raft index of its last change.
    pub modify_index: u64,
}

impl Entry for ProxyDefaults {
    const KIND: &'static str = "proxy-defaults";
}

/// A `service-defaults` entry, as far as proxies read it.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ServiceDefaults {
    /// The service.
    pub name: String,
    /// `tcp`, `http`, `http2`, `grpc`, or empty for the proxies' default.
    pub protocol: String,
    /// `transparent`, `direct` or empty.
    pub mode: String,
    /// Settings of transparent mode.
    #[serde(deserialize_with = "nullable")]
    pub transparent_proxy: Option<TransparentProxy>,
    /// `strict`, `permissive` or empty.
    #[serde(rename = "MutualTLSMode")]
    pub mutual_tls_mode: String,
    /// How remote datacenters are reached.
    #[serde(deserialize_with = "nullable")]
    pub mesh_gateway: MeshGateway,
    /// Paths reachable without mTLS.
    #[serde(deserialize_with = "nullable")]
    pub expose: Expose,
    /// SNI towards an external service.
    #[serde(rename = "ExternalSNI")]
    pub external_sni: String,
    /// Most connections that a proxy accepts; 0 is no bound.
    pub max_inbound_connections: u32,
    /// Milliseconds to connect to the instance; 0 is the default.
    #[serde(rename = "LocalConnectTimeoutMs", deserialize_with = "millis")]
    pub local_connect_timeout: Option<Duration>,
    /// Milliseconds for the instance to answer; 0 is the default.
    #[serde(rename = "LocalRequestTimeoutMs", deserialize_with = "millis")]
    pub local_request_timeout: Option<Duration>,
    /// How the service calls others.
    #[serde(deserialize_with = "nullable")]
    pub upstream_config: UpstreamConfig,
    /// Where a service lies that is in no catalog.
    #[serde(deserialize_with = "nullable")]
    pub destination: Option<Destination>,
    /// How much the service takes (Enterprise).
    #[serde(deserialize_with = "nullable")]
    pub rate_limits: RateLimits,
    /// Envoy extensions, as written.
    #[serde(deserialize_with = "nullable")]
    pub envoy_extensions: Vec<Value>,
    /// Metadata.
    #[serde(deserialize_with = "nullable")]
    pub meta: BTreeMap<String, String>,
    /// Raft index of its last change.
    pub modify_index: u64,
}

impl Entry for ServiceDefaults {
    const KIND: &'static str = "service-defaults";
}

/// Where a service lies that is in no catalog.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Destination {
    /// Host names or addresses.
    #[serde(deserialize_with = "nullable")]
    pub addresses: Vec<String>,
    /// Port of all of them.
    pub port: u16,
}

/// How a service calls others.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct UpstreamConfig {
    /// All of them.
    #[serde(deserialize_with = "nullable")]
    pub defaults: Option<UpstreamSettings>,
    /// Some of them, by name.
    #[serde(deserialize_with = "nullable")]
    pub overrides: Vec<UpstreamSettings>,
}

/// Settings of calls to one upstream.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct UpstreamSettings {
    /// The upstream; empty among the defaults.
    pub name: String,
    /// Its namespace (Enterprise).
    pub namespace: String,
    /// Its admin partition (Enterprise).
    pub partition: String,
    /// The cluster peer that exports it.
    pub peer: String,
    /// Its protocol.
    pub protocol: String,
    /// Milliseconds to connect; 0 is the default.
    #[serde(rename = "ConnectTimeoutMs", deserialize_with = "millis")]
    pub connect_timeout: Option<Duration>,
    /// Bounds.
    #[serde(deserialize_with = "nullable")]
    pub limits: Option<Limits>,
    /// When an instance is taken out.
    #[serde(deserialize_with = "nullable")]
    pub passive_health_check: Option<PassiveHealthCheck>,
    /// How remote datacenters are reached.
    #[serde(deserialize_with = "nullable")]
    pub mesh_gateway: MeshGateway,
}

/// Bounds of calls to one upstream; `None` is the proxy's default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Limits {
    /// Connections.
    pub max_connections: Option<u32>,
    /// Requests waiting for a connection.
    pub max_pending_requests: Option<u32>,
    /// Requests at the same time.
    pub max_concurrent_requests: Option<u32>,
}

/// When an instance is taken out for failing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct PassiveHealthCheck {
    /// Time between two looks at the counters.
    #[serde(rename = "Interval", deserialize_with = "duration")]
    pub interval: Option<Duration>,
    /// Failures in a row; 0 is the default.
    #[serde(rename = "MaxFailures")]
    pub max_failures: u32,
    /// Percent of cases in which it is really taken out.
    #[serde(rename = "EnforcingConsecutive5xx")]
    pub enforcing_consecutive_5xx: Option<u32>,
    /// Percent of instances that may be out.
    #[serde(rename = "MaxEjectionPercent")]
    pub max_ejection_percent: Option<u32>,
    /// Time out, times the number of times.
    #[serde(rename = "BaseEjectionTime", deserialize_with = "duration")]
    pub base_ejection_time: Option<Duration>,
}

/// How much a service takes.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct RateLimits {
    /// Per instance.
    #[serde(deserialize_with = "nullable")]
    pub instance_level: Option<InstanceLimits>,
}

/// How much one instance takes.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct InstanceLimits {
    /// Requests per second; 0 is no bound.
    pub requests_per_second: u32,
    /// Requests at once; 0 is as many as per second.
    pub requests_max_burst: u32,
    /// Bounds of some paths, first match first, instead of the above.
    #[serde(deserialize_with = "nullable")]
    pub routes: Vec<RouteLimit>,
}

/// How many requests for some paths one instance takes; one of the paths is set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct RouteLimit {
    /// The whole path.
    pub path_exact: String,
    /// The path's start.
    pub path_prefix: String,
    /// A regular expression over the path.
    pub path_regex: String,
    /// Requests per second.
    pub requests_per_second: u32,
    /// Requests at once; 0 is as many as per second.
    pub requests_max_burst: u32,
}

/// Milliseconds; zero and below are unset.
fn millis<'de, D: serde::Deserializer<'de>>(d: D) -> Result<Option<Duration>, D::Error> {
    let millis = Option::<i64>::deserialize(d)?.unwrap_or_default();
    Ok(u64::try_from(millis)
        .ok()
        .filter(|n| *n > 0)
        .map(Duration::from_millis))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn service_defaults_are_read() {
        let entry: ServiceDefaults = serde_json::from_str(
            r#"{"Kind": "service-defaults", "Name": "web", "Protocol": "http",
                "LocalConnectTimeoutMs": 1500, "MeshGateway": {}, "Expose": {},
                "UpstreamConfig": {"Defaults": {"Limits": {"MaxConnections": 3},
                    "PassiveHealthCheck": {"Interval": 2000000000, "BaseEjectionTime": "30s"}}},
                "CreateIndex": 5, "ModifyIndex": 6}"#,
        )
        .unwrap();
        assert_eq!(
            entry.local_connect_timeout,
            Some(Duration::from_millis(1_500))
        );
        let defaults = entry.upstream_config.defaults.unwrap();
        assert_eq!(defaults.limits.unwrap().max_connections, Some(3));
        let check = defaults.passive_health_check.unwrap();
        assert_eq!(check.interval, Some(Duration::from_secs(2)));
        assert_eq!(check.base_ejection_time, Some(Duration::from_secs(30)));
    }
}
