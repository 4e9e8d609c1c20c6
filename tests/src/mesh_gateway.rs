//! A mesh gateway that registers itself with the agent: Meridian's or a real Envoy.

use std::net::{Ipv4Addr, SocketAddr};

use crate::admin::Admin;
use crate::consul::HTTP_API;
use crate::process::Process;
use crate::ready::ready;
use crate::sidecar::Kind;
use crate::tools;
use crate::world::World;

/// Where mesh gateways listen.
pub const PORT: u16 = 8443;

/// A running mesh gateway.
#[derive(Debug)]
pub struct MeshGateway {
    /// The process, for signals and logs.
    pub process: Process,
    /// Its admin listener.
    pub admin: Admin,
    kind: Kind,
    words: Vec<String>,
}

impl MeshGateway {
    /// Starts a gateway at an address that its own and other datacenters call, and waits until it
    /// is ready. `more` are further words of its command line, without their dashes.
    pub async fn start(world: &World, kind: Kind, address: Ipv4Addr, more: &[&str]) -> Self {
        let admin = SocketAddr::from(([127, 0, 0, 1], world.fresh_port()));
        let words = words(kind, SocketAddr::from((address, PORT)), admin, more);
        let mut gateway = Self {
            process: spawn(world, kind, &words),
            admin: Admin::new(admin),
            kind,
            words,
        };
        gateway.ready().await;
        gateway
    }

    /// Starts it again after it was killed.
    pub async fn restart(&mut self, world: &World) {
        self.process = spawn(world, self.kind, &self.words);
        self.ready().await;
    }

    async fn ready(&mut self) {
        ready(&mut self.process, self.admin, &[PORT]).await;
    }
}

fn spawn(world: &World, kind: Kind, words: &[String]) -> Process {
    let program = match kind {
        Kind::Envoy => tools::consul(),
        Kind::Meshd => tools::ours("meshd"),
    };
    world.spawn("mesh-gateway", &program, words)
}

/// Both take the same words, Envoy's launcher with one dash.
fn words(kind: Kind, address: SocketAddr, admin: SocketAddr, more: &[&str]) -> Vec<String> {
    let (command, dash) = match kind {
        Kind::Envoy => ("connect envoy", "-"),
        Kind::Meshd => ("run", "--"),
    };
    let mut words = format!(
        "{command} {dash}gateway mesh {dash}service mesh-gateway {dash}address {address} \
         {dash}wan-address {address} {dash}register {dash}http-addr {HTTP_API} \
         {dash}admin-bind {admin}"
    );
    for word in more {
        words.push_str(&format!(" {dash}{word}"));
    }
    if kind == Kind::Envoy {
        words.push_str(&format!(
            " -grpc-addr http://127.0.0.1:8502 -ignore-envoy-compatibility -envoy-binary {} \
             -- --concurrency 1 -l warn",
            tools::envoy().display()
        ));
    }
    words.split_whitespace().map(str::to_owned).collect()
}
