//! The command line: words that scripts rely on, so they don't change.

use clap::{Args, Parser, Subcommand, ValueEnum};
use meridian_program::validate::Validate;
use meridian_program::{ConsulOptions, ProgramOptions};
use meridian_sources::consul_mesh::Sidecar;
use meridian_sources::sni_gateway::{SniGateway, SniGatewayKind};
use std::net::SocketAddr;
use std::path::PathBuf;

/// A service's sidecar, or a gateway, in Consul's mesh.
#[derive(Debug, Parser)]
#[command(name = "meshd", version, arg_required_else_help = true, after_help = EXAMPLES)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXAMPLES: &str = "\
Examples:
  Register a service together with its sidecar, and run it:
    consul services register web.hcl          # service { connect { sidecar_service {} } }
    meshd run --sidecar-for web

  A gateway between datacenters, or to services outside of the mesh:
    meshd run --gateway mesh --service mesh-gateway --address 10.0.0.1:8443 \\
              --wan-address 203.0.113.1:443 --register
    meshd run --gateway terminating --service egress --address 10.0.0.1:8444 --register

  With ACLs, a token that may read the service, and another agent:
    meshd run --sidecar-for web --token-file /run/secrets/consul --http-addr https://agent:8501

  Restarts that don't need Consul, until the certificate expires:
    meshd run --sidecar-for web --state-dir /var/lib/meshd/web --keep-keys

  Ask it:
    curl http://127.0.0.1:19000/ready
    curl http://127.0.0.1:19000/snapshot

Exit codes: 0 drained, 1 could not start or was cut short, 2 the configuration is at fault.
A second SIGTERM or SIGINT ends at once with code 1.";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a sidecar or a gateway until SIGTERM or SIGINT.
    Run(Box<Run>),
    /// Check a configuration file and report every error at once.
    Validate(Validate),
}

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Run {
    #[command(flatten)]
    pub(crate) which: Which,
    /// How to run: YAML, `version: mesh/v1`. Traffic is configured in Consul, not here.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) memory: MemoryWords,
    #[command(flatten)]
    pub(crate) consul: ConsulOptions,
    #[command(flatten)]
    pub(crate) program: ProgramOptions,
}

/// What is kept for a start while Consul is away.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "State")]
pub(crate) struct MemoryWords {
    /// Keep what Consul said last in this directory, and start from it while Consul is away.
    #[arg(long, value_name = "DIRECTORY")]
    pub(crate) state_dir: Option<PathBuf>,
    /// Keep private keys there, too: without them a start has to wait for Consul.
    #[arg(long)]
    pub(crate) keep_keys: bool,
}

