//! The command line: words that scripts rely on, so they don't change.

use clap::{Args, Parser, Subcommand};
use meridian_program::ConsulOptions;
use meridian_program::validate::Validate;
use std::net::SocketAddr;
use std::num::NonZeroU64;

/// The operator's tool of Meridian, a gateway and mesh for Consul.
#[derive(Debug, Parser)]
#[command(name = "meridian", version, arg_required_else_help = true, after_help = EXAMPLES)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXAMPLES: &str = "\
Examples:
  A whole mesh in one process, with nothing else installed:
    meridian dev
    curl http://127.0.0.1:8080/

  The same on a real Consul agent, with a real Envoy as one of the sidecars:
    meridian demo --envoy

  Check a sidecar's or a gateway's whole way into the mesh, with the options that it is run with:
    meridian check --sidecar-for web --token-file /run/secrets/consul
    meridian check --service edge

  Check a gateway's configuration:
    meridian validate gateway.yaml";

const CHECKING: &str = "\
Run it where the proxy runs, with the proxy's own token: then a right that is missing shows.
Nothing is written, and nothing is sent to an application but a handshake.

What is looked at, in this order:
  agent          does it answer, has its cluster a leader, which version, do the clocks agree
  token          is it valid, what is it, when does it end
  registration   is there such a proxy, does it listen, do its checks let others call it
  certificates   roots and leaf: valid, and for how long
  upstream NAME  of a sidecar: its discovery chain or what its query finds, and whether intentions
                 let us call that
  entry, routes  of an ingress or API gateway: what is bound to its listeners, and what Consul does
                 not accept
  service NAME   of a gateway: its chain and intentions; of a terminating one its leaf, too
  configuration  what of it can't be honoured
  listeners      of an ingress or API gateway: are they open, and how long their certificates last
  datacenters    of a mesh gateway: can the gateways of others be reached
  handshakes     each healthy instance, called with our certificate and known by its own; outside
                 of the mesh as the gateway's link says

Each line begins with √ (good), ‼ (works, but should be known) or × (broken), and what to do about
it stands below. What follows from something broken is left out.

Exit codes: 0 nothing is broken, 1 something is, 2 the options are at fault.

Examples:
  meridian check --sidecar-for web
  meridian check --service mesh-gateway
  meridian check --proxy-id web-sidecar-proxy --http-addr https://agent:8501 --ca-file ca.pem
  meridian check --sidecar-for web --json | jq '.groups[].checks[] | select(.state == \"failed\")'";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a gateway, two services and their sidecars in this process, until Ctrl-C.
    Dev(Dev),
    /// Run the same as separate processes on a Consul agent, send a request through, and stop.
    Demo(Demo),
    /// Check a proxy's way into the mesh: agent, token, certificates, whom it calls; with remedies.
    Check(Box<Check>),
    /// Check a gateway's configuration file and report every error at once.
    Validate(Validate),
    /// Run one of the demo services: it answers with what it received.
    App(App),
}

#[derive(Debug, Args)]
pub(crate) struct Dev {
    /// Port of the gateway on 127.0.0.1; 0 takes any.
    #[arg(long, default_value_t = 8080, value_name = "PORT")]
    pub(crate) port: u16,
    /// Admin port of the gateway on 127.0.0.1; those of the sidecars follow it. 0 takes any three.
    #[arg(long, default_value_t = 19000, value_name = "PORT")]
    pub(crate) admin_port: u16,
    /// What is logged, as in RUST_LOG.
    #[arg(
        long,
        value_name = "FILTER",
        default_value = "warn",
        env = "RUST_LOG",
        hide_env_values = true
    )]
    pub(crate) log_level: String,
}

#[derive(Debug, Args)]
pub(crate) struct Demo {
    /// Leave everything running, and print how to stop it.
    #[arg(long)]
    pub(crate) keep: bool,
    /// Put a real Envoy in place of the sidecar of `demo-web`. Needs ENVOY_BIN, or envoy on PATH.
    #[arg(long)]
    pub(crate) envoy: bool,
    #[command(flatten)]
    pub(crate) consul: ConsulOptions,
}

#[derive(Debug, Args)]
#[command(after_help = CHECKING)]
pub(crate) struct Check {
    #[command(flatten)]
    pub(crate) which: Whose,
    /// Answer with one JSON document: `{"ok", "failed", "warnings", "groups": [{"name", "checks": [{"state", "finding", "remedy"}]}]}`.
    #[arg(long)]
    pub(crate) json: bool,
    /// Longest wait for one answer.
    #[arg(long, value_name = "SECONDS", default_value = "10")]
    pub(crate) timeout: NonZeroU64,
    #[command(flatten)]
    pub(crate) consul: ConsulOptions,
}

/// Whose way is checked.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct Whose {
    /// The sidecar of the service instance with this ID.
    #[arg(long, value_name = "ID")]
    pub(crate) sidecar_for: Option<String>,
    /// The sidecar or gateway with this ID.
    #[arg(long, value_name = "ID")]
    pub(crate) proxy_id: Option<String>,
    /// The gateway that is registered as this service: a mesh, terminating, ingress or API gateway.
    #[arg(long, value_name = "NAME")]
    pub(crate) service: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct App {
    /// Name that it answers with.
    #[arg(long)]
    pub(crate) name: String,
    /// Where to listen.
    #[arg(long, value_name = "IP:PORT")]
    pub(crate) listen: SocketAddr,
    /// A service to ask before answering.
    #[arg(long, value_name = "IP:PORT")]
    pub(crate) upstream: Option<SocketAddr>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn check_wants_exactly_one_proxy_and_takes_its_options() {
        let parse = |words: &str| {
            let words = ["meridian", "check"]
                .into_iter()
                .chain(words.split_whitespace());
            Cli::try_parse_from(words).map(|cli| match cli.command {
                Command::Check(check) => *check,
                _ => panic!("not what was said"),
            })
        };
        assert!(parse("").is_err());
        assert!(parse("--sidecar-for a --proxy-id b").is_err());
        assert!(parse("--service a --proxy-id b").is_err());
        assert_eq!(
            parse("--service a").unwrap().which.service.as_deref(),
            Some("a")
        );
        let check = parse("--sidecar-for web --json --token-file t --http-addr h:1").unwrap();
        assert_eq!(check.which.sidecar_for.as_deref(), Some("web"));
        assert!(check.json && check.consul.token_file.is_some());
        assert_eq!(check.timeout.get(), 10);
    }

    #[test]
    fn dev_needs_no_words() {
        let Command::Dev(dev) = Cli::try_parse_from(["meridian", "dev"]).unwrap().command else {
            panic!("not what was said");
        };
        assert_eq!((dev.port, dev.admin_port), (8080, 19000));
    }
}
