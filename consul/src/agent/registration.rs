//! What a service says about itself when it registers.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};

use super::{Proxy, ServiceKind, Weights};
use crate::wire::write_duration;

/// The body of a registration. Empty fields are left out.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct ServiceRegistration {
    /// What it is.
    #[serde(skip_serializing_if = "is_typical")]
    pub kind: ServiceKind,
    /// The ID, unique to the agent; empty is the name.
    #[serde(rename = "ID", skip_serializing_if = "String::is_empty")]
    pub id: String,
    /// The name.
    pub name: String,
    /// Tags.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// Metadata.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub meta: BTreeMap<String, String>,
    /// The address; empty is the node's.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub address: String,
    /// The port; `None` registers none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// Other addresses: `lan`, `wan`, …
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub tagged_addresses: BTreeMap<String, TaggedAddress>,
    /// Weights; `None` is 1 and 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weights: Option<Weights>,
    /// The proxy's settings, for a proxy or gateway.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proxy: Option<Proxy>,
    /// Connect settings of an ordinary service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub connect: Option<ConnectRegistration>,
    /// Checks.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub checks: Vec<CheckRegistration>,
    /// The namespace (Enterprise).
    #[serde(skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    /// The admin partition (Enterprise).
    #[serde(skip_serializing_if = "String::is_empty")]
    pub partition: String,
}

/// Connect settings of an ordinary service.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct ConnectRegistration {
    /// The service speaks mTLS itself.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub native: bool,
    /// Its sidecar, registered along with it; what is left out is filled in by the agent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sidecar_service: Option<Box<ServiceRegistration>>,
}

/// An address under a name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct TaggedAddress {
    /// Host name or IP address.
    pub address: String,
    /// The port; 0 is the service's.
    pub port: u16,
}

/// A check. Exactly one of `http`, `tcp`, `grpc`, `ttl` and `alias_service` says what is checked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct CheckRegistration {
    /// The ID; empty is one that the agent makes.
    #[serde(rename = "CheckID", skip_serializing_if = "String::is_empty")]
    pub check_id: String,
    /// The name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// A URL that must answer 2xx; 429 is a warning.
    #[serde(rename = "HTTP", skip_serializing_if = "String::is_empty")]
    pub http: String,
    /// A `host:port` that must accept.
    #[serde(rename = "TCP", skip_serializing_if = "String::is_empty")]
    pub tcp: String,
    /// A `host:port[/service]` that must answer gRPC health checks.
    #[serde(rename = "GRPC", skip_serializing_if = "String::is_empty")]
    pub grpc: String,
    /// The service must report within this time.
    #[serde(
        rename = "TTL",
        serialize_with = "write_duration",
        skip_serializing_if = "Option::is_none"
    )]
    pub ttl: Option<Duration>,
    /// Another service's ID, whose health is this check's.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub alias_service: String,
    /// Time between two checks.
    #[serde(
        serialize_with = "write_duration",
        skip_serializing_if = "Option::is_none"
    )]
    pub interval: Option<Duration>,
    /// Time for one check; `None` is 10 s.
    #[serde(
        serialize_with = "write_duration",
        skip_serializing_if = "Option::is_none"
    )]
    pub timeout: Option<Duration>,
    /// The state before the first check: `passing`, `warning`, or empty for `critical`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub status: String,
    /// After being critical for so long, the service is taken out; at least a minute.
    #[serde(
        serialize_with = "write_duration",
        skip_serializing_if = "Option::is_none"
    )]
    pub deregister_critical_service_after: Option<Duration>,
}

fn is_typical(kind: &ServiceKind) -> bool {
    *kind == ServiceKind::Typical
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn empty_fields_are_left_out() {
        let service = ServiceRegistration {
            name: "web".to_owned(),
            ..Default::default()
        };
        assert_eq!(
            serde_json::to_value(&service).unwrap(),
            json!({ "Name": "web" })
        );
    }

    #[test]
    fn durations_are_written_as_go_reads_them() {
        let check = CheckRegistration {
            tcp: "127.0.0.1:80".to_owned(),
            interval: Some(Duration::from_millis(1_500)),
            ..Default::default()
        };
        let expected = json!({ "TCP": "127.0.0.1:80", "Interval": "1500ms" });
        assert_eq!(serde_json::to_value(&check).unwrap(), expected);
    }
}
