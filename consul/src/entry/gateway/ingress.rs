//! `ingress-gateway`.

use serde::Deserialize;
use serde_json::Value;

use crate::chain::HeaderModifiers;
use crate::entry::{Entry, PassiveHealthCheck};
use crate::wire::nullable;

/// `ingress-gateway`: listeners with their services.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct IngressGatewayEntry {
    /// Server TLS of listeners without their own.
    #[serde(rename = "TLS", deserialize_with = "nullable")]
    pub tls: IngressTls,
    /// For services without their own.
    #[serde(deserialize_with = "nullable")]
    pub defaults: IngressLimits,
    /// Ports to open.
    #[serde(deserialize_with = "nullable")]
    pub listeners: Vec<IngressListener>,
}

impl Entry for IngressGatewayEntry {
    const KIND: &'static str = "ingress-gateway";
}

/// Server TLS of an ingress gateway.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct IngressTls {
    /// With the gateway's own leaf.
    pub enabled: bool,
    /// A certificate from an SDS server.
    #[serde(rename = "SDS")]
    pub sds: Value,
    /// Lowest version: `TLSv1_0` to `TLSv1_3`, `TLS_AUTO` or empty.
    #[serde(rename = "TLSMinVersion")]
    pub min_version: String,
    /// Highest version.
    #[serde(rename = "TLSMaxVersion")]
    pub max_version: String,
    /// Names of cipher suites; empty is every good one.
    #[serde(deserialize_with = "nullable")]
    pub cipher_suites: Vec<String>,
}

/// How a service behind an ingress gateway is called; 0 and `None` are not set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct IngressLimits {
    /// Open connections.
    #[serde(deserialize_with = "nullable")]
    pub max_connections: u32,
    /// Requests that wait for a connection.
    #[serde(deserialize_with = "nullable")]
    pub max_pending_requests: u32,
    /// Requests under way.
    #[serde(deserialize_with = "nullable")]
    pub max_concurrent_requests: u32,
    /// When an instance is taken out.
    #[serde(deserialize_with = "nullable")]
    pub passive_health_check: Option<PassiveHealthCheck>,
}

/// A listener of an ingress gateway.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct IngressListener {
    /// Port.
    pub port: u16,
    /// `tcp`, `http`, `http2` or `grpc`.
    pub protocol: String,
    /// Server TLS; `None` is the gateway's.
    #[serde(rename = "TLS", deserialize_with = "nullable")]
    pub tls: Option<IngressTls>,
    /// What is behind it.
    #[serde(deserialize_with = "nullable")]
    pub services: Vec<IngressService>,
}

/// A service behind an ingress gateway.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct IngressService {
    /// The service; `*` is every one of the listener's protocol.
    pub name: String,
    /// Host names; none is `<service>.ingress.*`.
    #[serde(deserialize_with = "nullable")]
    pub hosts: Vec<String>,
    /// A certificate of its own, from an SDS server.
    #[serde(rename = "TLS")]
    pub tls: Value,
    /// Changes to requests.
    #[serde(deserialize_with = "nullable")]
    pub request_headers: HeaderModifiers,
    /// Changes to responses.
    #[serde(deserialize_with = "nullable")]
    pub response_headers: HeaderModifiers,
    /// Caps, and when instances are taken out.
    #[serde(flatten)]
    pub limits: IngressLimits,
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn limits_stand_beside_the_name() {
        let read: IngressService = serde_json::from_value(json!({
            "Name": "web", "Hosts": null, "MaxConnections": 7, "MaxPendingRequests": null,
            "PassiveHealthCheck": {"MaxFailures": 2, "Interval": 1_000_000_000u64},
        }))
        .unwrap();
        assert_eq!(read.limits.max_connections, 7);
        assert_eq!(read.limits.max_pending_requests, 0);
        let check = read.limits.passive_health_check.unwrap();
        assert_eq!(check.max_failures, 2);
        assert_eq!(check.interval, Some(std::time::Duration::from_secs(1)));
    }
}
