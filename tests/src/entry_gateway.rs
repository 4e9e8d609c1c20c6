//! A gateway that Consul's entries describe: an ingress or an API gateway.

use std::net::SocketAddr;
use std::time::Duration;

use crate::admin::Admin;
use crate::consul::HTTP_API;
use crate::process::Process;
use crate::tools;
use crate::wait;
use crate::world::{World, listens};

/// The scenarios allow a proxy this long to become ready.
const READY: Duration = Duration::from_secs(30);

/// Which gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// As an `ingress-gateway` entry says.
    Ingress,
    /// As an `api-gateway` entry and its routes say.
    Api,
}

/// A running gateway, registered by itself at 127.0.0.1:8443.
#[derive(Debug)]
pub struct EntryGateway {
    /// The process, for signals, logs and memory.
    pub process: Process,
    /// Its admin listener.
    pub admin: Admin,
    name: String,
    words: Vec<String>,
}

impl EntryGateway {
    /// Starts a gateway and waits until it is ready, with these listeners open.
    pub async fn start(world: &World, kind: Kind, name: &str, ports: &[u16]) -> Self {
        let admin = SocketAddr::from(([127, 0, 0, 1], world.fresh_port()));
        let kind = match kind {
            Kind::Ingress => "ingress",
            Kind::Api => "api",
        };
        let words = format!(
            "run --gateway {kind} --service {name} --address 127.0.0.1:8443 --register \
             --http-addr {HTTP_API} --admin-bind {admin}"
        );
        let words: Vec<_> = words.split_whitespace().map(str::to_owned).collect();
        let mut gateway = Self {
            process: world.spawn(name, &tools::ours("gateway"), &words),
            admin: Admin::new(admin),
            name: name.to_owned(),
            words,
        };
        gateway.ready(ports).await;
        gateway
    }

    /// Kills the process and starts it again, with the same words.
    pub async fn restart(&mut self, world: &World, ports: &[u16]) {
        self.process.kill();
        self.process = world.spawn(&self.name, &tools::ours("gateway"), &self.words);
        self.ready(ports).await;
    }

    async fn ready(&mut self, ports: &[u16]) {
        let what = format!("{} is ready", self.process.name());
        wait::until(&what, READY, async || {
            self.process.assert_running();
            match self.admin.ready().await? {
                200 => {}
                status => return Err(format!("/ready answers {status}")),
            }
            let missing: Vec<_> = ports.iter().filter(|port| !listens(**port)).collect();
            if missing.is_empty() {
                Ok(())
            } else {
                Err(format!("nothing listens on {missing:?}"))
            }
        })
        .await;
    }
}
