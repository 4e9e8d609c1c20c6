//! The edge gateway, run from a configuration file.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::admin::Admin;
use crate::consul::HTTP_API;
use crate::process::Process;
use crate::ready::ready;
use crate::tools;
use crate::world::World;

/// A running gateway.
#[derive(Debug)]
pub struct Gateway {
    /// The process, for signals, logs and memory.
    pub process: Process,
    /// Its admin listener.
    pub admin: Admin,
    file: PathBuf,
}

impl Gateway {
    /// Starts a gateway on a configuration and waits until it is ready.
    ///
    /// The admin listener is named on the command line, which wins over the file.
    pub async fn start(world: &World, name: &str, configuration: &str) -> Self {
        Self::start_in(world, name, configuration, &[]).await
    }

    /// The same, with variables in its environment.
    pub async fn start_in(
        world: &World,
        name: &str,
        configuration: &str,
        environment: &[(&str, &str)],
    ) -> Self {
        let address = SocketAddr::from(([127, 0, 0, 1], world.fresh_port()));
        let file = world.write(&format!("{name}.yaml"), configuration);
        let environment = environment
            .iter()
            .map(|(key, value)| format!("{key}={value}"));
        let mut words: Vec<_> = environment.collect();
        words.extend([
            tools::ours("gateway").display().to_string(),
            "run".to_owned(),
            "--config".to_owned(),
            file.display().to_string(),
            "--admin-bind".to_owned(),
            address.to_string(),
        ]);
        let mut gateway = Self {
            // `env` becomes the program that it starts.
            process: world.spawn(name, Path::new("env"), &words),
            admin: Admin::new(address),
            file,
        };
        gateway.ready().await;
        gateway
    }

    /// Replaces the configuration file in one step, as editors do.
    pub fn reconfigure(&self, configuration: &str) {
        let draft = self.file.with_extension("yaml.new");
        std::fs::write(&draft, configuration).expect("a draft beside the configuration");
        std::fs::rename(&draft, &self.file).expect("the draft takes the file's place");
    }

    async fn ready(&mut self) {
        ready(&mut self.process, self.admin, &[]).await;
    }
}

/// `gateway validate FILE`.
pub fn validate(file: &Path) -> Output {
    Command::new(tools::ours("gateway"))
        .arg("validate")
        .arg(file)
        .output()
        .expect("`gateway validate` runs")
}

/// One listener, everything to one origin.
pub fn static_configuration(port: u16, origin: SocketAddr) -> String {
    format!(
        "\
version: edge/v1
listeners:
- {{name: main, address: 127.0.0.1, port: {port}, protocol: HTTP}}
backends:
- name: origin
  discovery: {{static: {{endpoints: [{{address: \"{origin}\"}}]}}}}
routes:
- name: everything
  parentRefs: [{{name: main}}]
  rules:
  - backendRefs: [{{name: origin}}]
"
    )
}

/// One listener, everything to a service through the mesh. The gateway goes by
/// the name `edge` there. `more` are ports of further listeners.
pub fn mesh_configuration(port: u16, service: &str, more: &[u16]) -> String {
    let ports = || std::iter::once(port).chain(more.iter().copied());
    let listeners: String = ports()
        .map(|port| {
            format!("- {{name: on-{port}, address: 127.0.0.1, port: {port}, protocol: HTTP}}\n")
        })
        .collect();
    let parents: Vec<_> = ports().map(|port| format!("{{name: on-{port}}}")).collect();
    let parents = parents.join(", ");
    format!(
        "\
version: edge/v1
consul: {{address: \"{HTTP_API}\"}}
service: {{name: edge}}
listeners:
{listeners}backends:
- name: {service}
  discovery: {{consul: {{service: {service}}}}}
routes:
- name: everything
  parentRefs: [{parents}]
  rules:
  - backendRefs: [{{name: {service}}}]
"
    )
}
