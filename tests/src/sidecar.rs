//! A sidecar beside a registered service: Meridian's or a real Envoy.

use std::net::SocketAddr;

use crate::admin::Admin;
use crate::consul::{HTTP_API, Service};
use crate::process::Process;
use crate::ready::ready;
use crate::tools;
use crate::world::World;

/// Who stands beside the service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The peer and the oracle.
    Envoy,
    /// The proxy under test.
    Meshd,
}

/// A running sidecar.
#[derive(Debug)]
pub struct Sidecar {
    /// The process, for signals, logs and memory.
    pub process: Process,
    /// Its admin listener.
    pub admin: Admin,
    ports: Vec<u16>,
}

impl Sidecar {
    /// Starts a sidecar for a registered service and waits until it is ready.
    pub async fn start(world: &World, kind: Kind, service: &Service) -> Self {
        let mut sidecar = Self::launch(world, kind, service);
        sidecar.ready().await;
        sidecar
    }

    /// Starts a sidecar without waiting for it.
    pub fn launch(world: &World, kind: Kind, service: &Service) -> Self {
        Self::launch_on(world, kind, service, None)
    }

    /// Starts a sidecar with so many worker threads, without waiting for it.
    pub fn launch_on(world: &World, kind: Kind, service: &Service, threads: Option<usize>) -> Self {
        let admin = SocketAddr::from(([127, 0, 0, 1], world.fresh_port()));
        let name = format!("{}-{kind:?}", service.id).to_lowercase();
        let (program, words) = match kind {
            Kind::Envoy => (tools::consul(), envoy_words(service, admin, threads)),
            Kind::Meshd => (tools::ours("meshd"), meshd_words(service, admin, threads)),
        };
        let process = world.spawn(&name, &program, words);
        Self {
            process,
            admin: Admin::new(admin),
            ports: service.sidecar_ports(),
        }
    }

    /// Starts meshd for a registered service, reaching the agent by `words`, without
    /// waiting for it.
    pub fn launch_with(world: &World, service: &Service, words: &[String]) -> Self {
        let admin = SocketAddr::from(([127, 0, 0, 1], world.fresh_port()));
        let own = format!("run --sidecar-for {} --admin-bind {admin}", service.name);
        let words = own
            .split_whitespace()
            .chain(words.iter().map(String::as_str));
        let name = format!("{}-meshd", service.name);
        Self {
            process: world.spawn(&name, &tools::ours("meshd"), words),
            admin: Admin::new(admin),
            ports: service.sidecar_ports(),
        }
    }

    /// Waits until the admin listener says ready and every listener is open.
    pub async fn ready(&mut self) {
        ready(&mut self.process, self.admin, &self.ports).await;
    }
}

/// `consul connect envoy` writes Envoy's bootstrap and becomes Envoy.
fn envoy_words(service: &Service, admin: SocketAddr, threads: Option<usize>) -> Vec<String> {
    let words = format!(
        "connect envoy -sidecar-for {} -http-addr {HTTP_API} -grpc-addr http://127.0.0.1:8502 \
         -admin-bind {admin} -ignore-envoy-compatibility -envoy-binary {} \
         -- --concurrency {} -l warn",
        service.id,
        tools::envoy().display(),
        threads.unwrap_or(1),
    );
    words.split_whitespace().map(str::to_owned).collect()
}

fn meshd_words(service: &Service, admin: SocketAddr, threads: Option<usize>) -> Vec<String> {
    let threads = threads.map_or_else(String::new, |count| format!("--threads {count}"));
    let words = format!(
        "run --sidecar-for {} --http-addr {HTTP_API} --admin-bind {admin} {threads}",
        service.id
    );
    words.split_whitespace().map(str::to_owned).collect()
}
