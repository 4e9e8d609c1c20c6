//! Applications in either datacenter, and who calls them.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::rc::Rc;

use http::Method;
use meridian_tests::client::{Protocol, get};
use meridian_tests::consul::{Consul, Service};
use meridian_tests::datacenter::{FAR, Federation, Site};
use meridian_tests::origin::{Origin, Seen};
use meridian_tests::sidecar::{Kind, Sidecar};
use meridian_tests::wait::{self, PATIENCE};
use meridian_tests::world::World;
use serde_json::{Value, json};

/// An application to be called, with its sidecar.
#[derive(Debug, Clone)]
pub(super) struct Callee {
    service: Service,
    address: Ipv4Addr,
    meta: BTreeMap<&'static str, &'static str>,
    origin: &'static str,
}

impl Callee {
    /// Reachable from its own machine only; `number` makes its ports.
    pub(super) fn new(name: &'static str, number: u16) -> Self {
        Self {
            service: Service::new(name, 8000 + number).sidecar(21000 + number),
            address: Ipv4Addr::LOCALHOST,
            meta: BTreeMap::new(),
            origin: name,
        }
    }

    /// Reachable from everywhere.
    pub(super) fn at(mut self, address: Ipv4Addr) -> Self {
        self.address = address;
        self
    }

    pub(super) fn version(mut self, version: &'static str) -> Self {
        self.meta.insert("version", version);
        self
    }

    /// What the application calls itself.
    pub(super) fn called(mut self, origin: &'static str) -> Self {
        self.origin = origin;
        self
    }
}

pub(super) struct Served {
    pub(super) service: Service,
    pub(super) origin: Origin,
    pub(super) sidecar: Sidecar,
}

/// Registers and starts an application and its sidecar, and waits until it passes.
pub(super) async fn serve(world: &World, consul: &Consul, callee: &Callee, kind: Kind) -> Served {
    let Callee {
        service, address, ..
    } = callee;
    let sidecar = json!({"Address": address, "Port": service.sidecar_port, "Checks": [{
        "TCP": format!("{address}:{}", service.sidecar_port.unwrap_or_default()),
        "Interval": "1s"}]});
    let body = json!({"Name": service.name, "Port": service.port, "Address": "127.0.0.1",
        "Meta": callee.meta, "Connect": {"SidecarService": sidecar}});
    register(consul, body).await;
    let origin = Origin::start(callee.origin, service.port).await;
    let sidecar = Sidecar::start(world, kind, service).await;
    consul.passing(&service.name, 1).await;
    Served {
        service: service.clone(),
        origin,
        sidecar,
    }
}

pub(super) async fn caller(
    world: &World,
    consul: &Consul,
    kind: Kind,
    modes: &[(&str, &str, u16)],
    offset: u16,
) -> Sidecar {
    caller_of(world, consul, kind, modes, offset, Some(FAR), json!({})).await
}

/// A service that calls others, each by its gateway mode, and its sidecar.
pub(super) async fn caller_of(
    world: &World,
    consul: &Consul,
    kind: Kind,
    modes: &[(&str, &str, u16)],
    offset: u16,
    datacenter: Option<&str>,
    config: Value,
) -> Sidecar {
    let name = format!("caller-{offset}");
    let mut service = Service::new(&name, 8100 + offset).sidecar(21100 + offset);
    let mut upstreams = Vec::new();
    for (called, mode, port) in modes {
        service = service.upstream(called, port + offset);
        upstreams.push(
            json!({"DestinationName": called, "LocalBindPort": port + offset,
            "Datacenter": datacenter, "MeshGateway": {"Mode": mode}, "Config": config}),
        );
    }
    let sidecar = json!({"Port": service.sidecar_port, "Proxy": {"Upstreams": upstreams}});
    let body = json!({"Name": name, "Port": service.port,
        "Connect": {"SidecarService": sidecar}});
    register(consul, body).await;
    Sidecar::start(world, kind, &service).await
}

pub(super) async fn register(consul: &Consul, body: Value) {
    let path = "/v1/agent/service/register";
    consul.api(Method::PUT, path, Some(body)).await;
}

pub(super) async fn everything_speaks_http(federation: &Federation) {
    let entry = json!({"Kind": "proxy-defaults", "Name": "global", "Config": {"protocol": "http"}});
    federation.consul.config_entry(entry).await;
    replicated(federation, "proxy-defaults", 1).await;
}

/// Waits until the other datacenter has so many entries of a kind.
pub(super) async fn replicated(federation: &Federation, kind: &'static str, count: usize) {
    wait::holds("entries are replicated", PATIENCE, async || {
        let found = federation
            .far
            .within(async move |site: Rc<Site>| {
                let path = format!("/v1/config/{kind}");
                site.consul().api(Method::GET, &path, None).await
            })
            .await;
        found
            .as_array()
            .is_some_and(|entries| entries.len() == count)
    })
    .await;
}

/// Waits until an application answers on a port.
pub(super) async fn answers(port: u16, name: &str) {
    wait::until(&format!("{name} on {port}"), PATIENCE, async || {
        let reply = get(port, Protocol::Http1, "/").await;
        let reply = reply.map_err(|error| error.to_string())?;
        let seen = Seen::from_reply(&reply)?;
        (seen.origin == name)
            .then_some(())
            .ok_or_else(|| format!("{} answers", seen.origin))
    })
    .await;
}
