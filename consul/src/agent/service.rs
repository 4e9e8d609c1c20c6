//! A service as the agent knows it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Proxy, TaggedAddress};
use crate::wire::nullable;

/// One service instance registered with the agent.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct AgentService {
    /// What it is: a service, a proxy or a gateway.
    pub kind: ServiceKind,
    /// Its ID, unique to the agent.
    #[serde(rename = "ID")]
    pub id: String,
    /// Its name.
    pub service: String,
    /// Its tags.
    #[serde(deserialize_with = "nullable")]
    pub tags: Vec<String>,
    /// Its metadata.
    #[serde(deserialize_with = "nullable")]
    pub meta: BTreeMap<String, String>,
    /// Its address; empty is the node's.
    pub address: String,
    /// Its port.
    pub port: u16,
    /// Its unix socket, instead of address and port.
    pub socket_path: String,
    /// Other addresses: `lan`, `wan`, `consul-virtual`, …
    #[serde(deserialize_with = "nullable")]
    pub tagged_addresses: BTreeMap<String, TaggedAddress>,
    /// Its weights.
    pub weights: Weights,
    /// The agent's datacenter.
    pub datacenter: String,
    /// The namespace (Enterprise), else empty.
    pub namespace: String,
    /// The admin partition (Enterprise), else empty.
    pub partition: String,
    /// The hash that a blocking query waits on.
    pub content_hash: String,
    /// The proxy's settings, for a proxy or gateway, central configuration merged in.
    #[serde(deserialize_with = "nullable")]
    pub proxy: Option<Proxy>,
}

/// What a service instance is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ServiceKind {
    /// An ordinary service.
    #[default]
    #[serde(rename = "")]
    Typical,
    /// A sidecar.
    ConnectProxy,
    /// A mesh gateway.
    MeshGateway,
    /// A terminating gateway.
    TerminatingGateway,
    /// An ingress gateway.
    IngressGateway,
    /// An API gateway.
    ApiGateway,
    /// A kind that this client doesn't know.
    #[serde(untagged)]
    Other(String),
}

/// How much traffic an instance takes, relative to others of its service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Weights {
    /// With all checks passing.
    pub passing: u32,
    /// With a check warning.
    pub warning: u32,
}

impl Default for Weights {
    /// Consul's own: 1 and 1.
    fn default() -> Self {
        Self {
            passing: 1,
            warning: 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kind_is_read_known_or_not() {
        let read = |json| serde_json::from_str::<ServiceKind>(json).unwrap();
        assert_eq!(read(r#""""#), ServiceKind::Typical);
        assert_eq!(read(r#""connect-proxy""#), ServiceKind::ConnectProxy);
        assert_eq!(read(r#""api-gateway""#), ServiceKind::ApiGateway);
        assert_eq!(read(r#""teapot""#), ServiceKind::Other("teapot".to_owned()));
    }
}
