//! A gateway that Consul's entries describe, an ingress or an API gateway: Meridian's or a real
//! Envoy.

use std::net::SocketAddr;

use crate::admin::Admin;
use crate::consul::HTTP_API;
use crate::process::Process;
use crate::ready::ready;
use crate::tools;
use crate::world::World;

/// Which gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// As an `ingress-gateway` entry says.
    Ingress,
    /// As an `api-gateway` entry and its routes say.
    Api,
}

/// Which program it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program {
    /// The peer and the oracle.
    Envoy,
    /// The gateway under test.
    Gateway,
}

/// A running gateway, registered by itself at 127.0.0.1:8443.
#[derive(Debug)]
pub struct EntryGateway {
    /// The process, for signals, logs and memory.
    pub process: Process,
    /// Its admin listener.
    pub admin: Admin,
    program: Program,
    name: String,
    words: Vec<String>,
}

impl EntryGateway {
    /// Starts Meridian's gateway and waits until it is ready, with these listeners open.
    pub async fn start(world: &World, kind: Kind, name: &str, ports: &[u16]) -> Self {
        Self::start_as(world, Program::Gateway, kind, name, ports).await
    }

    /// As [`EntryGateway::start`], with either program.
    pub async fn start_as(
        world: &World,
        program: Program,
        kind: Kind,
        name: &str,
        ports: &[u16],
    ) -> Self {
        let mut gateway = Self::launch(world, program, kind, name);
        gateway.ready(ports).await;
        gateway
    }

    /// Starts a gateway without waiting for it.
    pub fn launch(world: &World, program: Program, kind: Kind, name: &str) -> Self {
        let admin = SocketAddr::from(([127, 0, 0, 1], world.fresh_port()));
        let words = words(program, kind, name, admin);
        Self {
            process: spawn(world, program, name, &words),
            admin: Admin::new(admin),
            program,
            name: name.to_owned(),
            words,
        }
    }

    /// Kills the process and starts it again, with the same words.
    pub async fn restart(&mut self, world: &World, ports: &[u16]) {
        self.process.kill();
        self.process = spawn(world, self.program, &self.name, &self.words);
        self.ready(ports).await;
    }

    /// Waits until it is ready, with these listeners open.
    pub async fn ready(&mut self, ports: &[u16]) {
        ready(&mut self.process, self.admin, ports).await;
    }
}

fn spawn(world: &World, program: Program, name: &str, words: &[String]) -> Process {
    let path = match program {
        // `consul connect envoy` writes Envoy's bootstrap and becomes Envoy.
        Program::Envoy => tools::consul(),
        Program::Gateway => tools::ours("gateway"),
    };
    world.spawn(name, &path, words)
}

/// Both take the same words, Envoy's launcher with one dash.
fn words(program: Program, kind: Kind, name: &str, admin: SocketAddr) -> Vec<String> {
    let (command, dash) = match program {
        Program::Envoy => ("connect envoy", "-"),
        Program::Gateway => ("run", "--"),
    };
    let kind = match kind {
        Kind::Ingress => "ingress",
        Kind::Api => "api",
    };
    let mut words = format!(
        "{command} {dash}gateway {kind} {dash}service {name} {dash}address 127.0.0.1:8443 \
         {dash}register {dash}http-addr {HTTP_API} {dash}admin-bind {admin}"
    );
    if program == Program::Envoy {
        words.push_str(&format!(
            " -grpc-addr http://127.0.0.1:8502 -ignore-envoy-compatibility -envoy-binary {} \
             -- --concurrency 1 -l warn",
            tools::envoy().display()
        ));
    }
    words.split_whitespace().map(str::to_owned).collect()
}
