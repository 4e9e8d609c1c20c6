//! A terminating gateway, registered and started: Meridian's or a real Envoy.

use std::net::SocketAddr;
use std::path::Path;

use crate::admin::Admin;
use crate::consul::HTTP_API;
use crate::process::Process;
use crate::ready::ready;
use crate::sidecar::Kind;
use crate::tools;
use crate::world::World;

/// Name of the gateway's service.
pub const NAME: &str = "tgw";
/// Where it listens, on 127.0.0.1.
pub const PORT: u16 = 8443;

/// A running terminating gateway.
#[derive(Debug)]
pub struct TerminatingGateway {
    /// The process, for signals and logs.
    pub process: Process,
    /// Its admin listener.
    pub admin: Admin,
}

impl TerminatingGateway {
    /// Starts it, with a resolver file of its own, and waits until it is ready.
    pub async fn start(world: &World, kind: Kind, resolver: &Path) -> Self {
        let admin = SocketAddr::from(([127, 0, 0, 1], world.fresh_port()));
        let (program, dash) = match kind {
            Kind::Envoy => (tools::consul(), "-"),
            Kind::Meshd => (tools::ours("meshd"), "--"),
        };
        let mut words = vec![
            "--mount".to_owned(),
            "sh".to_owned(),
            "-c".to_owned(),
            // The file is the gateway's alone: a mount namespace of its own.
            "mount --bind \"$0\" /etc/resolv.conf && exec \"$@\"".to_owned(),
            resolver.display().to_string(),
            program.display().to_string(),
        ];
        words.extend(match kind {
            Kind::Envoy => vec!["connect".to_owned(), "envoy".to_owned()],
            Kind::Meshd => vec!["run".to_owned()],
        });
        let options = format!(
            "{dash}gateway terminating {dash}service {NAME} {dash}address 127.0.0.1:{PORT} \
             {dash}register {dash}http-addr {HTTP_API} {dash}admin-bind {admin}"
        );
        words.extend(options.split_whitespace().map(str::to_owned));
        if kind == Kind::Envoy {
            let more = format!(
                "-grpc-addr http://127.0.0.1:8502 -ignore-envoy-compatibility -envoy-binary {} \
                 -- --concurrency 1 -l warn",
                tools::envoy().display()
            );
            words.extend(more.split_whitespace().map(str::to_owned));
        }
        let mut gateway = Self {
            process: world.spawn(NAME, Path::new("unshare"), &words),
            admin: Admin::new(admin),
        };
        gateway.ready().await;
        gateway
    }

    async fn ready(&mut self) {
        ready(&mut self.process, self.admin, &[PORT]).await;
    }
}
