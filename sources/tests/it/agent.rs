//! A real Consul server of one, on ports of its own. It keeps its data over a restart, and ends
//! with the test.

use super::DEADLINE;
use consul::agent::ServiceRegistration;
use consul::{Address, Client, ClientConfig};
use serde_json::Value;
use std::fs::File;
use std::net::TcpListener;
use std::process::Stdio;
use std::time::Duration;
use tempfile::TempDir;
use tokio::process::{Child, Command};
use tokio::time::{Instant, timeout_at};

/// An agent, running or stopped.
pub(crate) struct Agent {
    ports: [u16; 4],
    data: TempDir,
    process: Option<Child>,
    /// Its API.
    pub(crate) client: Client,
}

impl Agent {
    /// Starts one and waits until it has elected itself.
    pub(crate) async fn start() -> Self {
        let ports = free_ports();
        let address = format!("127.0.0.1:{}", ports[0]);
        let address = Address::parse(&address, false).expect("an address");
        let mut agent = Self {
            ports,
            data: tempfile::tempdir().expect("a folder"),
            process: None,
            client: Client::new(ClientConfig::new(address)).expect("a client"),
        };
        agent.run().await;
        agent
    }

    /// Starts the program, again if it was stopped.
    pub(crate) async fn run(&mut self) {
        let [http, server, lan, wan] = self.ports;
        let binary = std::env::var("CONSUL_BIN").unwrap_or_else(|_| "consul".to_owned());
        let log = File::create(self.data.path().join("log")).expect("a log");
        let settings = format!(
            "connect {{ enabled = true }} performance {{ raft_multiplier = 1 }} \
             ports {{ http = {http} server = {server} serf_lan = {lan} serf_wan = {wan} \
             dns = -1 grpc = -1 grpc_tls = -1 }}"
        );
        let process = Command::new(&binary)
            .args(["agent", "-server", "-bootstrap-expect=1", "-node=test"])
            .args(["-bind=127.0.0.1", "-client=127.0.0.1", "-log-level=warn"])
            .args(["-hcl", &settings, "-data-dir"])
            .arg(self.data.path().join("data"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a log"))
            .stderr(log)
            .kill_on_drop(true)
            .spawn();
        let process = process.unwrap_or_else(|error| {
            panic!("`{binary}` doesn't run ({error}): set CONSUL_BIN or run `make setup`")
        });
        self.process = Some(process);
        let deadline = Instant::now() + DEADLINE;
        let mut tick = tokio::time::interval(Duration::from_millis(100));
        loop {
            timeout_at(deadline, tick.tick())
                .await
                .expect("an agent in time");
            // Answered only once the CA has a root, which needs a leader.
            if let Ok(roots) = self.client.roots().once().await
                && !roots.value.roots.is_empty()
            {
                return;
            }
        }
    }

    /// Ends the program; its data stays.
    pub(crate) async fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().await.expect("the agent ends");
        }
    }

    /// Registers services as the API reads them.
    pub(crate) async fn register(&self, service: &ServiceRegistration) {
        let done = self.client.register_service(service).await;
        done.expect("a registration");
    }

    /// Writes a configuration entry.
    pub(crate) async fn write(&self, entry: Value) {
        let done = self.client.write_config_entry(&entry).await;
        done.expect("an entry");
    }
}

/// Ports that nobody listened on a moment ago.
fn free_ports() -> [u16; 4] {
    let held: [TcpListener; 4] =
        std::array::from_fn(|_| TcpListener::bind("127.0.0.1:0").expect("a port"));
    held.map(|listener| listener.local_addr().expect("an address").port())
}
