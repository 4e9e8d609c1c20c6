//! A real Consul agent in the test's namespace, on Consul's usual ports.
//!
//! Talks to its API with the harness's own client, not with Meridian's: a fault
//! there must not hide itself.

mod secured;
mod service;

use std::net::{Ipv4Addr, SocketAddr};

use http::{Method, Request};
use serde_json::{Value, json};

use crate::client::{self, Connection, Protocol};
use crate::process::{Process, Signal};
use crate::tools;
use crate::wait::{self, PATIENCE};
use crate::world::World;

pub use secured::{AclToken, HTTPS_API, Secured};
pub use service::{Service, Upstream};

/// Where the agent answers.
pub const HTTP_API: &str = "http://127.0.0.1:8500";

const ADDRESS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 8500);

/// A single server agent. State is on disk, so that it survives a restart.
#[derive(Debug)]
pub struct Consul {
    process: Process,
    arguments: Vec<String>,
    /// What the harness itself calls the API with.
    token: Option<String>,
}

impl Consul {
    /// Starts an agent with the settings that fit most tests.
    pub async fn start(world: &World) -> Self {
        Self::start_with(world, json!({})).await
    }

    /// Starts an agent; top-level `settings` replace the harness's own.
    pub async fn start_with(world: &World, settings: Value) -> Self {
        Self::start_as(world, settings, None).await
    }

    /// As [`Consul::start_with`]; the harness calls with `token` from the start.
    async fn start_as(world: &World, settings: Value, token: Option<String>) -> Self {
        let mut merged = default_settings(world);
        if let (Some(merged), Value::Object(settings)) = (merged.as_object_mut(), settings) {
            merged.extend(settings);
        }
        let file = world.write("consul.json", &merged.to_string());
        let arguments = vec![
            "agent".to_owned(),
            format!("-config-file={}", file.display()),
        ];
        let process = world.spawn("consul", &tools::consul(), &arguments);
        let mut consul = Self {
            process,
            arguments,
            token,
        };
        consul.ready().await;
        consul
    }

    /// Waits for a leader, for its own node in the catalog, and for the mesh CA.
    pub async fn ready(&mut self) {
        wait::until("Consul is ready", PATIENCE, async || {
            self.process.assert_running();
            let token = self.token.as_deref();
            let nodes = call(token, Method::GET, "/v1/catalog/nodes", None).await?;
            let roots = call(token, Method::GET, "/v1/agent/connect/ca/roots", None).await?;
            let known = nodes.as_array().is_some_and(|nodes| !nodes.is_empty());
            let signed = roots["ActiveRootID"]
                .as_str()
                .is_some_and(|id| !id.is_empty());
            (known && signed)
                .then_some(())
                .ok_or_else(|| "no node or no root yet".to_owned())
        })
        .await;
    }

    /// Freezes the agent: connections stay open, nothing answers.
    pub fn freeze(&self) {
        self.process.signal(Signal::SIGSTOP);
    }

    /// Ends a freeze.
    pub fn thaw(&self) {
        self.process.signal(Signal::SIGCONT);
    }

    /// Ends the agent abruptly.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Starts the agent again, with the state that it had.
    pub async fn restart(&mut self, world: &World) {
        self.kill();
        self.process = world.spawn("consul", &tools::consul(), &self.arguments);
        self.ready().await;
    }

