//! `meshd`: a service's sidecar in Consul's mesh.
//!
//! Reads as a table of contents: the words of the command line are in [`cli`],
//! the order in which the parts start is in [`app`].

mod app;
mod cli;

use anyhow::Context;
use clap::Parser;
use cli::{Cli, Command};
use meridian_config::MeshFile;
use meridian_program::Outcome;
use std::process::ExitCode;

/// Returns memory to the system sooner than glibc's, and fragments less under
/// many short requests on several threads.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Run(run) => match app::Plan::new(*run) {
            Ok(plan) => serve(plan).unwrap_or_else(|error| failed(&error, Outcome::Failed)),
            Err(error) => failed(&error.into(), Outcome::Misconfigured),
        },
        Command::Validate(validate) => validate
            .run(MeshFile::load)
            .unwrap_or_else(|error| failed(&error.into(), Outcome::Failed)),
    };
    outcome.into()
}

/// Runs the control plane on this thread; the data plane has threads of its own.
fn serve(plan: app::Plan) -> anyhow::Result<Outcome> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("start the control runtime")?;
    let outcome = runtime.block_on(plan.run())?;
    // A look-up that still waits for the system must not hold up the end.
    runtime.shutdown_background();
    Ok(outcome)
}

#[expect(clippy::print_stderr, reason = "the log may not be set up yet")]
fn failed(error: &anyhow::Error, outcome: Outcome) -> Outcome {
    eprintln!("meshd: {error:#}");
    outcome
}
