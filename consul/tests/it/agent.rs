//! Real agents in development mode, each on ports of its own, gone with the test process.

use std::{
    env,
    fs::File,
    net::TcpListener,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use consul::{Address, Client, ClientConfig, Error};
use tempfile::TempDir;
use tokio::{
    sync::OnceCell,
    time::{Instant, MissedTickBehavior, interval, timeout_at},
};

use crate::DEADLINE;

/// An agent, running or stopped.
pub(crate) struct Agent {
    ports: Ports,
    hcl: Vec<String>,
    dir: TempDir,
    process: Option<Child>,
}

struct Ports {
    http: u16,
    server: u16,
    serf_lan: u16,
    serf_wan: u16,
}

/// The agent that tests share when they don't need one of their own.
pub(crate) async fn shared() -> Client {
    static AGENT: OnceCell<Agent> = OnceCell::const_new();
    AGENT.get_or_init(Agent::plain).await.client()
}

impl Agent {
    /// An agent with Consul's defaults, ready.
    pub(crate) async fn plain() -> Self {
        let agent = Self::start(&[]);
        agent.ready(&agent.client()).await;
        agent
    }

    /// An agent with further configuration, perhaps not ready yet.
    pub(crate) fn start(hcl: &[&str]) -> Self {
        let mut agent = Self {
            ports: Ports::free(),
            hcl: hcl.iter().map(|text| (*text).to_owned()).collect(),
            dir: tempfile::tempdir().expect("a directory for the agent's log"),
            process: None,
        };
        agent.run();
        agent
    }

    /// Starts the agent's program. It ends when [`Agent::stop`] says so, and when this process
    /// ends in whatever way: a shell waits for the end of its input and then ends the agent.
    pub(crate) fn run(&mut self) {
        let log = File::create(self.dir.path().join("log")).expect("the agent's log");
        let binary = env::var("CONSUL_BIN").unwrap_or_else(|_| "consul".to_owned());
        assert!(
            Command::new(&binary)
                .arg("version")
                .output()
                .is_ok_and(|out| out.status.success()),
            "`{binary}` doesn't run: set CONSUL_BIN or run `make setup`"
        );
        let ports = &self.ports;
        let mut command = Command::new("sh");
        command
            .args(["-c", r#""$@" & cat; kill "$!"; wait "$!""#, "sh", &binary])
            .args(["agent", "-dev", "-node", "test", "-log-level", "warn"])
            .args(["-http-port", &ports.http.to_string()])
            .args(["-server-port", &ports.server.to_string()])
            .args(["-serf-lan-port", &ports.serf_lan.to_string()])
            .args(["-serf-wan-port", &ports.serf_wan.to_string()])
            .args([
                "-grpc-port",
                "-1",
                "-grpc-tls-port",
                "-1",
                "-dns-port",
                "-1",
            ]);
        for hcl in &self.hcl {
            command.args(["-hcl", hcl]);
        }
        let log_too = log.try_clone().expect("the agent's log");
        command.stdin(Stdio::piped()).stdout(log).stderr(log_too);
        self.process = Some(command.spawn().expect("a shell"));
    }

    /// Ends the agent and waits for its end.
    pub(crate) fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            drop(process.stdin.take());
            process.wait().expect("the agent's end");
        }
    }

    pub(crate) fn config(&self) -> ClientConfig {
        let address = format!("127.0.0.1:{}", self.ports.http);
        ClientConfig::new(Address::parse(&address, false).unwrap())
    }

    pub(crate) fn client(&self) -> Client {
        Client::new(self.config()).unwrap()
    }

    /// Waits until the agent has a leader, itself in the catalog, and a CA.
    pub(crate) async fn ready(&self, client: &Client) {
        let deadline = Instant::now() + DEADLINE;
        let mut tick = interval(Duration::from_millis(50));
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut last = None;
        let attempt = async {
            loop {
                tick.tick().await;
                match is_ready(client).await {
                    Ok(true) => return,
                    Ok(false) => {}
                    Err(error) => last = Some(error),
                }
            }
        };
        if timeout_at(deadline, attempt).await.is_err() {
            let log = std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
            panic!("the agent isn't ready: {last:?}\n{log}");
        }
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.stop();
    }
}

async fn is_ready(client: &Client) -> Result<bool, Error> {
    let nodes = client.catalog_nodes().once().await?.value;
    let roots = client.roots().once().await?.value;
    Ok(!nodes.is_empty() && !roots.roots.is_empty())
}

impl Ports {
    fn free() -> Self {
        // Held together, so that they differ.
        let taken = [(); 4].map(|()| TcpListener::bind("127.0.0.1:0").expect("a free port"));
        let [http, server, serf_lan, serf_wan] =
            taken.map(|listener| listener.local_addr().expect("its address").port());
        Self {
            http,
            server,
            serf_lan,
            serf_wan,
        }
    }
}

/// A port that nobody uses now.
pub(crate) fn free_port() -> u16 {
    Ports::free().http
}
