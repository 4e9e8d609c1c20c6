//! How the parts of a sidecar are put together.

use crate::cli::{MemoryWords, Run, Wanted};
use consul::{Client, ClientConfig, ConfigError};
use meridian_config::{MeshFile, Report, Startup};
use meridian_program::{
    Named, Outcome, Process, ProcessError, Settings, SettingsError, StartError,
};
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

/// What a file says that isn't there.
const NO_FILE: &str = "version: mesh/v1\n";

/// Everything that was asked for, checked, before anything is started.
pub(crate) struct Plan {
    settings: Settings,
    client: Client,
    wanted: Wanted,
    memory: Option<Memory>,
}

/// What is wrong with the command line or the file.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PlanError {
    /// The file has errors.
    #[error("the configuration is refused:\n{0}")]
    File(Report),
    /// Options and file don't fit.
    #[error("settings are refused")]
    Settings(#[source] SettingsError),
    /// Consul's address, token or certificates are malformed.
    #[error("settings of the Consul client are refused")]
    Consul(#[source] ConfigError),
    /// The Consul client could not be made of them.
    #[error("make the Consul client")]
    Client(#[source] consul::Error),
    /// Keys have nowhere to go.
    #[error("--keep-keys needs --state-dir, or `state.directory` in the file")]
    NoDirectory,
    /// What the last run kept can't be used.
    #[error("open the state of the last run")]
    Memory(#[source] MemoryError),
}

/// Why the sidecar did not start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RunError {
    #[error("set up the process")]
    Process(#[source] ProcessError),
    #[error("start the sidecar")]
    Start(#[source] StartError),
}

impl Plan {
    /// Reads everything that can be wrong.
    pub(crate) fn new(run: Run) -> Result<Self, PlanError> {
        let file = startup(&run)?;
        let environment = |name: &str| std::env::var(name).ok();
        let config = run
            .consul
            .client_config(&file.consul, environment)
            .map_err(PlanError::Consul)?;
        let (wanted, service) = run.which.wanted();
        let memory = memory(&run.memory, &file, &wanted, &config)?;
        let every = meridian_program::settings::every_processor();
        let named = Named {
            service: &service,
            workers: every.min(NonZeroUsize::new(MOST_WORKERS).unwrap_or(every)),
        };
        Ok(Self {
            settings: Settings::new(named, &file, &run.program).map_err(PlanError::Settings)?,
            client: Client::new(config).map_err(PlanError::Client)?,
            wanted,
            memory,
        })
    }

    /// Runs until the end is asked for.
    pub(crate) async fn run(self) -> Result<Outcome, RunError> {
        let process = Process::begin(BUILD, &self.settings.log).map_err(RunError::Process)?;
        let opened = process.open(self.settings).await.map_err(RunError::Start)?;
        let options = ConsulOptions {
            memory: self.memory,
            ..ConsulOptions::default()
        };
        let source = match self.wanted {
            Wanted::Sidecar(sidecar) => {
                consul_mesh::run(self.client, sidecar, options, opened.counts())
            }
            Wanted::Gateway(gateway) => {
                sni_gateway::run(self.client, gateway, options, opened.counts())
            }
        };
        let proxy = opened
            .start(source.snapshots.clone())
            .map_err(RunError::Start)?;
        // Held until the end: what changes while the proxy drains still counts.
        let outcome = process.supervise(vec![proxy], || {}).await;
        drop(source);
        Ok(outcome)
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

fn startup(run: &Run) -> Result<Startup, PlanError> {
    let loaded = match &run.config {
        Some(path) => MeshFile::load(path),
        None => MeshFile::parse(NO_FILE, "(no file)"),
    };
    Ok(loaded.map_err(PlanError::File)?.value.startup)
}
