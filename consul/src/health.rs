//! Instances of a service with their checks: what a proxy makes endpoints of.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};

use crate::{
    agent::{Proxy, ServiceKind, TaggedAddress, Weights},
    call::Call,
    catalog::Node,
    client::Client,
    query::Query,
    wire::nullable,
};

impl Client {
    /// Instances of `service` that speak Connect: its proxies, and instances that speak mTLS
    /// themselves (`GET /v1/health/connect/:service`). Blocks. An unknown service is an empty
    /// list.
    #[must_use]
    pub fn health_connect(&self, service: &str) -> Query<Vec<ServiceEntry>> {
        let path = ["v1", "health", "connect", service];
        Query::new(self, Call::get("list mesh instances", path))
    }

    /// Instances of `service` itself (`GET /v1/health/service/:service`). Blocks. An unknown
    /// service is an empty list.
    #[must_use]
    pub fn health_service(&self, service: &str) -> Query<Vec<ServiceEntry>> {
        let path = ["v1", "health", "service", service];
        Query::new(self, Call::get("list instances", path))
    }
}

/// One instance, its node, and the checks of both.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ServiceEntry {
    /// The node.
    pub node: Node,
    /// The instance.
    pub service: ServiceInstance,
    /// Checks of the instance and of its node.
    #[serde(deserialize_with = "nullable")]
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

/// One instance of a service.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ServiceInstance {
    /// What it is.
    pub kind: ServiceKind,
    /// Its ID, unique to the node's agent.
    #[serde(rename = "ID")]
    pub id: String,
    /// Its name.
    pub service: String,
    /// Its tags.
    #[serde(deserialize_with = "nullable")]
    pub tags: Vec<String>,
    /// Its address; empty is the node's.
    pub address: String,
    /// Its port.
    pub port: u16,
    /// Its unix socket, instead of address and port.
    pub socket_path: String,
    /// Other addresses: `lan`, `wan`, `consul-virtual`, …
    #[serde(deserialize_with = "nullable")]
    pub tagged_addresses: BTreeMap<String, TaggedAddress>,
    /// Its metadata.
    #[serde(deserialize_with = "nullable")]
    pub meta: BTreeMap<String, String>,
    /// Its weights.
    #[serde(deserialize_with = "nullable")]
    pub weights: Weights,
    /// The proxy's settings, for a proxy or gateway.
    #[serde(deserialize_with = "nullable")]
    pub proxy: Option<Proxy>,
    /// Connect settings.
    #[serde(deserialize_with = "nullable")]
    pub connect: Connect,
    /// The namespace (Enterprise), else empty.
    pub namespace: String,
    /// The admin partition (Enterprise), else empty.
    pub partition: String,
    /// The cluster peer that exports it, else empty.
    pub peer_name: String,
    /// Region and zone, when known.
    #[serde(deserialize_with = "nullable")]
    pub locality: Option<Locality>,
}

/// Connect settings of an instance.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Connect {
    /// It speaks mTLS itself.
    pub native: bool,
    /// How to reach it, when a cluster peer exports it.
    #[serde(deserialize_with = "nullable")]
    pub peer_meta: Option<PeerMeta>,
}

/// How an instance exported by a cluster peer is dialled and recognized.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct PeerMeta {
    /// Names to send as SNI; the first is the one to use.
    #[serde(rename = "SNI", deserialize_with = "nullable")]
    pub sni: Vec<String>,
    /// Expected identities.
    #[serde(rename = "SpiffeID", deserialize_with = "nullable")]
    pub spiffe_id: Vec<String>,
    /// Its protocol; local service-defaults don't count.
    #[serde(rename = "Protocol")]
    pub protocol: String,
}

/// Where something is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Locality {
    /// The cloud's region.
    pub region: String,
    /// The zone within.
    pub zone: String,
}

/// One check. Its output is left out: it changes without meaning anything for traffic.
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
    /// The instance it belongs to; empty is the node.
    #[serde(rename = "ServiceID")]
    pub service_id: String,
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
        let json = r#"{"Service": {"Tags": null, "Meta": null, "Connect": null, "Proxy": null},
            "Checks": null}"#;
        assert_eq!(entry(json), ServiceEntry::default());
    }
}
