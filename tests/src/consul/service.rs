//! A service instance as the agent learns it.

use std::collections::BTreeMap;

use serde_json::{Value, json};

/// A service instance on 127.0.0.1, its sidecar, and the upstreams of that.
#[derive(Debug, Clone)]
pub struct Service {
    /// Name.
    pub name: String,
    /// Id of the instance; the name, unless it is said otherwise.
    pub id: String,
    /// Where the application listens.
    pub port: u16,
    /// Where the sidecar's public listener is; none outside the mesh.
    pub sidecar_port: Option<u16>,
    /// What the sidecar reaches for the application.
    pub upstreams: Vec<Upstream>,
    /// The sidecar's opaque `Proxy.Config`.
    pub proxy_config: Value,
    /// Metadata of the instance, which its sidecar inherits.
    pub meta: BTreeMap<String, String>,
}

/// One upstream, bound on 127.0.0.1.
#[derive(Debug, Clone)]
pub struct Upstream {
    /// Service behind it.
    pub service: String,
    /// Local port.
    pub port: u16,
}

impl Service {
    /// An instance outside the mesh.
    pub fn new(name: &str, port: u16) -> Self {
        Self {
            name: name.to_owned(),
            id: name.to_owned(),
            port,
            sidecar_port: None,
            upstreams: Vec::new(),
            proxy_config: json!({}),
            meta: BTreeMap::new(),
        }
    }

    /// Names the instance, where the service has several.
    #[must_use]
    pub fn id(mut self, id: &str) -> Self {
        id.clone_into(&mut self.id);
        self
    }

    /// Puts the instance into the mesh.
    #[must_use]
    pub fn sidecar(mut self, port: u16) -> Self {
        self.sidecar_port = Some(port);
        self
    }

    /// Adds an upstream.
    #[must_use]
    pub fn upstream(mut self, service: &str, port: u16) -> Self {
        let service = service.to_owned();
        self.upstreams.push(Upstream { service, port });
        self
    }

    /// Adds metadata.
    #[must_use]
    pub fn meta(mut self, key: &str, value: &str) -> Self {
        self.meta.insert(key.to_owned(), value.to_owned());
        self
    }

    /// Every port that the sidecar opens.
    pub fn sidecar_ports(&self) -> Vec<u16> {
        let upstreams = self.upstreams.iter().map(|upstream| upstream.port);
        self.sidecar_port.into_iter().chain(upstreams).collect()
    }

    /// The body of `PUT /v1/agent/service/register`.
    pub(super) fn definition(&self) -> Value {
        let mut body = json!({
            "Name": self.name, "ID": self.id, "Port": self.port, "Address": "127.0.0.1",
            "Meta": self.meta,
        });
        if let Some(port) = self.sidecar_port {
            body["Connect"] = json!({"SidecarService": self.sidecar_definition(port)});
        }
        body
    }

    fn sidecar_definition(&self, port: u16) -> Value {
        let upstreams: Vec<_> = self
            .upstreams
            .iter()
            .map(|upstream| {
                json!({
                    "DestinationName": upstream.service,
                    "LocalBindPort": upstream.port,
                })
            })
            .collect();
        json!({
            "Address": "127.0.0.1",
            "Port": port,
            "Proxy": {"Upstreams": upstreams, "Config": self.proxy_config},
            // Consul's default asks every ten seconds, which makes tests wait.
            "Checks": [{
                "Name": "sidecar listener",
                "TCP": format!("127.0.0.1:{port}"),
                "Interval": "1s",
                "Timeout": "2s",
            }],
        })
    }
}
