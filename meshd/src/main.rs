//! `meshd`: a service's sidecar in Consul's mesh.
//!
//! Reads as a table of contents: the words of the command line are in [`cli`],
//! the order in which the parts start is in [`app`].

mod app;
mod cli;

use clap::Parser;
use cli::{Cli, Command};
use meridian_config::MeshFile;
use meridian_program::{Outcome, control};
use std::process::ExitCode;

/// Returns memory to the system sooner than glibc's, and fragments less under
/// many short requests on several threads.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Run(run) => match app::Plan::new(*run) {
            Ok(plan) => control::run(plan.run())
                .unwrap_or_else(|error| failed(&error.into(), Outcome::Failed)),
            Err(error) => failed(&error.into(), Outcome::Misconfigured),
        },
        Command::Validate(validate) => validate
            .run(MeshFile::load)
            .unwrap_or_else(|error| failed(&error.into(), Outcome::Failed)),
    };
    outcome.into()
}

#[expect(clippy::print_stderr, reason = "the log may not be set up yet")]
fn failed(error: &anyhow::Error, outcome: Outcome) -> Outcome {
    eprintln!("meshd: {error:#}");
    outcome
}
