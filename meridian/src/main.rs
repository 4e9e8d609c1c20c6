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
use meridian_program::{Outcome, control};
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
        Command::Dev(dev) => Ok(control::run(dev::run(&dev))?),
        Command::Demo(demo) => Ok(control::run(demo::run(&demo))?),
        Command::Validate(validate) => validate
            .run(GatewayFile::load)
            .context("write to standard output"),
        Command::Check(check) => Ok(control::run(check::run(*check))?),
        Command::App(app) => Ok(control::run(application::run(app))?),
    }
}

#[expect(clippy::print_stderr, reason = "there may be no log")]
fn failed(error: &anyhow::Error) {
    eprintln!("meridian: {error:#}");
}
