//! `meridian demo`: the mesh of `dev` on a real Consul agent, as separate processes.
//!
//! Everything that it starts it stops, and everything that it writes into Consul
//! it takes out again, unless it is asked to keep them.

mod agent;
mod check;
mod child;
mod services;
mod tools;

use crate::cli::Demo;
use agent::{Agent, AgentError};
use check::CheckError;
use child::{Child, ChildError};
use consul::{Client, ConfigError};
use meridian_program::Outcome;
use meridian_telemetry::Chain;
use services::Plan;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use tools::ToolError;

/// Why the demo failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DemoError {
    #[error("settings of the Consul client are refused")]
    Settings(#[source] ConfigError),
    #[error("find the programs")]
    Tool(#[source] ToolError),
    #[error("reach or start Consul")]
    Agent(#[source] AgentError),
    #[error("{operation}")]
    Consul {
        operation: &'static str,
        #[source]
        source: consul::Error,
    },
    #[error("run the programs")]
    Child(#[source] ChildError),
    #[error("write {}", path.display())]
    Write {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("find free ports")]
    Ports(#[source] io::Error),
    #[error("send a request through the mesh")]
    Check(#[source] CheckError),
}

/// Runs the demo.
pub(crate) async fn run(demo: &Demo) -> Result<Outcome, DemoError> {
    let config = demo
        .consul
        .client_config(&meridian_config::Consul::default(), |name| {
            std::env::var(name).ok()
        })
        .map_err(DemoError::Settings)?;
    let folder = tempfile::Builder::new()
        .prefix("meridian-demo-")
        .tempdir()
        .map_err(|source| DemoError::Write {
            path: std::env::temp_dir(),
            source,
        })?;
    let agent = Agent::find_or_start(config, folder.path())
        .await
        .map_err(DemoError::Agent)?;
    let plan = Plan::new(folder.path(), demo.envoy, agent.address).map_err(DemoError::Ports)?;
    let mut running = Running {
        client: agent.client.clone(),
        agent: agent.child,
        children: Vec::new(),
    };
    let done = stage(&plan, &mut running).await;
    match (&done, demo.keep) {
        (Ok(()), true) => {
            // Logs and the gateway's file belong to what goes on running.
            let folder = folder.keep();
            running.leave(&plan, &folder);
        }
        (Ok(()), false) => {
            say("(with --keep you can try them)");
            running.stop(&plan).await;
        }
        (Err(_), _) => {
            running.show_logs();
            running.stop(&plan).await;
        }
    }
    done.map(|()| Outcome::Done)
}

/// Brings everything up and sends a request through.
async fn stage(plan: &Plan, running: &mut Running) -> Result<(), DemoError> {
    plan.register(&running.client).await?;
    say("registered demo-web and demo-api with their sidecars, protocols and intentions");
    let commands = plan.commands().map_err(DemoError::Tool)?;
    plan.write_gateway_file()?;
    for command in commands {
        let child = Child::start(&command).map_err(DemoError::Child)?;
        say(&format!(
            "started {:<20} process {}",
            child.name(),
            child.id()
        ));
        running.children.push(child);
    }
    let ready = async {
        for (name, address) in plan.admins() {
            check::ready(name, address).await?;
        }
        check::mesh(plan.gateway).await
    };
    // A program that has ended says why sooner than a deadline.
    let told = tokio::select! {
        told = ready => told.map_err(DemoError::Check)?,
        error = child::first_end(running.children.iter().chain(&running.agent)) => return Err(DemoError::Child(error)),
        _ = tokio::signal::ctrl_c() => return Err(DemoError::Child(ChildError::Interrupted)),
    };
    for line in told {
        say(&line);
    }
    show_commands(plan.gateway);
    Ok(())
}

/// What was started.
struct Running {
    client: Client,
    agent: Option<Child>,
    children: Vec<Child>,
}

impl Running {
    /// Stops what was started, last first, and cleans Consul. An agent of our own
    /// is cleaned too: if another one was there all the same, it answered for it.
    async fn stop(mut self, plan: &Plan) {
        while let Some(child) = self.children.pop() {
            child.stop().await;
        }
        if let Err(error) = plan.deregister(&self.client).await {
            say(&format!("could not clean up Consul: {}", Chain(&error)));
        }
        if let Some(agent) = self.agent {
            agent.stop().await;
        }
        say("stopped everything that was started");
    }

    /// Lets everything go on, and says how to end it.
    fn leave(self, plan: &Plan, folder: &Path) {
        let foreign_agent = self.agent.is_none();
        let mut ids = Vec::new();
        for child in self.children.into_iter().chain(self.agent) {
            ids.push(child.leave().to_string());
        }
        say(&format!("logs are in {}", folder.display()));
        say(&format!(
            "everything goes on running; stop it with: kill {}",
            ids.join(" ")
        ));
        if foreign_agent {
            say(&format!(
                "and take it out of Consul with: {}",
                plan.cleanup()
            ));
        }
    }

    fn show_logs(&self) {
        for child in self.children.iter().chain(&self.agent) {
            child.show_log();
        }
    }
}

fn show_commands(gateway: SocketAddr) {
    say("");
    say(&format!(
        "  curl http://{gateway}/       # gateway -> demo-web -> demo-api, mutual TLS on both hops"
    ));
    say(&format!(
        "  curl http://{gateway}/api    # denied by an intention: the gateway may not call demo-api"
    ));
    say("  consul intention list         # who may call whom");
    say("");
}

#[expect(clippy::print_stdout, reason = "this is what the demo is for")]
fn say(line: &str) {
    println!("{line}");
}
