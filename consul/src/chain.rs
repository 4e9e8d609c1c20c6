//! Discovery chains: how a call to a service is routed, split and resolved to targets.
//!
//! Consul compiles routers, splitters and resolvers into a graph. Keys of nodes and targets are
//! opaque: they are followed, never taken apart. A kind of node that this client doesn't know
//! stays visible as [`Node::Unknown`].

mod node;
mod route;
mod target;

use std::{collections::BTreeMap, time::Duration};

use http::Method;
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use node::{
    CookieConfig, Failover, FailoverPolicy, HashPolicy, LeastRequestConfig, LoadBalancer, Node,
    ResolverNode, RingHashConfig, RouterNode, SplitterNode,
};
pub use route::{
    HeaderMatch, HeaderModifiers, HttpMatch, QueryMatch, Route, RouteDefinition, RouteDestination,
    RouteMatch, Split, SplitDefinition,
};
pub use target::{PrioritizeByLocality, Subset, Target};

use crate::{
    agent::MeshGateway,
    call::Call,
    client::Client,
    query::Query,
    wire::{nullable, write_duration},
};

pub use crate::wire::TimeLimit;

impl Client {
    /// The chain of `service` (`/v1/discovery-chain/:service`). Blocks. A service that nobody has
    /// configured has a default chain.
    ///
    /// The query's datacenter says who compiles; [`ChainOverrides::datacenter`], for whom.
    #[must_use]
    pub fn discovery_chain(
        &self,
        service: &str,
        overrides: &ChainOverrides,
    ) -> Query<CompiledChain> {
        // POST is a read here: it carries the overrides.
        let method = if overrides.has_body() {
            Method::POST
        } else {
            Method::GET
        };
        let path = ["v1", "discovery-chain", service];
        let mut call = Call::new("compile discovery chain", method, path);
        if let Some(datacenter) = &overrides.datacenter {
            call = call.with("compile-dc", datacenter.as_str());
        }
        if let Some(namespace) = &overrides.namespace {
            call = call.with("compile-namespace", namespace.as_str());
        }
        if let Some(partition) = &overrides.partition {
            call = call.with("compile-partition", partition.as_str());
        }
        if overrides.has_body() {
            call = call.json(overrides);
        }
        Query::decoded(self, call, |body| {
            serde_json::from_slice::<Envelope>(body).map(|envelope| envelope.chain)
        })
    }
}

/// What a chain is compiled with instead of the configured values. An upstream's settings
/// `connect_timeout_ms`, `protocol` and mesh gateway mode belong here.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct ChainOverrides {
    /// The datacenter to compile for.
    #[serde(skip)]
    pub datacenter: Option<String>,
    /// The namespace to compile for (Enterprise).
    #[serde(skip)]
    pub namespace: Option<String>,
    /// The admin partition to compile for (Enterprise).
    #[serde(skip)]
    pub partition: Option<String>,
    /// `tcp`, `http`, `http2` or `grpc`. `tcp` drops routers and splitters; the others don't make
    /// any appear.
    #[serde(rename = "OverrideProtocol", skip_serializing_if = "Option::is_none")]
    pub protocol: Option<String>,
    /// Time to connect to a target.
    #[serde(
        rename = "OverrideConnectTimeout",
        serialize_with = "write_duration",
        skip_serializing_if = "Option::is_none"
    )]
    pub connect_timeout: Option<Duration>,
    /// How remote datacenters are reached.
    #[serde(
        rename = "OverrideMeshGateway",
        skip_serializing_if = "MeshGateway::is_empty"
    )]
    pub mesh_gateway: MeshGateway,
}

impl ChainOverrides {
    fn has_body(&self) -> bool {
        self.protocol.is_some() || self.connect_timeout.is_some() || !self.mesh_gateway.is_empty()
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Envelope {
    chain: CompiledChain,
}

/// A compiled chain.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct CompiledChain {
    /// The service.
    pub service_name: String,
    /// Its namespace.
    pub namespace: String,
    /// Its admin partition.
    pub partition: String,
    /// The datacenter that the chain is compiled for.
    pub datacenter: String,
    /// Identifies the overrides; empty without.
    pub customization_hash: String,
    /// Nothing is configured: one resolver to the service itself.
    pub default: bool,
    /// `tcp`, `http`, `http2` or `grpc`.
    pub protocol: String,
    /// Metadata of the service's service-defaults.
    #[serde(deserialize_with = "nullable")]
    pub service_meta: BTreeMap<String, String>,
    /// Envoy extensions, as written.
    #[serde(deserialize_with = "nullable")]
    pub envoy_extensions: Vec<Value>,
    /// Key of the first node.
    pub start_node: String,
    /// All nodes by key.
    #[serde(deserialize_with = "nullable")]
    pub nodes: BTreeMap<String, Node>,
    /// All targets by ID.
    #[serde(deserialize_with = "nullable")]
    pub targets: BTreeMap<String, Target>,
    /// Virtual IP addresses that Consul assigned.
    #[serde(rename = "AutoVirtualIPs", deserialize_with = "nullable")]
    pub auto_virtual_ips: Vec<String>,
    /// Virtual IP addresses that an operator assigned.
    #[serde(rename = "ManualVirtualIPs", deserialize_with = "nullable")]
    pub manual_virtual_ips: Vec<String>,
}

impl CompiledChain {
    /// The first node; `None` in a chain that isn't sound.
    #[must_use]
    pub fn start(&self) -> Option<&Node> {
        self.nodes.get(&self.start_node)
    }
}
