//! Gateways: what of a sidecar's way they go, and what they have beside it.

mod api;
mod datacenters;
mod ingress;
mod listeners;
mod terminating;

use super::registration::{Gateway, GatewayKind};
use super::report::Report;
use super::{certificates, handshake, snapshot, upstream};
use consul::Client;
use consul::chain::ChainOverrides;
use meridian_sources::consul_gateway::{self, Kind};
use meridian_sources::sni_gateway::{self, SniGateway, SniGatewayKind};
use meridian_sources::{ConsulOptions, Source};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

pub(super) async fn check(
    client: &Client,
    gateway: &Gateway,
    limit: Duration,
    report: &mut Report,
) {
    report.group("certificates");
    let certified = match gateway.kind {
        // It has no certificate of its own.
        GatewayKind::Mesh | GatewayKind::Terminating => {
            certificates::authority(client, report).await
        }
        GatewayKind::Ingress | GatewayKind::Api => {
            certificates::check(client, &gateway.service, report).await
        }
    };
    let linked = match gateway.kind {
        GatewayKind::Mesh => BTreeSet::new(),
        GatewayKind::Terminating => terminating::services(client, gateway, report).await,
        GatewayKind::Ingress => ingress::services(client, gateway, report).await,
        GatewayKind::Api => api::services(client, gateway, report).await,
    };
    if matches!(gateway.kind, GatewayKind::Ingress | GatewayKind::Api) {
        called(client, gateway, &linked, report).await;
    }
    let nothing = gateway.kind != GatewayKind::Mesh && linked.is_empty();
    if !certified || nothing {
        return;
    }
    let settled = |now: &_| gateway.kind != GatewayKind::Mesh || datacenters::are_all_known(now);
    let Some(snapshot) = snapshot::first(source(client, gateway), limit, settled, report).await
    else {
        return;
    };
    match gateway.kind {
        GatewayKind::Mesh => datacenters::check(&snapshot, report).await,
        GatewayKind::Terminating => terminating::outside(&snapshot, &linked, report).await,
        GatewayKind::Ingress | GatewayKind::Api => {
            listeners::check(&snapshot, gateway, report).await;
            report.group("handshakes");
            handshake::mesh(&snapshot, report).await;
        }
    }
}

/// The services that the gateway calls under its own name.
async fn called(
    client: &Client,
    gateway: &Gateway,
    services: &BTreeSet<String>,
    report: &mut Report,
) {
    let overrides = ChainOverrides::default();
    for service in services {
        report.group(format!("service {service}"));
        upstream::service(client, &gateway.service, service, &overrides, report).await;
    }
}

/// The gateway's own source. It registers nothing.
fn source(client: &Client, gateway: &Gateway) -> Source {
    let Gateway {
        kind,
        service,
        address,
    } = gateway;
    let sni = |kind| SniGateway {
        kind,
        name: service.clone(),
        address: *address,
        wan_address: None,
        expose_servers: false,
        register: false,
    };
    let by_entry = |kind| consul_gateway::Gateway {
        kind,
        service: service.clone(),
        address: *address,
        register: false,
    };
    let (client, options, metrics) = (client.clone(), ConsulOptions::default(), Arc::new(()));
    match kind {
        GatewayKind::Mesh => sni_gateway::run(client, sni(SniGatewayKind::Mesh), options, metrics),
        GatewayKind::Terminating => {
            sni_gateway::run(client, sni(SniGatewayKind::Terminating), options, metrics)
        }
        GatewayKind::Ingress => {
            consul_gateway::run(client, by_entry(Kind::Ingress), options, metrics)
        }
        GatewayKind::Api => consul_gateway::run(client, by_entry(Kind::Api), options, metrics),
    }
}
