//! The command line: words that scripts rely on, so they don't change.

use clap::{Args, Parser, Subcommand};
use meridian_program::ConsulOptions;
use meridian_program::validate::Validate;
use std::net::SocketAddr;

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

  Check a gateway's configuration:
    meridian validate gateway.yaml";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a gateway, two services and their sidecars in this process, until Ctrl-C.
    Dev(Dev),
    /// Run the same as separate processes on a Consul agent, send a request through, and stop.
    Demo(Demo),
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
    fn dev_needs_no_words() {
        let Command::Dev(dev) = Cli::try_parse_from(["meridian", "dev"]).unwrap().command else {
            panic!("not what was said");
        };
        assert_eq!((dev.port, dev.admin_port), (8080, 19000));
    }
}
