//! Targets of a chain: sets of instances.

use std::time::Duration;

use serde::Deserialize;

use crate::{
    agent::MeshGateway,
    wire::{duration, nullable},
};

/// A set of instances, found with
/// [`Client::health_connect`](crate::Client::health_connect) and the target's place and filter.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Target {
    /// Its ID, opaque.
    #[serde(rename = "ID")]
    pub id: String,
    /// The service.
    pub service: String,
    /// The subset of the service's resolver.
    pub service_subset: String,
    /// The service's namespace.
    pub namespace: String,
    /// The service's admin partition.
    pub partition: String,
    /// The service's datacenter; empty when a peer exports it.
    pub datacenter: String,
    /// The cluster peer that exports the service, else empty.
    pub peer: String,
    /// How it is reached when it is remote.
    #[serde(deserialize_with = "nullable")]
    pub mesh_gateway: MeshGateway,
    /// Which instances.
    #[serde(deserialize_with = "nullable")]
    pub subset: Subset,
    /// Time to connect; `None` is not set.
    #[serde(deserialize_with = "duration")]
    pub connect_timeout: Option<Duration>,
    /// Outside of this cluster: its identity isn't in this trust domain.
    pub external: bool,
    /// The name to send as SNI.
    #[serde(rename = "SNI")]
    pub sni: String,
    /// A stable name, whatever SNI is.
    pub name: String,
    /// Whether near instances are preferred (Enterprise).
    #[serde(deserialize_with = "nullable")]
    pub prioritize_by_locality: Option<PrioritizeByLocality>,
}

/// Whether near instances are preferred.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct PrioritizeByLocality {
    /// `failover`, `none` or empty.
    pub mode: String,
}

/// Which instances of a service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Subset {
    /// An expression for [`Query::filter`](crate::Query::filter); empty is every one.
    pub filter: String,
    /// Instances with a check in state warning count as unhealthy.
    pub only_passing: bool,
}
