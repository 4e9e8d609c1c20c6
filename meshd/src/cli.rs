//! The command line: words that scripts rely on, so they don't change.

use clap::{Args, Parser, Subcommand};
use meridian_program::validate::Validate;
use meridian_program::{ConsulOptions, ProgramOptions};
use meridian_sources::consul_mesh::Sidecar;
use std::path::PathBuf;

/// A service's sidecar in Consul's mesh.
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

  With ACLs, a token that may read the service, and another agent:
    meshd run --sidecar-for web --token-file /run/secrets/consul --http-addr https://agent:8501

  Ask it:
    curl http://127.0.0.1:19000/ready
    curl http://127.0.0.1:19000/snapshot

Exit codes: 0 drained, 1 could not start or was cut short, 2 the configuration is at fault.
A second SIGTERM or SIGINT ends at once with code 1.";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a sidecar until SIGTERM or SIGINT.
    Run(Run),
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
    pub(crate) consul: ConsulOptions,
    #[command(flatten)]
    pub(crate) program: ProgramOptions,
}

/// Which sidecar to be.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct Which {
    /// Be the sidecar of the service instance with this ID.
    #[arg(long, value_name = "ID")]
    sidecar_for: Option<String>,
    /// Be the proxy with this ID, where an instance has several.
    #[arg(long, value_name = "ID")]
    proxy_id: Option<String>,
}

impl Which {
    /// The sidecar, and its name in traces.
    pub(crate) fn sidecar(self) -> (Sidecar, String) {
        match (self.sidecar_for, self.proxy_id) {
            (Some(service), _) => (Sidecar::SidecarFor(service.clone()), service),
            // The group is required, so this is the proxy's.
            (None, proxy) => {
                let proxy = proxy.unwrap_or_default();
                (Sidecar::ProxyId(proxy.clone()), proxy)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn run(words: &str) -> Result<Run, clap::Error> {
        let words = ["meshd", "run"].into_iter().chain(words.split_whitespace());
        Cli::try_parse_from(words).map(|cli| match cli.command {
            Command::Run(run) => run,
            Command::Validate(_) => panic!("not what was said"),
        })
    }

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn takes_the_words_of_the_scenarios_in_any_order() {
        let run = run("--admin-bind 127.0.0.1:19001 --token t --sidecar-for web \
                       --http-addr http://127.0.0.1:8500")
        .unwrap();
        assert_eq!(run.program.admin_bind.unwrap().port(), 19001);
        assert_eq!(run.consul.token.as_deref(), Some("t"));
        let (sidecar, name) = run.which.sidecar();
        assert_eq!(sidecar, Sidecar::SidecarFor("web".into()));
        assert_eq!(name, "web");
    }

    #[test]
    fn wants_exactly_one_sidecar() {
        assert!(run("").is_err());
        assert!(run("--sidecar-for a --proxy-id b").is_err());
        let (sidecar, _) = run("--proxy-id b").unwrap().which.sidecar();
        assert_eq!(sidecar, Sidecar::ProxyId("b".into()));
    }
}
