//! The command line: words that scripts rely on, so they don't change.

use clap::{Args, Parser, Subcommand, ValueEnum};
use meridian_program::validate::Validate;
use meridian_program::{ConsulOptions, ProgramOptions};
use meridian_sources::consul_gateway::{Gateway, Kind};
use std::net::SocketAddr;
use std::path::PathBuf;

/// The edge gateway: routes requests from outside to services in and outside of Consul's mesh.
#[derive(Debug, Parser)]
#[command(name = "gateway", version, arg_required_else_help = true, after_help = EXAMPLES)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXAMPLES: &str = "\
Examples:
  Check a file, then run it; it is read again whenever it changes, and on SIGHUP:
    gateway validate gateway.yaml
    gateway run --config gateway.yaml

  Be a gateway that Consul's configuration entries describe:
    gateway run --gateway api --service edge --address 10.0.0.1:8443 --register

  A whole file:
    version: edge/v1
    listeners:
    - {name: http, port: 8080, protocol: HTTP}
    backends:
    - {name: web, discovery: {static: {endpoints: [{address: '127.0.0.1:9000'}]}}}
    routes:
    - name: web
      parentRefs: [{name: http}]
      rules: [{backendRefs: [{name: web}]}]

  Help from an editor that knows JSON Schema:
    gateway schema > gateway.schema.json

Exit codes: 0 drained, 1 could not start or was cut short, 2 the configuration is at fault.
A second SIGTERM or SIGINT ends at once with code 1.";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the gateway until SIGTERM or SIGINT.
    Run(Box<Run>),
    /// Check a configuration file and report every error at once.
    Validate(Validate),
    /// Print the JSON Schema of the configuration file.
    Schema,
}

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Run {
    /// The configuration file: YAML, `version: edge/v1`.
    #[arg(long, value_name = "FILE", required_unless_present = "gateway")]
    pub(crate) config: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) entry: EntryOptions,
    #[command(flatten)]
    pub(crate) consul: ConsulOptions,
    #[command(flatten)]
    pub(crate) program: ProgramOptions,
}

/// A gateway that is configured in Consul rather than in a file, with the words of
/// `consul connect envoy`.
#[derive(Debug, Args)]
#[command(next_help_heading = "Configured in Consul")]
pub(crate) struct EntryOptions {
    /// Be the gateway that an `api-gateway` or `ingress-gateway` entry describes.
    #[arg(long, value_name = "KIND", conflicts_with = "config", requires_all = ["service", "address"])]
    gateway: Option<EntryKind>,
    /// Name of the gateway's service and of its entry.
    #[arg(long, value_name = "NAME", requires = "gateway")]
    service: Option<String>,
    /// The gateway's registered address; listeners bind to the same host.
    #[arg(long, value_name = "IP:PORT", requires = "gateway")]
    address: Option<SocketAddr>,
    /// Register the gateway with the agent, once, at the start.
    #[arg(long, requires = "gateway")]
    register: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum EntryKind {
    Api,
    Ingress,
}

impl EntryOptions {
    /// The gateway, where one in Consul is meant.
    pub(crate) fn gateway(&self) -> Option<Gateway> {
        Some(Gateway {
            kind: match self.gateway? {
                EntryKind::Api => Kind::Api,
                EntryKind::Ingress => Kind::Ingress,
            },
            service: self.service.clone()?,
            address: self.address?,
            register: self.register,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;
    use meridian_config::GatewayFile;

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn run_wants_a_file() {
        assert!(Cli::try_parse_from(["gateway", "run"]).is_err());
        let words = [
            "gateway",
            "run",
            "--admin-bind",
            "127.0.0.1:0",
            "--config",
            "g.yaml",
        ];
        let Command::Run(run) = Cli::try_parse_from(words).unwrap().command else {
            panic!("not what was said");
        };
        assert_eq!(run.config, Some(PathBuf::from("g.yaml")));
        assert_eq!(run.entry.gateway(), None);
    }

    fn run(words: &str) -> Result<Box<Run>, clap::Error> {
        let words = ["gateway", "run"]
            .into_iter()
            .chain(words.split_whitespace());
        Cli::try_parse_from(words).map(|cli| match cli.command {
            Command::Run(run) => run,
            _ => panic!("not what was said"),
        })
    }

    #[test]
    fn takes_the_words_of_the_scenarios_in_any_order() {
        let run = run(
            "--admin-bind 127.0.0.1:19001 --register --address 10.0.0.1:8443 \
                       --service edge --gateway api --http-addr http://127.0.0.1:8500",
        )
        .unwrap();
        let expected = Gateway {
            kind: Kind::Api,
            service: "edge".into(),
            address: SocketAddr::from(([10, 0, 0, 1], 8443)),
            register: true,
        };
        assert_eq!(run.entry.gateway(), Some(expected));
    }

    #[test]
    fn a_gateway_in_consul_has_name_and_address_and_no_file() {
        assert!(run("--gateway ingress --service edge").is_err());
        assert!(run("--gateway ingress --address 10.0.0.1:8443").is_err());
        assert!(run("--gateway api --service a --address 10.0.0.1:1 --config g.yaml").is_err());
        assert!(run("--config g.yaml --register").is_err());
        assert!(run("--gateway mesh --service a --address 10.0.0.1:1").is_err());
    }

    #[test]
    fn the_file_in_the_help_is_good() {
        let (_, rest) = EXAMPLES.split_once("A whole file:\n").unwrap();
        let (file, _) = rest.split_once("\n\n").unwrap();
        assert_good(file, 4);
    }

    #[test]
    fn the_file_in_the_nomad_job_is_good() {
        let job = include_str!("../../nomad/jobs/gateway.nomad.hcl");
        let (_, rest) = job.split_once("<<-YAML\n").unwrap();
        let (file, _) = rest.rsplit_once("        YAML\n").unwrap();
        assert_good(file, 10);
    }

    fn assert_good(file: &str, indent: usize) {
        let lines = file.lines().map(|line| format!("{}\n", &line[indent..]));
        let file: String = lines.collect();
        let loaded = GatewayFile::parse(&file, "file").unwrap_or_else(|report| panic!("{report}"));
        assert!(loaded.warnings.problems.is_empty(), "{}", loaded.warnings);
    }
}
