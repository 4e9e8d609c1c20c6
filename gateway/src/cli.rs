//! The command line: words that scripts rely on, so they don't change.

use clap::{Args, Parser, Subcommand};
use meridian_program::validate::Validate;
use meridian_program::{ConsulOptions, ProgramOptions};
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
    #[arg(long, value_name = "FILE")]
    pub(crate) config: PathBuf,
    #[command(flatten)]
    pub(crate) consul: ConsulOptions,
    #[command(flatten)]
    pub(crate) program: ProgramOptions,
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
        assert_eq!(run.config, PathBuf::from("g.yaml"));
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
