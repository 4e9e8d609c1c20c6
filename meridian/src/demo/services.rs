//! What the demo is made of: services in Consul, programs, ports.

use super::DemoError;
use super::child::Command;
use super::tools::{self, ToolError};
use crate::{gateway_file, ports};
use consul::Client;
use consul::agent::{CheckRegistration, ConnectRegistration, Proxy, ServiceRegistration, Upstream};
use serde_json::{Value, json};
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Names that a Consul somebody else uses won't have.
const GATEWAY: &str = "demo-gateway";
const WEB: &str = "demo-web";
const API: &str = "demo-api";

/// How often Consul looks at the applications: soon enough for a demo.
const CHECK: Duration = Duration::from_secs(1);

/// Kinds and names of the entries that are written.
const ENTRIES: [(&str, &str); 4] = [
    ("service-intentions", WEB),
    ("service-intentions", API),
    ("service-defaults", WEB),
    ("service-defaults", API),
];

/// Everything that the demo is made of.
pub(super) struct Plan {
    folder: PathBuf,
    envoy: bool,
    pub(super) gateway: SocketAddr,
    gateway_admin: SocketAddr,
    web: Place,
    api: Place,
    /// Where web's sidecar makes api reachable.
    upstream: SocketAddr,
    agent: String,
}

/// A service and its sidecar.
struct Place {
    application: SocketAddr,
    sidecar: SocketAddr,
    admin: SocketAddr,
}

impl Plan {
    pub(super) fn new(folder: &Path, envoy: bool, agent: String) -> io::Result<Self> {
        let [gateway, gateway_admin, upstream, a, b, c, d, e, f] = ports::free()?;
        let place = |application, sidecar, admin| Place {
            application,
            sidecar,
            admin,
        };
        Ok(Self {
            folder: folder.to_owned(),
            envoy,
            gateway,
            gateway_admin,
            web: place(a, b, c),
            api: place(d, e, f),
            upstream,
            agent,
        })
    }

    /// Writes protocols, intentions and services into Consul.
    pub(super) async fn register(&self, client: &Client) -> Result<(), DemoError> {
        for entry in entries() {
            client
                .write_config_entry(&entry)
                .await
                .map_err(|source| DemoError::Consul {
                    operation: "write protocols and intentions",
                    source,
                })?;
        }
        let upstream = Upstream {
            destination_name: API.to_owned(),
            local_bind_address: self.upstream.ip().to_string(),
            local_bind_port: self.upstream.port(),
            ..Upstream::default()
        };
        let services = [
            registration(API, &self.api, Vec::new()),
            registration(WEB, &self.web, vec![upstream]),
        ];
        for service in &services {
            client
                .register_service(service)
                .await
                .map_err(|source| DemoError::Consul {
                    operation: "register services",
                    source,
                })?;
        }
        Ok(())
    }

    /// Takes all of it out again.
    pub(super) async fn deregister(&self, client: &Client) -> Result<(), consul::Error> {
        for service in [WEB, API, GATEWAY] {
            // The gateway has usually done it itself.
            match client.deregister_service(service).await {
                Err(error) if !error.is_not_found() => return Err(error),
                _ => {}
            }
        }
        for (kind, name) in ENTRIES {
            client.delete_config_entry(kind, name).await?;
        }
        Ok(())
    }

    /// The same, for people.
    pub(super) fn cleanup(&self) -> String {
        let mut words = Vec::new();
        for service in [WEB, API, GATEWAY] {
            words.push(format!("consul services deregister -id={service}"));
        }
        for (kind, name) in ENTRIES {
            words.push(format!("consul config delete -kind={kind} -name={name}"));
        }
        words.join("; ")
    }

    pub(super) fn write_gateway_file(&self) -> Result<(), DemoError> {
        let path = self.gateway_file();
        let text = gateway_file::text(self.gateway.port(), GATEWAY, WEB, API);
        std::fs::write(&path, text).map_err(|source| DemoError::Write { path, source })
    }

    fn gateway_file(&self) -> PathBuf {
        self.folder.join("gateway.yaml")
    }

