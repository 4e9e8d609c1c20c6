//! `service-resolver`, as far as gateways read it themselves: everybody else sees it compiled
//! into chains.

use std::{collections::BTreeMap, time::Duration};

use serde::Deserialize;

use super::Entry;
use crate::{
    chain::{LoadBalancer, Subset},
    wire::{duration, nullable},
};

/// The `service-resolver` entry of a service.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ServiceResolver {
    /// The service.
    pub name: String,
    /// The subset that the service's own name means; empty is every instance.
    pub default_subset: String,
    /// Subsets by name.
    #[serde(deserialize_with = "nullable")]
    pub subsets: BTreeMap<String, Subset>,
    /// Time to connect; `None` is not set.
    #[serde(deserialize_with = "duration")]
    pub connect_timeout: Option<Duration>,
    /// Time for a request; `None` is not set.
    #[serde(deserialize_with = "duration")]
    pub request_timeout: Option<Duration>,
    /// How an instance is chosen.
    #[serde(deserialize_with = "nullable")]
    pub load_balancer: Option<LoadBalancer>,
}

impl Entry for ServiceResolver {
    const KIND: &'static str = "service-resolver";
}