/// What to be.
#[derive(Debug, Args)]
pub(crate) struct Which {
    #[command(flatten)]
    one: One,
    /// Name and ID of the gateway's registration.
    #[arg(long, value_name = "NAME", requires = "gateway")]
    service: Option<String>,
    /// Where the gateway listens, and is called by its own datacenter.
    #[arg(long, value_name = "IP:PORT", requires = "gateway")]
    address: Option<SocketAddr>,
    /// Where other datacenters call the gateway, if not there.
    #[arg(long, value_name = "IP:PORT", requires = "gateway")]
    wan_address: Option<SocketAddr>,
    /// Let a mesh gateway carry the connections of Consul's own servers, where datacenters are
    /// federated through gateways.
    #[arg(long, requires = "register", requires = "wan_address")]
    expose_servers: bool,
    /// Register the gateway with the agent, once, at the start.
    #[arg(long, requires = "gateway")]
    register: bool,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct One {
    /// Be the sidecar of the service instance with this ID.
    #[arg(long, value_name = "ID")]
    sidecar_for: Option<String>,
    /// Be the proxy with this ID, where an instance has several.
    #[arg(long, value_name = "ID")]
    proxy_id: Option<String>,
    /// Be a gateway of the mesh.
    #[arg(long, value_name = "KIND", requires_all = ["service", "address"])]
    gateway: Option<GatewayKind>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum GatewayKind {
    /// Between datacenters.
    Mesh,
    /// To services outside of the mesh.
    Terminating,
}

/// What was asked for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    Sidecar(Sidecar),
    Gateway(SniGateway),
}

impl Which {
    /// What to be, and its name in traces.
    pub(crate) fn wanted(self) -> (Wanted, String) {
        if let (Some(kind), Some(name), Some(address)) =
            (self.one.gateway, self.service, self.address)
        {
            let gateway = SniGateway {
                kind: match kind {
                    GatewayKind::Mesh => SniGatewayKind::Mesh,
                    GatewayKind::Terminating => SniGatewayKind::Terminating,
                },
                name: name.clone(),
                address,
                wan_address: self.wan_address,
                expose_servers: self.expose_servers,
                register: self.register,
            };
            return (Wanted::Gateway(gateway), name);
        }
        let (sidecar, name) = match (self.one.sidecar_for, self.one.proxy_id) {
            (Some(service), _) => (Sidecar::SidecarFor(service.clone()), service),
            // The group is required, so this is the proxy's.
            (None, proxy) => {
                let proxy = proxy.unwrap_or_default();
                (Sidecar::ProxyId(proxy.clone()), proxy)
            }
        };
        (Wanted::Sidecar(sidecar), name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn run(words: &str) -> Result<Run, clap::Error> {
        let words = ["meshd", "run"].into_iter().chain(words.split_whitespace());
        Cli::try_parse_from(words).map(|cli| match cli.command {
            Command::Run(run) => *run,
            Command::Validate(_) => panic!("not what was said"),
        })
    }

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn help_shows_commands_as_a_shell_takes_them() {
        let help = Cli::command().render_help().to_string();
        assert!(help.contains("10.0.0.1:8443 \\\n"), "{help}");
    }

    #[test]
    fn takes_the_words_of_the_scenarios_in_any_order() {
        let run = run("--admin-bind 127.0.0.1:19001 --token t --sidecar-for web \
                       --http-addr http://127.0.0.1:8500")
        .unwrap();
        assert_eq!(run.program.admin_bind.unwrap().port(), 19001);
        assert_eq!(run.consul.token.as_deref(), Some("t"));
        let (wanted, name) = run.which.wanted();
        assert_eq!(wanted, Wanted::Sidecar(Sidecar::SidecarFor("web".into())));
        assert_eq!(name, "web");
    }

    #[test]
    fn wants_exactly_one_sidecar() {
        assert!(run("").is_err());
        assert!(run("--sidecar-for a --proxy-id b").is_err());
        let (wanted, _) = run("--proxy-id b").unwrap().which.wanted();
        assert_eq!(wanted, Wanted::Sidecar(Sidecar::ProxyId("b".into())));
    }

    #[test]
    fn takes_a_gateways_words() {
        let run_it = "--register --gateway mesh --service mgw --address 10.0.0.1:8443 \
                      --wan-address 1.2.3.4:443 --expose-servers";
        let (wanted, name) = run(run_it).unwrap().which.wanted();
        let Wanted::Gateway(gateway) = wanted else {
            panic!("a sidecar")
        };
        assert_eq!(name, "mgw");
        assert_eq!(gateway.kind, SniGatewayKind::Mesh);
        assert_eq!(gateway.wan_address.unwrap().port(), 443);
        assert!(gateway.register && gateway.expose_servers);
        let unreachable = "--gateway mesh --service mgw --address 1.1.1.1:1 --register";
        assert!(run(unreachable).is_ok());
        assert!(run(&format!("{unreachable} --expose-servers")).is_err());
        assert!(run("--gateway mesh --service mgw").is_err(), "no address");
        assert!(run("--gateway api --service a --address 1.1.1.1:1").is_err());
        assert!(run("--sidecar-for a --register").is_err());
        assert!(run("--sidecar-for a --gateway mesh --service a --address 1.1.1.1:1").is_err());
    }
}
