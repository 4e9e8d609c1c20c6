//! What every proxy of a program is started from, and its life on one source.

use crate::{
    ConsulOptions, Named, Opened, Outcome, Process, ProcessError, ProgramOptions, Settings,
    SettingsError, StartError,
};
use consul::{Client, ConfigError};
use meridian_config::{Report, Startup};
use meridian_sources::{Source, SourceMetrics};
use meridian_telemetry::metrics::BuildInfo;
use std::sync::Arc;

/// What is wrong with the command line or the file. The caller's fault.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
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
}

/// Why a proxy did not start.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The process could not be set up.
    #[error("set up the process")]
    Process(#[source] ProcessError),
    /// Telemetry, admin listener or data plane could not start.
    #[error("start the proxy")]
    Start(#[source] StartError),
}

/// How a proxy runs and whom it asks, checked before anything is started.
#[derive(Debug)]
pub struct Frame {
    /// How it runs.
    pub settings: Settings,
    /// Whom it asks.
    pub client: Client,
}

impl Frame {
    /// Brings file, options and environment together.
    ///
    /// # Errors
    /// When one of them makes no sense.
    pub fn new(
        named: Named<'_>,
        file: &Startup,
        program: &ProgramOptions,
        consul: &ConsulOptions,
    ) -> Result<Self, PlanError> {
        let environment = |name: &str| std::env::var(name).ok();
        let config = consul
            .client_config(&file.consul, environment)
            .map_err(PlanError::Consul)?;
        Ok(Self {
            settings: Settings::new(named, file, program).map_err(PlanError::Settings)?,
            client: Client::new(config).map_err(PlanError::Client)?,
        })
    }

    /// Runs the proxy on what `source` learns until the end is asked for.
    ///
    /// # Errors
    /// When the system refuses what is needed for the start.
    pub async fn run(
        self,
        build: BuildInfo,
        source: impl FnOnce(Client, Arc<dyn SourceMetrics>) -> Source,
    ) -> Result<Outcome, RunError> {
        let (process, opened) = self.open(build).await?;
        let source = source(self.client, opened.counts());
        let proxy = opened
            .start(source.snapshots.clone())
            .map_err(RunError::Start)?;
        // Held until the end: what changes while the proxy drains still counts.
        let outcome = process.supervise(vec![proxy], || {}).await;
        drop(source);
        Ok(outcome)
    }

    /// Sets up the process, and opens everything of the proxy but traffic.
    ///
    /// # Errors
    /// When the system refuses what is needed for it.
    pub async fn open(&self, build: BuildInfo) -> Result<(Process, Opened), RunError> {
        let settings = self.settings.clone();
        let process = Process::begin(build, &settings.log).map_err(RunError::Process)?;
        let opened = process.open(settings).await.map_err(RunError::Start)?;
        Ok((process, opened))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::num::NonZeroUsize;

    fn frame(program: &ProgramOptions, consul: &ConsulOptions) -> Result<Frame, PlanError> {
        let named = Named {
            service: "web",
            workers: NonZeroUsize::MIN,
        };
        Frame::new(named, &Startup::default(), program, consul)
    }

    #[test]
    fn options_reach_settings_and_client() {
        let program = ProgramOptions {
            threads: NonZeroUsize::new(3),
            ..ProgramOptions::default()
        };
        let consul = ConsulOptions {
            http_addr: Some("10.0.0.1:8500".into()),
            ..ConsulOptions::default()
        };
        let frame = frame(&program, &consul).unwrap();
        assert_eq!(frame.settings.workers.get(), 3);
        let address = consul::Address::parse("10.0.0.1:8500", false).unwrap();
        assert_eq!(frame.client.config().address, address);
    }

    #[test]
    fn the_error_says_which_part_is_at_fault() {
        let consul = ConsulOptions {
            http_addr: Some("ftp://10.0.0.1".into()),
            ..ConsulOptions::default()
        };
        let refused = frame(&ProgramOptions::default(), &consul);
        assert!(matches!(refused, Err(PlanError::Consul(_))), "{refused:?}");
        let program = ProgramOptions {
            admin_token_file: Some("/nonexistent/token".into()),
            ..ProgramOptions::default()
        };
        let refused = frame(&program, &ConsulOptions::default());
        assert!(
            matches!(refused, Err(PlanError::Settings(_))),
            "{refused:?}"
        );
    }
}
