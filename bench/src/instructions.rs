//! `instructions`: how many instructions the proxies execute for one request.
//!
//! Unlike time, that is the same on every machine and however busy it is, so a
//! change that makes requests dearer fails a check instead of hiding in noise.
//! The program runs itself under callgrind, with client and origin outside, and
//! takes the difference of two runs of different length: starting, handshakes and
//! the end are in both.

#[path = "instructions/budget.rs"]
mod budget;
#[path = "instructions/certificates.rs"]
mod certificates;
#[path = "instructions/drive.rs"]
mod drive;
#[path = "instructions/scene.rs"]
mod scene;

use std::io::Write as _;
use std::path::PathBuf;

use anyhow::bail;
use clap::{Parser, Subcommand, ValueEnum};

use budget::Budget;
use scene::Scene;

/// The programs' own: what a request allocates is part of what it costs.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Counts the instructions of one proxied request.
#[derive(Debug, Parser)]
struct Options {
    #[command(subcommand)]
    command: Option<Command>,
    /// Where the expected counts stand.
    #[arg(long, default_value = "bench/instructions.txt")]
    file: PathBuf,
    /// Writes what was counted into the file, with this note on why it changed.
    #[arg(long, value_name = "NOTE")]
    update: Option<String>,
    /// Keeps the profile of each scene's longer run here, for `callgrind_annotate`.
    #[arg(long, value_name = "FOLDER")]
    profiles: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serves one scene until its input ends. What runs under callgrind.
    Serve {
        /// Scene.
        scene: Scene,
        /// Port of the origin.
        origin: u16,
    },
}

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    if let Some(Command::Serve { scene, origin }) = options.command {
        return scene::serve(scene, origin);
    }
    let mut budget = Budget::read(&options.file)?;
    let mut exceeded = Vec::new();
    for &scene in Scene::value_variants() {
        let counted = drive::count(scene, options.profiles.as_deref())?;
        let judged = budget.judge(scene.name(), counted);
        tell(&format!("{judged}"));
        if judged.is_exceeded() {
            exceeded.push(scene.name());
        }
        if let Some(note) = &options.update {
            budget.set(scene.name(), counted, note);
        }
    }
    if options.update.is_some() {
        return budget.write(&options.file);
    }
    if !exceeded.is_empty() {
        bail!(
            "requests became dearer: {}. Mend it, or say why: make instructions NOTE='…'",
            exceeded.join(", ")
        );
    }
    Ok(())
}

fn tell(text: &str) {
    // Nobody reads it any more: the exit status says the rest.
    let _ = writeln!(std::io::stdout(), "{text}");
}
