//! The catalog: what exists, whether healthy or not.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::{
    agent::{Proxy, ServiceKind, TaggedAddress, Weights},
    call::Call,
    client::Client,
    health::ServiceEntry,
    query::Query,
    wire::nullable,
};

impl Client {
    /// All services of a datacenter with their tags (`GET /v1/catalog/services`). Blocks.
    #[must_use]
    pub fn catalog_services(&self) -> Query<BTreeMap<String, Vec<String>>> {
        Query::new(
            self,
            Call::get("list services", ["v1", "catalog", "services"]),
        )
    }

    /// The mesh gateways of every federated datacenter with their checks
    /// (`GET /v1/internal/federation-states/mesh-gateways`). Blocks. Consul makes no promise to
    /// keep this endpoint.
    #[must_use]
    pub fn mesh_gateways(&self) -> Query<BTreeMap<String, Vec<ServiceEntry>>> {
        let path = ["v1", "internal", "federation-states", "mesh-gateways"];
        Query::new(self, Call::get("list mesh gateways", path))
    }

    /// All instances of a service (`GET /v1/catalog/service/:service`). Blocks.
    #[must_use]
    pub fn catalog_service(&self, service: &str) -> Query<Vec<CatalogService>> {
        let path = ["v1", "catalog", "service", service];
        Query::new(self, Call::get("list catalog instances", path))
    }

    /// All nodes of a datacenter (`GET /v1/catalog/nodes`). Blocks.
    #[must_use]
    pub fn catalog_nodes(&self) -> Query<Vec<Node>> {
        Query::new(self, Call::get("list nodes", ["v1", "catalog", "nodes"]))
    }

    /// Services behind an ingress or terminating gateway, wildcards expanded
    /// (`GET /v1/catalog/gateway-services/:gateway`). Blocks.
    #[must_use]
    pub fn gateway_services(&self, gateway: &str) -> Query<Vec<GatewayService>> {
        let path = ["v1", "catalog", "gateway-services", gateway];
        Query::new(self, Call::get("list gateway services", path))
    }

    /// The address of the cluster's leader (`GET /v1/status/leader`); empty without one. Needs no
    /// token. Doesn't block.
    #[must_use]
    pub fn leader(&self) -> Query<String> {
        Query::new(self, Call::get("read leader", ["v1", "status", "leader"]))
    }

    /// All known datacenters, nearest first (`GET /v1/catalog/datacenters`). Doesn't block: a
    /// watch polls.
    #[must_use]
    pub fn datacenters(&self) -> Query<Vec<String>> {
        Query::new(
            self,
            Call::get("list datacenters", ["v1", "catalog", "datacenters"]),
        )
    }
}

/// A service behind a gateway. An ingress gateway has a row for each of its listeners.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct GatewayService {
    /// The service.
    #[serde(deserialize_with = "nullable")]
    pub service: ServiceName,
    /// Port of the listener, of an ingress gateway.
    pub port: u16,
    /// Protocol of the listener, of an ingress gateway.
    pub protocol: String,
    /// Host names, of an ingress gateway.
    #[serde(deserialize_with = "nullable")]
    pub hosts: Vec<String>,
    /// Authorities of the service, of a terminating gateway: a path there.
    #[serde(rename = "CAFile")]
    pub ca_file: String,
    /// Certificate for the service, of a terminating gateway: a path there.
    pub cert_file: String,
    /// The certificate's key: a path there.
    pub key_file: String,
    /// Name to send to the service, of a terminating gateway.
    #[serde(rename = "SNI")]
    pub sni: String,
    /// Whether requests are sent with the host name of the service's instance as `Host`, of a
    /// terminating gateway.
    pub auto_host_rewrite: bool,
    /// It stands there because of `*`.
    pub from_wildcard: bool,
    /// What the service is: `service`, `destination` for one that only its `service-defaults`
    /// name, or empty where Consul knows nothing of it.
    pub service_kind: String,
}

/// A service's name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ServiceName {
    /// The name.
    pub name: String,
    /// Its namespace (Enterprise), else empty.
    pub namespace: String,
}

/// A node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Node {
    /// Its ID.
    #[serde(rename = "ID")]
    pub id: String,
    /// Its name.
    pub node: String,
    /// Its address.
    pub address: String,
    /// Its datacenter.
    pub datacenter: String,
    /// Its addresses by network: `lan`, `wan`, …
    #[serde(deserialize_with = "nullable")]
    pub tagged_addresses: BTreeMap<String, String>,
    /// Its metadata.
    #[serde(deserialize_with = "nullable")]
    pub meta: BTreeMap<String, String>,
}

/// One instance of a service together with its node.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct CatalogService {
    /// The node's name.
    pub node: String,
    /// The node's address.
    pub address: String,
    /// The datacenter.
    pub datacenter: String,
    /// The node's metadata.
    #[serde(deserialize_with = "nullable")]
    pub node_meta: BTreeMap<String, String>,
    /// What the instance is.
    pub service_kind: ServiceKind,
    /// The instance's ID.
    #[serde(rename = "ServiceID")]
    pub service_id: String,
    /// The service's name.
    pub service_name: String,
    /// The instance's tags.
    #[serde(deserialize_with = "nullable")]
    pub service_tags: Vec<String>,
    /// The instance's address; empty is the node's.
    pub service_address: String,
    /// The instance's port.
    pub service_port: u16,
    /// Other addresses.
    #[serde(deserialize_with = "nullable")]
    pub service_tagged_addresses: BTreeMap<String, TaggedAddress>,
    /// The instance's metadata.
    #[serde(deserialize_with = "nullable")]
    pub service_meta: BTreeMap<String, String>,
    /// The instance's weights.
    #[serde(deserialize_with = "nullable")]
    pub service_weights: Weights,
    /// The proxy's settings.
    #[serde(deserialize_with = "nullable")]
    pub service_proxy: Option<Proxy>,
}
