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
    /// `protocol` in the `Config` of all upstreams.
    pub upstream_protocol: Option<String>,
    /// The application's own checks, as they are registered.
    pub checks: Vec<Value>,
}

/// One upstream, bound on 127.0.0.1.
#[derive(Debug, Clone)]
pub struct Upstream {
    /// Service behind it.
    pub service: String,
    /// Local port.
    pub port: u16,
    /// Whether the name is that of a prepared query.
    pub prepared: bool,
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
            upstream_protocol: None,
            checks: Vec::new(),
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
        self.upstreams.push(Upstream {
            service: service.to_owned(),
            port,
            prepared: false,
        });
        self
    }

    /// Adds metadata.
    #[must_use]
    pub fn meta(mut self, key: &str, value: &str) -> Self {
        self.meta.insert(key.to_owned(), value.to_owned());
        self
    }

    /// Adds a prepared query as an upstream.
    #[must_use]
    pub fn prepared_query(self, query: &str, port: u16) -> Self {
        let mut with = self.upstream(query, port);
        if let Some(added) = with.upstreams.last_mut() {
            added.prepared = true;
        }
        with
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
            "Meta": self.meta, "Checks": self.checks,
        });
        if let Some(port) = self.sidecar_port {
            body["Connect"] = json!({"SidecarService": self.sidecar_definition(port)});
        }
        body
    }

    fn sidecar_definition(&self, port: u16) -> Value {
        let protocol = self.upstream_protocol.as_ref();
        let config = protocol.map_or_else(|| json!({}), |name| json!({"protocol": name}));
        let upstreams: Vec<_> = self
            .upstreams
            .iter()
            .map(|upstream| {
                json!({
                    "DestinationName": upstream.service,
                    "DestinationType": if upstream.prepared { "prepared_query" } else { "service" },
                    "LocalBindPort": upstream.port,
                    "Config": config,
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
