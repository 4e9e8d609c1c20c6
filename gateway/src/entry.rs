//! How the parts of a gateway that Consul's entries configure are put together.

use crate::app::{BUILD, PlanError, RunError};
use crate::cli::Run;
use consul::Client;
use meridian_config::MeshFile;
use meridian_program::{Named, Outcome, Process, Settings};
use meridian_sources::ConsulOptions;
use meridian_sources::consul_gateway::{self, Gateway};

/// What a file says that isn't there: as in a mesh's, traffic is configured in Consul.
const NO_FILE: &str = "version: mesh/v1\n";

/// Everything that was asked for, checked, before anything is started.
pub(crate) struct Plan {
    settings: Settings,
    client: Client,
    gateway: Gateway,
}

impl Plan {
    /// Reads everything that can be wrong.
    pub(crate) fn new(run: &Run, gateway: Gateway) -> Result<Self, PlanError> {
        let file = MeshFile::parse(NO_FILE, "(no file)").map_err(PlanError::File)?;
        let startup = file.value.startup;
        let environment = |name: &str| std::env::var(name).ok();
        let config = run
            .consul
            .client_config(&startup.consul, environment)
            .map_err(PlanError::Consul)?;
        let named = Named {
            service: &gateway.service,
            workers: meridian_program::settings::every_processor(),
        };
        Ok(Self {
            settings: Settings::new(named, &startup, &run.program).map_err(PlanError::Settings)?,
            client: Client::new(config).map_err(PlanError::Client)?,
            gateway,
        })
    }

    /// Runs until the end is asked for. The registration stays: an operator may have added to it,
    /// and Consul's check says that the gateway is away.
    pub(crate) async fn run(self) -> Result<Outcome, RunError> {
        let process = Process::begin(BUILD, &self.settings.log).map_err(RunError::Process)?;
        let opened = process.open(self.settings).await.map_err(RunError::Start)?;
        let options = ConsulOptions::default();
        let source = consul_gateway::run(self.client, self.gateway, options, opened.counts());
        let proxy = opened
            .start(source.snapshots.clone())
            .map_err(RunError::Start)?;
        // Held until the end: what changes while the proxy drains still counts.
        let outcome = process.supervise(vec![proxy], || {}).await;
        drop(source);
        Ok(outcome)
    }
}
