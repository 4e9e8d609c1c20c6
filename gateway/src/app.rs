//! How the parts of a gateway are put together: one from a file here, one that Consul's entries
//! configure in [`entry`].

use crate::cli::Run;
use crate::entry;
use meridian_config::{GatewayFile, Startup};
use meridian_model::{Bind, Blueprint};
use meridian_program::{Frame, Named, Outcome, PlanError};
use meridian_sources::ConsulOptions;
use meridian_sources::file::{self, FileSource, Loaded, Loader, WatchError};
use meridian_sources::publish::SourceMetrics;
use meridian_sources::register::{self, GatewayService, Registered};
use meridian_sources::resolve;
use meridian_telemetry::Chain;
use meridian_telemetry::metrics::BuildInfo;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

pub(crate) const BUILD: BuildInfo = BuildInfo {
    program: "gateway",
    version: env!("CARGO_PKG_VERSION"),
};

/// How long taking the registration back may hold up the end: Consul is local,
/// and forgets a service without its node's agent in the end.
const DEREGISTRATION: Duration = Duration::from_secs(1);

/// Everything that was asked for, checked, before anything is started.
pub(crate) enum Plan {
    /// A gateway from a file.
    File(Box<FilePlan>),
    /// A gateway that Consul's entries configure.
    Entry(Box<entry::Plan>),
}

/// A gateway from a file.
pub(crate) struct FilePlan {
    frame: Frame,
    path: PathBuf,
    /// What the file said at the start and holds until the end; its routes are read again.
    startup: Startup,
    service: Option<String>,
    /// Where the first listener is bound.
    address: Option<SocketAddr>,
}

/// Why the gateway did not start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RunError {
    /// As any proxy.
    #[error(transparent)]
    Frame(#[from] meridian_program::RunError),
    /// The file can't be followed.
    #[error("watch the configuration")]
    Watch(#[source] WatchError),
}

impl Plan {
    /// Reads everything that can be wrong.
    pub(crate) fn new(run: Run) -> Result<Self, PlanError> {
        if let Some(gateway) = run.entry.gateway() {
            let plan = entry::Plan::new(&run, gateway)?;
            return Ok(Self::Entry(Box::new(plan)));
        }
        Ok(Self::File(Box::new(FilePlan::new(run)?)))
    }

    /// Runs until the end is asked for.
    pub(crate) async fn run(self) -> Result<Outcome, RunError> {
        match self {
            Self::File(plan) => plan.run().await,
            Self::Entry(plan) => Ok(plan.run().await?),
        }
    }
}

impl FilePlan {
    fn new(run: Run) -> Result<Self, PlanError> {
        // The command line demands a file where no entry is meant.
        let path = run.config.unwrap_or_default();
        let file = GatewayFile::load(&path).map_err(PlanError::File)?.value;
        let named = Named {
            service: file.service.as_deref().unwrap_or(BUILD.program),
            workers: meridian_program::settings::every_processor(),
        };
        let frame = Frame::new(named, &file.startup, &run.program, &run.consul)?;
        Ok(Self {
            frame,
            path,
            address: first_address(&file.blueprint),
            startup: file.startup,
            service: file.service,
        })
    }

    async fn run(self) -> Result<Outcome, RunError> {
        let (process, opened) = self.frame.open(BUILD).await?;
        let counts = opened.counts();
        let file = self.watch(counts.clone()).map_err(RunError::Watch)?;
        let registered = self.register();
        let consul = resolve::Consul {
            client: self.frame.client,
            options: ConsulOptions::default(),
            service: self.service,
        };
        let source = resolve::run(file.intents.clone(), Some(consul), counts);
        let proxy = opened
            .start(source.snapshots.clone())
            .map_err(meridian_program::RunError::Start)?;
        let reload = file.reload_handle();
        let outcome = process.supervise(vec![proxy], || reload.now()).await;
        if let Some(registered) = registered {
            deregister(registered).await;
        }
        Ok(outcome)
    }

    fn watch(&self, metrics: Arc<dyn SourceMetrics>) -> Result<FileSource, WatchError> {
        let path = self.path.clone();
        let (startup, service) = (self.startup.clone(), self.service.clone());
        let loader: Loader<Loaded> = Box::new(move || {
            let loaded = GatewayFile::load(&path).map_err(|report| report.to_string())?;
            for warning in &loaded.warnings.problems {
                tracing::warn!(line = warning.line, "{warning}");
            }
            if loaded.value.startup != startup || loaded.value.service != service {
                tracing::warn!("settings of the start have changed; they hold after a restart");
            }
            Ok(Loaded {
                blueprint: loaded.value.blueprint,
                inputs: loaded.inputs,
            })
        });
        file::watch_file(&self.path, loader, metrics)
    }

    /// The gateway as a service of the mesh, where it is one. Consul wants an
    /// address of it: that of the first listener, where people would look for it.
    fn register(&self) -> Option<Registered> {
        let (name, first) = (self.service.clone()?, self.address?);
        let service = GatewayService {
            name,
            port: first.port(),
            // "All addresses" is none that could be called; the node's stands for it.
            address: if first.ip().is_unspecified() {
                String::new()
            } else {
                first.ip().to_string()
            },
            ..GatewayService::default()
        };
        Some(register::register(self.frame.client.clone(), service))
    }
}

fn first_address(blueprint: &Blueprint) -> Option<SocketAddr> {
    let mut listeners = blueprint.listeners.iter();
    listeners.find_map(|listener| match listener.bind {
        Bind::Tcp(address) => Some(address),
        Bind::Unix { .. } => None,
    })
}

async fn deregister(registered: Registered) {
    match tokio::time::timeout(DEREGISTRATION, registered.deregister()).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(error = %Chain(&error), "registration stays in Consul"),
        Err(_) => tracing::warn!("registration stays in Consul: the agent is slow"),
    }
}
