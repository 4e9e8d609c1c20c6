//! `bench [CASE]...`: Meridian and its peers under the same load, in turns, so
//! that whatever else the machine does meets all of them. docs/performance.md
//! says what the cases are and how to read the figures.

mod account;
mod load;
mod turns;

mod edge;
mod mesh;
mod origin;

mod case;
mod report;

use std::path::PathBuf;
use std::thread;

use anyhow::{Context, bail};
use clap::Parser;

use case::Case;
use turns::Plan;

/// Measures Meridian against Envoy, nginx and HAProxy.
#[derive(Debug, Parser)]
struct Options {
    /// Cases to run; all of them when none is named.
    #[arg(value_enum)]
    cases: Vec<Case>,
    /// One short round: does each case still run? The figures mean nothing.
    #[arg(long)]
    smoke: bool,
    /// Where results are written: one JSON file a case, and table.md.
    #[arg(long, default_value = "bench/results")]
    results: PathBuf,
}

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let plan = if options.smoke {
        Plan::SMOKE
    } else {
        Plan::FULL
    };
    let cases = if options.cases.is_empty() {
        Case::all()
    } else {
        options.cases
    };
    std::fs::create_dir_all(&options.results).context("creating the folder of results")?;
    let mut finished = Vec::new();
    let mut failed = Vec::new();
    for case in cases {
        report::progress(&format!("{case}"));
        // The harness panics where a stage can't be set: that ends one case, not the run.
        match thread::spawn(move || case::run(case, plan)).join() {
            Ok(table) => {
                report::write_json(&options.results, &table)?;
                report::progress(&report::markdown(std::slice::from_ref(&table)));
                finished.push(table);
            }
            Err(_) => failed.push(case.to_string()),
        }
    }
    let table = report::markdown(&finished);
    std::fs::write(options.results.join("table.md"), table).context("writing the table")?;
    if !failed.is_empty() {
        bail!("did not run: {}", failed.join(", "));
    }
    Ok(())
}
