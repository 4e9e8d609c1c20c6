//! Extensions as they were in the generation before, for as long as a required one is refused.
//!
//! The filters of a listener are what an extension has a say in, so they stay as they were. All
//! else goes on being updated: an intention that is taken back must act, whatever an operator has
//! written about extensions.

use super::{CLUSTER, Concern, Extensions, LOG_CLUSTER};
use crate::publish::Contents;
use crate::translate::inbound;
use crate::translate::upstream::listener_name;
use meridian_model::listener::HttpFilters;
use meridian_model::{ListenerName, Service, Snapshot};
use std::sync::Arc;

/// Filters that may be served with.
pub(crate) struct Held<'a> {
    pub(crate) previous: &'a Snapshot,
    /// Whether the public listener must not be open, because there are none for it.
    pub(crate) closed: bool,
    /// Those of all upstreams; `None` where each keeps its own.
    outbound: Option<HttpFilters>,
}

impl<'a> Held<'a> {
    /// Puts earlier filters in the place of those that must not be served with.
    pub(crate) fn new(extensions: &mut Extensions, previous: &'a Snapshot) -> Self {
        let outbound = std::mem::take(&mut extensions.outbound);
        let mut held = Self {
            previous,
            closed: false,
            outbound: (!extensions.withhold(Concern::Outbound)).then_some(outbound),
        };
        if extensions.withhold(Concern::Inbound) {
            let earlier = filters(previous, &ListenerName::from(inbound::LISTENER));
            held.closed = earlier.is_none();
            extensions.inbound = earlier.unwrap_or_default();
        }
        held
    }

    /// Names what is refused, and keeps what earlier filters need.
    pub(crate) fn name(&self, resource: &str, extensions: &Extensions, contents: &mut Contents) {
        for refusal in &extensions.refused {
            contents.reject(resource, refusal.reason.clone());
        }
        if self.closed {
            let reason = "there is no earlier version to go by, so its public listener is not open";
            contents.reject(resource, reason);
        }
        if !extensions.refused.is_empty() {
            keep_clusters(contents, self.previous);
        }
    }

    /// The filters of an upstream; `None` where it must not be opened.
    pub(crate) fn outbound(&self, label: &str) -> Option<HttpFilters> {
        let own = || filters(self.previous, &listener_name(label));
        self.outbound.clone().or_else(own)
    }
}

/// The filters of a listener; `None` where it was not open.
fn filters(previous: &Snapshot, listener: &ListenerName) -> Option<HttpFilters> {
    match &previous.listeners.get(listener)?.service {
        Service::Http(service) => Some(service.filters.clone()),
        Service::Tcp(service) => Some(HttpFilters {
            checks: service.checks.clone(),
            ..HttpFilters::default()
        }),
        Service::BySni(_) => None,
    }
}

/// Keeps the services on this machine that earlier filters call.
pub(crate) fn keep_clusters(contents: &mut Contents, previous: &Snapshot) {
    for (name, cluster) in &previous.clusters {
        let mut prefixes = [CLUSTER, LOG_CLUSTER].into_iter();
        if prefixes.any(|prefix| name.as_str().starts_with(prefix)) {
            contents.clusters.insert(name.clone(), Arc::clone(cluster));
        }
    }
}