    /// Calls the HTTP API; any status but success is an error.
    ///
    /// # Errors
    /// What the agent says, or why it does not answer.
    pub async fn try_api(
        &self,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Result<Value, String> {
        call(self.token.as_deref(), method, path, body).await
    }

    /// Calls the HTTP API; panics on an error status.
    pub async fn api(&self, method: Method, path: &str, body: Option<Value>) -> Value {
        call(self.token.as_deref(), method.clone(), path, body)
            .await
            .unwrap_or_else(|error| panic!("{method} {path}: {error}"))
    }

    /// Registers a service, with its sidecar when it has one.
    pub async fn register(&self, service: &Service) {
        let path = "/v1/agent/service/register";
        self.api(Method::PUT, path, Some(service.definition()))
            .await;
    }

    /// Takes an instance, and its sidecar, out of the registry.
    pub async fn deregister(&self, id: &str) {
        let path = format!("/v1/agent/service/deregister/{id}");
        self.api(Method::PUT, &path, None).await;
    }

    /// Puts an instance into maintenance, or back to work.
    pub async fn maintenance(&self, id: &str, enable: bool) {
        let path = format!("/v1/agent/service/maintenance/{id}?enable={enable}");
        self.api(Method::PUT, &path, None).await;
    }

    /// Writes a configuration entry, `Kind` and `Name` included.
    pub async fn config_entry(&self, entry: Value) {
        self.api(Method::PUT, "/v1/config", Some(entry)).await;
    }

    /// Says which protocol a service speaks.
    pub async fn protocol(&self, service: &str, protocol: &str) {
        self.config_entry(json!({
            "Kind": "service-defaults", "Name": service, "Protocol": protocol,
        }))
        .await;
    }

    /// Replaces the intentions of a destination: pairs of source and action.
    pub async fn intentions(&self, destination: &str, sources: &[(&str, &str)]) {
        let sources: Vec<_> = sources
            .iter()
            .map(|(name, action)| json!({"Name": name, "Action": action}))
            .collect();
        self.config_entry(json!({
            "Kind": "service-intentions", "Name": destination, "Sources": sources,
        }))
        .await;
    }

    /// Removes a configuration entry.
    pub async fn delete_config_entry(&self, kind: &str, name: &str) {
        self.api(Method::DELETE, &format!("/v1/config/{kind}/{name}"), None)
            .await;
    }

    /// Waits until so many mesh instances of a service have only passing checks.
    pub async fn passing(&self, service: &str, count: usize) {
        let path = format!("/v1/health/connect/{service}?passing");
        wait::until(
            &format!("{count} passing {service}"),
            PATIENCE,
            async || {
                let found = call(self.token.as_deref(), Method::GET, &path, None).await?;
                let found = found.as_array().map_or(0, Vec::len);
                (found == count)
                    .then_some(())
                    .ok_or_else(|| format!("{found} passing"))
            },
        )
        .await;
    }

    /// Host part of the mesh's SPIFFE ids.
    pub async fn trust_domain(&self) -> String {
        let roots = self.connect_roots().await;
        roots["TrustDomain"].as_str().unwrap_or_default().to_owned()
    }

    /// SPIFFE id that a service of this agent presents.
    pub async fn spiffe_id(&self, service: &str) -> String {
        let domain = self.trust_domain().await;
        format!("spiffe://{domain}/ns/default/dc/dc1/svc/{service}")
    }

    /// Makes a new root, by asking for keys of another size.
    pub async fn rotate_root(&self) {
        let mut settings = self.ca_settings().await;
        let bits = if settings["PrivateKeyBits"] == 384 {
            256
        } else {
            384
        };
        settings["PrivateKeyType"] = json!("ec");
        settings["PrivateKeyBits"] = json!(bits);
        self.configure_ca(settings).await;
    }

    /// Sets how long leaves live that are signed from now on. Below ten minutes the
    /// agent takes a leaf for due at once: each question brings another one. Those
    /// that are there keep their time, so rotate the root to begin with it.
    pub async fn leaf_lifetime(&self, lifetime: &str) {
        let mut settings = self.ca_settings().await;
        settings["LeafCertTTL"] = json!(lifetime);
        // An hour is the least that passes validation.
        settings["SkipValidate"] = json!(true);
        // No pacing of signatures: the test wants many at once.
        settings["CSRMaxPerSecond"] = json!(0);
        self.configure_ca(settings).await;
    }

    async fn ca_settings(&self) -> Value {
        let found = self.api(Method::GET, "/v1/connect/ca/configuration", None);
        found.await["Config"].take()
    }

    async fn configure_ca(&self, settings: Value) {
        let body = json!({"Provider": "consul", "Config": settings});
        self.api(Method::PUT, "/v1/connect/ca/configuration", Some(body))
            .await;
    }

    async fn connect_roots(&self) -> Value {
        self.api(Method::GET, "/v1/agent/connect/ca/roots", None)
            .await
    }
}

/// A server with one vote for itself, quick to elect, quiet, and without a WAN.
fn default_settings(world: &World) -> Value {
    json!({
        "server": true,
        "bootstrap_expect": 1,
        "data_dir": world.directory().join("consul-data"),
        "node_name": "node1",
        "bind_addr": "127.0.0.1",
        "client_addr": "127.0.0.1",
        "disable_update_check": true,
        "log_level": "warn",
        "performance": {"raft_multiplier": 1},
        "ports": {"grpc": 8502, "serf_wan": -1},
        "connect": {
            "enabled": true,
            // Without it agents wait up to a quarter of an hour for new leaves
            // after a root change, so as not to ask all at once.
            "test_ca_leaf_root_change_spread": "1ns",
        },
    })
}

/// One call; any status but success is an error.
async fn call(
    token: Option<&str>,
    method: Method,
    path: &str,
    body: Option<Value>,
) -> Result<Value, String> {
    let body = body.map(|body| body.to_string()).unwrap_or_default();
    let mut request = Request::builder().method(method).uri(path);
    if let Some(token) = token {
        request = request.header("x-consul-token", token);
    }
    let request = request
        .body(client::full(body))
        .map_err(|error| error.to_string())?;
    let reply = async {
        Connection::open(ADDRESS, Protocol::Http1)
            .await?
            .send(request)
            .await
    };
    let reply = reply.await.map_err(|error| error.to_string())?;
    let text = reply.text();
    if !reply.status.is_success() {
        return Err(format!("{}: {}", reply.status, text.trim()));
    }
    Ok(serde_json::from_str(&text).unwrap_or(Value::Null))
}
