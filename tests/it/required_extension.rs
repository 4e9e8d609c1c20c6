//! A required extension that is refused, by Consul or by Envoy itself: what Envoy does then, and
//! what meshd does instead.

use std::time::{Duration, Instant};

use meridian_tests::client::{Protocol, get};
use meridian_tests::consul::{Consul, Service};
use meridian_tests::origin::Origin;
use meridian_tests::sidecar::{Kind, Sidecar};
use meridian_tests::wait::{self, PATIENCE};
use meridian_tests::world::{World, isolated, listens};
use serde_json::{Value, json};

/// Where the caller reaches the service with extensions.
const WEB: u16 = 5001;

/// The service's public listener.
const PUBLIC: u16 = 21001;

/// So long what does not change is looked at; what changes does so in a part of it.
const A_WHILE: Duration = Duration::from_secs(4);

/// Consul can't apply it: there is no such upstream. Nor does meshd know it.
fn refused_by_consul() -> Value {
    json!({"Name": "builtin/ext-authz", "Required": true, "Arguments": {
        "ProxyType": "connect-proxy",
        "Config": {"HttpService": {"Target": {"Service": {"Name": "nobody"}}}}}})
}

/// Consul applies it, and Envoy refuses the listener. To meshd all of Lua is unknown.
fn refused_by_envoy() -> Value {
    json!({"Name": "builtin/lua", "Required": true, "Arguments": {
        "ProxyType": "connect-proxy", "Listener": "inbound",
        "Script": "function envoy_on_request("}})
}

#[test]
fn intentions_act_while_a_required_extension_is_refused_at_meshd() {
    for extension in [refused_by_consul(), refused_by_envoy()] {
        isolated("required at meshd", async move |world| {
            let mut mesh = Mesh::start(world, Kind::Meshd).await;
            mesh.extend(json!([extension])).await;
            mesh.refusal_is_named().await;
            assert_eq!(status().await, Ok(200), "what was served goes on");
            mesh.consul.intentions("web", &[("caller", "deny")]).await;
            mesh.answers(403).await;
            mesh.consul.intentions("web", &[("caller", "allow")]).await;
            mesh.answers(200).await;
            mesh.starts_closed(world).await;
        });
    }
}

/// Why meshd differs: an intention that is taken back goes on being used.
#[test]
fn intentions_do_not_act_while_a_required_extension_is_refused_at_envoy() {
    for extension in [refused_by_consul(), refused_by_envoy()] {
        isolated("required at envoy", async move |world| {
            let mut mesh = Mesh::start(world, Kind::Envoy).await;
            mesh.extend(json!([extension])).await;
            mesh.consul.intentions("web", &[("caller", "deny")]).await;
            stays(async || assert_eq!(status().await, Ok(200))).await;
            mesh.consul.intentions("web", &[("caller", "allow")]).await;
            mesh.starts_closed(world).await;
        });
    }
}

/// Looks again and again, for a while.
async fn stays(mut look: impl AsyncFnMut()) {
    let end = Instant::now() + A_WHILE;
    while Instant::now() < end {
        look().await;
    }
}

struct Mesh {
    consul: Consul,
    kind: Kind,
    web: Sidecar,
    _caller: Sidecar,
    _origin: Origin,
}

impl Mesh {
    async fn start(world: &World, kind: Kind) -> Self {
        let consul = Consul::start(world).await;
        consul.protocol("web", "http").await;
        let caller = Service::new("caller", 8000).sidecar(21000);
        let caller = caller.upstream("web", WEB);
        consul.register(&web()).await;
        consul.register(&caller).await;
        let mesh = Self {
            web: Sidecar::start(world, kind, &web()).await,
            _caller: Sidecar::start(world, Kind::Meshd, &caller).await,
            _origin: Origin::start("web", 8001).await,
            kind,
            consul,
        };
        mesh.answers(200).await;
        mesh
    }

    async fn extend(&self, extensions: Value) {
        self.consul
            .config_entry(json!({"Kind": "service-defaults", "Name": "web",
                "Protocol": "http", "EnvoyExtensions": extensions}))
            .await;
    }

    async fn refusal_is_named(&self) {
        wait::until("the refusal's name", PATIENCE, async || {
            let rejected = self.web.admin.snapshot().await["rejected"].to_string();
            let named = rejected.contains("the required extension");
            named.then_some(()).ok_or(rejected)
        })
        .await;
    }

    async fn answers(&self, wanted: u16) {
        wait::until(&wanted.to_string(), PATIENCE, async || {
            match status().await? {
                seen if seen == wanted => Ok(()),
                other => Err(other.to_string()),
            }
        })
        .await;
    }

    /// One that starts now has no earlier version to go by: its listener is not open, Consul's
    /// check says so, and callers find no healthy instance. It opens with the extension's end.
    async fn starts_closed(&mut self, world: &World) {
        self.web.process.kill();
        self.consul.passing("web", 0).await;
        self.web = Sidecar::launch(world, self.kind, &web());
        self.answers(503).await;
        stays(async || {
            assert!(!listens(PUBLIC));
            assert_eq!(status().await, Ok(503));
        })
        .await;
        self.web.process.assert_running();
        self.extend(json!([])).await;
        self.answers(200).await;
    }
}

/// The service whose sidecar is under test.
fn web() -> Service {
    Service::new("web", 8001).sidecar(PUBLIC)
}

async fn status() -> Result<u16, String> {
    let reply = get(WEB, Protocol::Http1, "/").await;
    Ok(reply.map_err(|error| error.to_string())?.status.as_u16())
}
