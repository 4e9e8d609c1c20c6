//! Instances of a service with their checks: what a proxy makes endpoints of.
//!
//! A proxy keeps thousands of them for as long as it runs, so no more is read than it takes to
//! call one and to judge it. Tags and metadata are for Consul's filters.

use serde::{Deserialize, Deserializer};

use crate::{
    agent::{ServiceKind, TaggedAddress, Weights},
    call::Call,
    client::Client,
    query::Query,
    wire::{exact, nullable},
};

impl Client {
    /// Instances of `service` that speak Connect: its proxies, and instances that speak mTLS
    /// themselves (`GET /v1/health/connect/:service`). Blocks. An unknown service is an empty
    /// list.
    #[must_use]
    pub fn health_connect(&self, service: &str) -> Query<Vec<ServiceEntry>> {
        let path = ["v1", "health", "connect", service];
        Query::decoded(self, Call::get("list mesh instances", path), list)
    }

    /// Instances of `service` itself (`GET /v1/health/service/:service`). Blocks. An unknown
    /// service is an empty list.
    #[must_use]
    pub fn health_service(&self, service: &str) -> Query<Vec<ServiceEntry>> {
        let path = ["v1", "health", "service", service];
        Query::decoded(self, Call::get("list instances", path), list)
    }
}

/// A list without room for more.
fn list(body: &[u8]) -> serde_json::Result<Vec<ServiceEntry>> {
    let mut list: Vec<_> = serde_json::from_slice(body)?;
    list.shrink_to_fit();
    Ok(list)
}

/// One instance, its node, and the checks of both.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ServiceEntry {
    /// The node.
    pub node: InstanceNode,
    /// The instance.
    pub service: ServiceInstance,
    /// Checks of the instance and of its node.
    #[serde(deserialize_with = "exact")]
    pub checks: Vec<Check>,
}

impl ServiceEntry {
    /// The address to dial within the datacenter: the instance's, or else its node's.
    #[must_use]
    pub fn address(&self) -> &str {
        if self.service.address.is_empty() {
            &self.node.address
        } else {
            &self.service.address
        }
    }

    /// The worst of all checks; [`CheckStatus::Passing`] without any.
    #[must_use]
    pub fn status(&self) -> CheckStatus {
        self.checks
            .iter()
            .map(|check| check.status)
            .max()
            .unwrap_or(CheckStatus::Passing)
    }
}

/// Where an instance runs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct InstanceNode {
    /// Its name.
    pub node: String,
    /// Its address.
    pub address: String,
    /// Its datacenter.
    pub datacenter: String,
    /// Its other addresses.
    #[serde(deserialize_with = "nullable")]
    pub tagged_addresses: OtherAddresses<String>,
}

/// One instance of a service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ServiceInstance {
    /// What it is.
    pub kind: ServiceKind,
    /// Its ID, unique to the node's agent.
    #[serde(rename = "ID")]
    pub id: String,
    /// Its name.
    pub service: String,
    /// Its address; empty is the node's.
    pub address: String,
    /// Its port.
    pub port: u16,
    /// Its unix socket, instead of address and port.
    pub socket_path: String,
    /// Its other addresses.
    #[serde(deserialize_with = "nullable")]
    pub tagged_addresses: OtherAddresses<TaggedAddress>,
    /// Its weights.
    #[serde(deserialize_with = "nullable")]
    pub weights: Weights,
    /// Whom it stands for, where it is a proxy.
    #[serde(deserialize_with = "nullable")]
    pub proxy: StandsFor,
    /// The namespace (Enterprise), else empty.
    pub namespace: String,
    /// The admin partition (Enterprise), else empty.
    pub partition: String,
}

impl ServiceInstance {
    /// The service that it is, or whose sidecar it is.
    #[must_use]
    pub fn stands_for(&self) -> &str {
        match (&self.kind, self.proxy.destination_service_name.as_str()) {
            (_, "") => &self.service,
            (ServiceKind::ConnectProxy, destination) => destination,
            _ => &self.service,
        }
    }
}

/// Addresses by network. Only the one for other datacenters is ever called in place of an
/// instance's own.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct OtherAddresses<A> {
    /// The one for other datacenters.
    pub wan: Option<A>,
}

impl<A> Default for OtherAddresses<A> {
    fn default() -> Self {
        Self { wan: None }
    }
}

/// Of a proxy's settings, those that are about its callers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct StandsFor {
    /// The service that a sidecar stands for, by name; empty where it is none.
    pub destination_service_name: String,
}

/// One check.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Check {
    /// The ID, unique to the node.
    #[serde(rename = "CheckID")]
    pub check_id: String,
    /// The name.
    pub name: String,
    /// The state.
    pub status: CheckStatus,
    /// `http`, `tcp`, `ttl`, `alias`, …
    #[serde(rename = "Type")]
    pub kind: String,
    /// Whether it said anything. A check that has not run since its agent started is critical
    /// without output. What it says is left out: it changes with every run.
    #[serde(rename = "Output", deserialize_with = "is_not_empty")]
    pub has_output: bool,
}

fn is_not_empty<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    Ok(text.is_some_and(|text| !text.is_empty()))
}

/// The state of a check, from good to bad.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CheckStatus {
    /// All is well.
    Passing,
    /// In use, with its weight for warnings.
    Warning,
    /// Not to be used; also what isn't understood.
    #[default]
    #[serde(other)]
    Critical,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(json: &str) -> ServiceEntry {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn worst_check_counts() {
        let entry = entry(
            r#"{"Checks": [{"Status": "passing"}, {"Status": "critical"}, {"Status": "warning"}]}"#,
        );
        assert_eq!(entry.status(), CheckStatus::Critical);
        assert_eq!(ServiceEntry::default().status(), CheckStatus::Passing);
    }

    #[test]
    fn unknown_check_status_is_critical() {
        assert_eq!(
            entry(r#"{"Checks": [{"Status": "odd"}]}"#).status(),
            CheckStatus::Critical
        );
    }

    #[test]
    fn address_falls_back_to_the_node() {
        let both = r#"{"Node": {"Address": "10.0.0.1"}, "Service": {"Address": "10.0.0.2"}}"#;
        assert_eq!(entry(both).address(), "10.0.0.2");
        let node = r#"{"Node": {"Address": "10.0.0.1"}, "Service": {"Address": ""}}"#;
        assert_eq!(entry(node).address(), "10.0.0.1");
    }

    #[test]
    fn null_is_empty() {
        let json = r#"{"Node": {"TaggedAddresses": null}, "Service": {"TaggedAddresses": null,
            "Weights": null, "Proxy": null}, "Checks": null}"#;
        assert_eq!(entry(json), ServiceEntry::default());
    }

    /// A proxy's account of memory rests on it: see docs/performance.md.
    #[test]
    fn an_instance_is_small() {
        let size = size_of::<ServiceEntry>();
        assert!(size <= 400, "{size}");
        let list = list(br#"[{"Checks": [{}, {}, {}]}, {}, {}, {}, {}]"#).unwrap();
        assert_eq!((list.len(), list.capacity()), (5, 5));
        assert_eq!(list[0].checks.capacity(), 3);
    }
}
