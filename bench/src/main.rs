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
use std::sync::{Mutex, PoisonError};
use std::thread;

use anyhow::{Context, bail, ensure};
use clap::Parser;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use case::Case;
use report::Table;
use turns::Plan;

/// Cases at a time in a smoke run, where figures mean nothing: most of a case is
/// waiting for its stage.
const SMOKE_WORKERS: usize = 4;

/// Open files of this process and those it starts: 10,000 idle connections, and
/// what a proxy may hold behind each.
const OPEN_FILES: u64 = 65_536;

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
    allow_files()?;
    let cases = if options.cases.is_empty() {
        Case::all()
    } else {
        options.cases.clone()
    };
    std::fs::create_dir_all(&options.results).context("creating the folder of results")?;
    let workers = if options.smoke { SMOKE_WORKERS } else { 1 };
    let mut ended = run(&cases, &options, workers)?;
    // As declared, whoever ended first.
    ended.sort_by_key(|(case, _)| cases.iter().position(|listed| listed == case));
    let failed: Vec<_> = ended
        .iter()
        .filter(|(_, table)| table.is_none())
        .map(|(case, _)| case.to_string())
        .collect();
    let finished: Vec<_> = ended.into_iter().filter_map(|(_, table)| table).collect();
    let table = report::markdown(&finished);
    std::fs::write(options.results.join("table.md"), table).context("writing the table")?;
    if !failed.is_empty() {
        bail!("did not run: {}", failed.join(", "));
    }
    Ok(())
}

/// Runs the cases, so many at a time. A case without a table did not run.
fn run(
    cases: &[Case],
    options: &Options,
    workers: usize,
) -> anyhow::Result<Vec<(Case, Option<Table>)>> {
    let queue = Mutex::new(cases.iter().copied());
    let take = || queue.lock().unwrap_or_else(PoisonError::into_inner).next();
    let worker = || -> anyhow::Result<Vec<_>> {
        let mut ended = Vec::new();
        while let Some(case) = take() {
            ended.push((case, one(case, options)?));
        }
        Ok(ended)
    };
    thread::scope(|scope| {
        let running: Vec<_> = (0..workers).map(|_| scope.spawn(worker)).collect();
        let mut ended = Vec::new();
        for worker in running {
            ended.extend(worker.join().expect("a worker that passes panics on")?);
        }
        Ok(ended)
    })
}

fn one(case: Case, options: &Options) -> anyhow::Result<Option<Table>> {
    let plan = if options.smoke {
        Plan::SMOKE
    } else {
        case.plan()
    };
    report::progress(&case.to_string());
    // The harness panics where a stage can't be set: that ends one case, not the run.
    let Ok(table) = thread::spawn(move || case::run(case, plan)).join() else {
        return Ok(None);
    };
    report::write_json(&options.results, &table)?;
    report::progress(&report::markdown(std::slice::from_ref(&table)));
    Ok(Some(table))
}

/// For this process and all it starts. A hard limit that is lower is raised, which takes root;
/// where even root may not, the one case that needs so many says so.
fn allow_files() -> anyhow::Result<()> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).context("asking for limits")?;
    if soft >= OPEN_FILES {
        return Ok(());
    }
    let wanted = [OPEN_FILES, hard.min(OPEN_FILES)];
    let allowed = wanted
        .into_iter()
        .any(|files| setrlimit(Resource::RLIMIT_NOFILE, files, hard.max(files)).is_ok());
    ensure!(allowed, "cannot raise the limit of open files, {soft}");
    Ok(())
}
