//! `meridian`: the operator's tool.
//!
//! Reads as a table of contents: [`cli`] holds the words, and each subcommand
//! has a module.

mod application;
mod check;
mod cli;
mod demo;
mod dev;
mod fetch;
mod gateway_file;
#[cfg(test)]
mod metrics_page;
mod ports;

use anyhow::Context;
use clap::Parser;
use cli::{Cli, Command};
use meridian_config::GatewayFile;
use meridian_program::Outcome;
use std::process::ExitCode;

/// As in the programs that `dev` stands for.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(outcome) => outcome.into(),
        Err(error) => {
            failed(&error);
            Outcome::Failed.into()
        }
    }
}

fn run(command: Command) -> anyhow::Result<Outcome> {
    match command {
        Command::Dev(dev) => on_runtime(dev::run(&dev)),
        Command::Demo(demo) => on_runtime(demo::run(&demo)),
        Command::Validate(validate) => validate
            .run(GatewayFile::load)
            .context("write to standard output"),
        Command::Check(check) => on_runtime(check::run(*check)),
        Command::App(app) => on_runtime(application::run(app)),
    }
}

/// Runs on this thread, as the control plane of all programs does.
fn on_runtime<E>(work: impl Future<Output = Result<Outcome, E>>) -> anyhow::Result<Outcome>
where
    E: std::error::Error + Send + Sync + 'static,
{
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("start the runtime")?;
    let outcome = runtime.block_on(work)?;
    runtime.shutdown_background();
    Ok(outcome)
}

#[expect(clippy::print_stderr, reason = "there may be no log")]
fn failed(error: &anyhow::Error) {
    eprintln!("meridian: {error:#}");
}
