//! The Consul agent of the demo: one that runs already, or one of our own.

use super::child::{Child, ChildError, Command};
use super::tools::{self, ToolError};
use consul::{Address, Client, ClientConfig, ConfigError};
use std::path::Path;
use std::time::Duration;
use tokio::time::Instant;

/// How long an agent may take until it has a leader and a root certificate.
const PATIENCE: Duration = Duration::from_secs(30);

/// Between two questions whether it has.
const PAUSE: Duration = Duration::from_millis(100);

/// Why there is no agent.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AgentError {
    #[error("make the Consul client")]
    Client(#[source] consul::Error),
    #[error("no agent answers, and it is not on this machine, so none can be started for it")]
    Elsewhere(#[source] consul::Error),
    #[error("read the agent's address")]
    Address(#[source] ConfigError),
    #[error("find Consul")]
    Tool(#[source] ToolError),
    #[error("start Consul")]
    Start(#[source] ChildError),
    #[error("Consul was not ready within {PATIENCE:?}")]
    Late(#[source] consul::Error),
}

/// An agent that answers.
pub(super) struct Agent {
    pub(super) client: Client,
    /// As `--http-addr` takes it.
    pub(super) address: String,
    /// The process, if it is ours.
    pub(super) child: Option<Child>,
}

impl Agent {
    /// Takes the agent that answers at the configured address; starts one in
    /// development mode where that is the local default.
    pub(super) async fn find_or_start(
        config: ClientConfig,
        folder: &Path,
    ) -> Result<Self, AgentError> {
        let local = Address::parse(Address::DEFAULT, false).map_err(AgentError::Address)?;
        let is_local = config.address == local;
        let address = match &config.address {
            Address::Url(url) => url.as_str().trim_end_matches('/').to_owned(),
            Address::Unix(path) => format!("unix://{}", path.display()),
        };
        let client = Client::new(config).map_err(AgentError::Client)?;
        let Err(error) = client.agent_self().once().await else {
            super::say(&format!("using the Consul agent at {address}"));
            return Ok(Self {
                client,
                address,
                child: None,
            });
        };
        if !is_local {
            return Err(AgentError::Elsewhere(error));
        }
        let program = tools::consul().map_err(AgentError::Tool)?;
        let arguments = ["agent", "-dev", "-log-level", "warn"];
        let child = Child::start(&Command {
            name: "consul".to_owned(),
            program,
            arguments: arguments.map(str::to_owned).to_vec(),
            folder: folder.to_owned(),
        })
        .map_err(AgentError::Start)?;
        super::say(&format!(
            "started Consul in development mode, process {}",
            child.id()
        ));
        let agent = Self {
            client,
            address,
            child: Some(child),
        };
        agent.ready().await?;
        Ok(agent)
    }

    /// Waits for the CA, which comes last.
    async fn ready(&self) -> Result<(), AgentError> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.client.roots().once().await {
                Ok(roots) if !roots.value.active_root_id.is_empty() => return Ok(()),
                Err(error) if Instant::now() >= deadline => return Err(AgentError::Late(error)),
                _ => tokio::time::sleep(PAUSE).await,
            }
        }
    }
}
