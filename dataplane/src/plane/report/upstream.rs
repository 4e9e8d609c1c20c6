//! One cluster in `/snapshot`: what is wanted of it, and how its endpoints fare.
//!
//! The document is for an operator's eye, so it is bounded: of a large target, those
//! endpoints are shown first that take no traffic, and the rest is counted.

use crate::balance::Member;
use crate::resilience::{Resource, Usage};
use crate::tables::{ClusterHandle, ClusterState, TargetState};
use meridian_model::endpoint::Health;
use meridian_model::policy::{LoadBalancing, OutlierPolicy};
use meridian_model::{Transport, UpstreamProtocol};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Instant;

/// Endpoints of one target. More is nothing that an eye would read; `/metrics` has the sums.
const OF_A_TARGET: usize = 100;

/// How many endpoints a whole document may still show.
pub(super) struct Room(usize);

impl Room {
    /// For one document: some 2 MiB of JSON.
    pub(super) fn for_a_document() -> Self {
        Self(5_000)
    }
}

/// A cluster, once it is known.
pub(super) fn cluster(handle: &ClusterHandle, now: Instant, room: &mut Room) -> Option<Value> {
    let state = handle.state()?;
    let targets = state.targets.iter().map(|one| target(one, now, room));
    let targets: Vec<_> = targets.collect();
    Some(json!({
        "name": state.model.name.as_str(),
        "protocol": protocol(state.model.protocol),
        "balancing": balancing(&state.model.balancing),
        "connectTimeoutSeconds": state.model.connect_timeout.as_secs_f64(),
        "limits": limits(&state),
        "outlier": state.model.outlier.as_ref().map(outlier),
        "targets": targets,
    }))
}

fn limits(state: &ClusterState) -> Value {
    let usage = |resource| {
        let Usage {
            used,
            limit,
            refused,
        } = state.breaker.usage(resource);
        json!({"used": used, "limit": limit, "refused": refused})
    };
    json!({
        "connections": usage(Resource::Connection),
        "pendingRequests": usage(Resource::Pending),
        "requests": usage(Resource::Request),
        "retries": usage(Resource::Retry),
    })
}

fn outlier(policy: &OutlierPolicy) -> Value {
    json!({
        "consecutiveFailures": policy.consecutive_failures,
        "baseEjectionSeconds": policy.base_ejection.as_secs_f64(),
        "maxEjectedPercent": policy.max_ejected_percent,
        "enforcingPercent": policy.enforcing_percent,
    })
}

fn target(target: &TargetState, now: Instant, room: &mut Room) -> Value {
    let (sni, expected) = match &target.model.transport {
        Transport::Plain => (None, Vec::new()),
        Transport::Tls(tls) => (tls.server_name.as_deref(), Vec::new()),
        Transport::Mesh(mesh) => (
            Some(&*mesh.sni),
            mesh.expected.iter().map(|id| id.as_str()).collect(),
        ),
    };
    let mut members: Vec<Arc<Member>> = Vec::new();
    target.balancer().for_each(|one| members.push(one.clone()));
    let is_unhealthy = |one: &Member| one.endpoint().health != Health::Healthy;
    let is_ejected = |one: &Member| one.stats().ejected_for(now).is_some();
    let count = |is: &dyn Fn(&Member) -> bool| members.iter().filter(|one| is(one)).count();
    let (all, unhealthy, ejected) = (members.len(), count(&is_unhealthy), count(&is_ejected));
    // Stable: within each group the order is that of the registry.
    members.sort_by_key(|one| !(is_unhealthy(one) || is_ejected(one)));
    let shown = all.min(OF_A_TARGET).min(room.0);
    room.0 -= shown;
    let endpoints = members.iter().take(shown).map(|one| endpoint(one, now));
    json!({
        "name": &*target.model.name,
        "sni": sni,
        "expected": expected,
        "instances": {"all": all, "unhealthy": unhealthy, "ejected": ejected},
        "endpoints": endpoints.collect::<Vec<_>>(),
        "endpointsLeftOut": all - shown,
    })
}

fn endpoint(member: &Member, now: Instant) -> Value {
    let (endpoint, stats) = (member.endpoint(), member.stats());
    json!({
        "address": endpoint.address.to_string(),
        "instance": &*endpoint.instance,
        "weight": endpoint.weight,
        "healthy": endpoint.health == Health::Healthy,
        "ejectedForSeconds": stats.ejected_for(now).map(|left| left.as_secs_f64()),
        "ejections": stats.ejections(),
        "connections": stats.connections(),
        "requests": stats.requests(),
        "activeRequests": stats.active(),
        "failures": stats.failures(),
        "consecutiveFailures": stats.consecutive_failures(),
    })
}

fn protocol(protocol: UpstreamProtocol) -> &'static str {
    match protocol {
        UpstreamProtocol::Tcp => "tcp",
        UpstreamProtocol::Http1 => "http1",
        UpstreamProtocol::Http2 => "http2",
    }
}

/// Consul's words, where it has them.
fn balancing(policy: &LoadBalancing) -> &'static str {
    match policy {
        LoadBalancing::RoundRobin => "round_robin",
        LoadBalancing::Random => "random",
        LoadBalancing::LeastRequest { .. } => "least_request",
        LoadBalancing::RingHash { .. } => "ring_hash",
        LoadBalancing::Maglev { .. } => "maglev",
        LoadBalancing::PeakEwma => "peak_ewma",
    }
}