    /// The programs, in the order in which they are started.
    pub(super) fn commands(&self) -> Result<Vec<Command>, ToolError> {
        let meridian = tools::ours("meridian")?;
        let application = |name: &str, place: &Place| {
            words(["app", "--name", name, "--listen"], &[&place.application])
        };
        let mut web = application("web", &self.web);
        web.extend(words(["--upstream"], &[&self.upstream]));
        Ok(vec![
            self.command("api", meridian.clone(), application("api", &self.api)),
            self.command("web", meridian, web),
            self.sidecar("sidecar-of-api", API, &self.api)?,
            if self.envoy {
                self.envoy("envoy-of-web", WEB, &self.web)?
            } else {
                self.sidecar("sidecar-of-web", WEB, &self.web)?
            },
            self.command("gateway", tools::ours("gateway")?, {
                let file = self.gateway_file().display().to_string();
                let mut run = words(["run", "--config", &file], &[]);
                run.extend(self.common(self.gateway_admin));
                run
            }),
        ])
    }

    /// Who must say that it is ready, and where.
    pub(super) fn admins(&self) -> [(&'static str, SocketAddr); 3] {
        [
            ("sidecar of demo-api", self.api.admin),
            ("sidecar of demo-web", self.web.admin),
            ("gateway", self.gateway_admin),
        ]
    }

    fn sidecar(&self, name: &str, service: &str, place: &Place) -> Result<Command, ToolError> {
        let mut run = words(["run", "--sidecar-for", service], &[]);
        run.extend(self.common(place.admin));
        Ok(self.command(name, tools::ours("meshd")?, run))
    }

    /// `consul connect envoy` writes a bootstrap file and becomes Envoy.
    fn envoy(&self, name: &str, service: &str, place: &Place) -> Result<Command, ToolError> {
        let envoy = tools::envoy()?.display().to_string();
        let mut run = words(["connect", "envoy", "-sidecar-for", service], &[]);
        run.extend(words(
            ["-http-addr", &self.agent, "-envoy-binary", &envoy],
            &[],
        ));
        // The TLS port is preferred otherwise, and then lacks a CA in development mode.
        run.extend(words(["-grpc-addr", "http://127.0.0.1:8502"], &[]));
        run.extend(words(["-admin-bind"], &[&place.admin]));
        let rest = [
            "-ignore-envoy-compatibility",
            "--",
            "--concurrency",
            "1",
            "-l",
            "warn",
        ];
        run.extend(words(rest, &[]));
        Ok(self.command(name, tools::consul()?, run))
    }

    fn common(&self, admin: SocketAddr) -> Vec<String> {
        words(["--http-addr", &self.agent, "--admin-bind"], &[&admin])
    }

    fn command(&self, name: &str, program: PathBuf, arguments: Vec<String>) -> Command {
        Command {
            name: name.to_owned(),
            program,
            arguments,
            folder: self.folder.clone(),
        }
    }
}

fn words<const N: usize>(words: [&str; N], addresses: &[&SocketAddr]) -> Vec<String> {
    let words = words.iter().map(|word| (*word).to_owned());
    words
        .chain(addresses.iter().map(ToString::to_string))
        .collect()
}

/// HTTP on both services; the gateway may call web, web may call api, and that is all.
fn entries() -> Vec<Value> {
    let protocol = |name| json!({ "Kind": "service-defaults", "Name": name, "Protocol": "http" });
    let only = |name, source| {
        json!({
            "Kind": "service-intentions",
            "Name": name,
            "Sources": [
                { "Name": source, "Action": "allow" },
                { "Name": "*", "Action": "deny" },
            ],
        })
    };
    vec![
        protocol(WEB),
        protocol(API),
        only(WEB, GATEWAY),
        only(API, WEB),
    ]
}

/// A service on loopback, its check, and its sidecar.
fn registration(name: &str, place: &Place, upstreams: Vec<Upstream>) -> ServiceRegistration {
    let address = place.application.ip().to_string();
    let sidecar = ServiceRegistration {
        address: place.sidecar.ip().to_string(),
        port: Some(place.sidecar.port()),
        proxy: Some(Proxy {
            local_service_address: address.clone(),
            upstreams,
            ..Proxy::default()
        }),
        checks: vec![CheckRegistration {
            name: "sidecar".to_owned(),
            tcp: place.sidecar.to_string(),
            interval: Some(CHECK),
            ..CheckRegistration::default()
        }],
        ..ServiceRegistration::default()
    };
    ServiceRegistration {
        name: name.to_owned(),
        address,
        port: Some(place.application.port()),
        connect: Some(ConnectRegistration {
            native: false,
            sidecar_service: Some(Box::new(sidecar)),
        }),
        checks: vec![CheckRegistration {
            name: "application".to_owned(),
            tcp: place.application.to_string(),
            interval: Some(CHECK),
            ..CheckRegistration::default()
        }],
        ..ServiceRegistration::default()
    }
}
