//! How the parts of a sidecar are put together.

use crate::cli::{MemoryWords, Run, Wanted};
use consul::ClientConfig;
use meridian_config::{MeshFile, Startup};
use meridian_program::{Frame, Named, Outcome, RunError};
use meridian_sources::{
    ConsulOptions, Memory, MemoryError, MemoryOptions, consul_mesh, sni_gateway,
};
use meridian_telemetry::metrics::BuildInfo;
use std::num::NonZeroUsize;

const BUILD: BuildInfo = BuildInfo {
    program: "meshd",
    version: env!("CARGO_PKG_VERSION"),
};

/// A sidecar shares its machine with the application and others of its kind:
/// two threads move more than most applications can answer.
const MOST_WORKERS: usize = 2;

/// Everything that was asked for, checked, before anything is started.
pub(crate) struct Plan {
    frame: Frame,
    wanted: Wanted,
    memory: Option<Memory>,
}

/// What is wrong with the command line or the file.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PlanError {
    /// As of any proxy.
    #[error(transparent)]
    Frame(#[from] meridian_program::PlanError),
    /// Keys have nowhere to go.
    #[error("--keep-keys needs --state-dir, or `state.directory` in the file")]
    NoDirectory,
    /// What the last run kept can't be used.
    #[error("open the state of the last run")]
    Memory(#[source] MemoryError),
}

impl Plan {
    /// Reads everything that can be wrong.
    pub(crate) fn new(run: Run) -> Result<Self, PlanError> {
        let file = startup(&run)?;
        let (wanted, service) = run.which.wanted();
        let every = meridian_program::settings::every_processor();
        let named = Named {
            service: &service,
            workers: every.min(NonZeroUsize::new(MOST_WORKERS).unwrap_or(every)),
        };
        let frame = Frame::new(named, &file, &run.program, &run.consul)?;
        let memory = memory(&run.memory, &file, &wanted, frame.client.config())?;
        Ok(Self {
            frame,
            wanted,
            memory,
        })
    }

    /// Runs until the end is asked for.
    pub(crate) async fn run(self) -> Result<Outcome, RunError> {
        let options = ConsulOptions {
            memory: self.memory,
            ..ConsulOptions::default()
        };
        let source = |client, counts| match self.wanted {
            Wanted::Sidecar(sidecar) => consul_mesh::run(client, sidecar, options, counts),
            Wanted::Gateway(gateway) => sni_gateway::run(client, gateway, options, counts),
        };
        self.frame.run(BUILD, source).await
    }
}

/// The memory of a proxy at one agent: another one's is of no use to it.
fn memory(
    words: &MemoryWords,
    file: &Startup,
    wanted: &Wanted,
    config: &ClientConfig,
) -> Result<Option<Memory>, PlanError> {
    let written = file.state.as_ref();
    let directory = words.state_dir.as_ref();
    let keep_keys = words.keep_keys || written.is_some_and(|state| state.keep_keys);
    let Some(directory) = directory.or_else(|| Some(&written?.directory)) else {
        return if keep_keys {
            Err(PlanError::NoDirectory)
        } else {
            Ok(None)
        };
    };
    let options = MemoryOptions {
        directory: directory.clone(),
        keep_keys,
    };
    let ClientConfig {
        address,
        datacenter,
        namespace,
        partition,
        ..
    } = config;
    let owner = format!("{wanted:?} at {address:?} {datacenter:?} {namespace:?} {partition:?}");
    Memory::open(&options, &owner)
        .map(Some)
        .map_err(PlanError::Memory)
}

fn startup(run: &Run) -> Result<Startup, meridian_program::PlanError> {
    let Some(path) = &run.config else {
        return Ok(Startup::default());
    };
    let loaded = MeshFile::load(path).map_err(meridian_program::PlanError::File)?;
    Ok(loaded.value.startup)
}
