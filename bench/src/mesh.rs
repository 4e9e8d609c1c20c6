//! Two pairs of sidecars on one real Consul, side by side: caller and callee are
//! Envoys in one, meshds in the other. Every proxy has one worker thread.

use std::net::SocketAddr;
use std::time::Duration;

use meridian_tests::admin::Admin;
use meridian_tests::client::{Protocol, get, grpc, loopback};
use meridian_tests::consul::{Consul, HTTP_API, Service};
use meridian_tests::process::Process;
use meridian_tests::sidecar::{Kind, Sidecar};
use meridian_tests::tools;
use meridian_tests::wait;
use meridian_tests::world::{World, listens};
use serde_json::{Value, json};

use crate::account::Tree;
use crate::origin::{self, Application, CALL};

/// What differs between the mesh cases.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Setting {
    /// `Protocol` of the services.
    pub(crate) protocol: &'static str,
    /// Who answers behind the sidecars.
    pub(crate) application: Application,
    /// Who may call.
    pub(crate) intentions: Intentions,
    /// Leave out `X-Forwarded-Client-Cert`, which costs Envoy half of its time.
    pub(crate) sanitized: bool,
}

impl Setting {
    /// HTTP/1.1 as Consul configures it by itself.
    pub(crate) const HTTP: Self = Self {
        protocol: "http",
        application: Application::Files,
        intentions: Intentions::Caller,
        sanitized: false,
    };
}

/// Who may call the called service; nobody else may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Intentions {
    /// The caller.
    Caller,
    /// The caller, behind so many other services.
    Many(usize),
    /// The caller, as far as permissions allow: so many paths are denied before
    /// the last permission allows GET with a header that must be absent.
    Permissions(usize),
}

impl Intentions {
    /// The `Sources` of the intentions' entry.
    fn sources(self, caller: &str) -> Value {
        let allow = |name: &str| json!({"Name": name, "Action": "allow"});
        let deny = json!({"Name": "*", "Action": "deny"});
        match self {
            Self::Caller => json!([allow(caller), deny]),
            Self::Many(others) => {
                let others = (0..others).map(|other| allow(&format!("other-{other}")));
                let all = others.chain([allow(caller), deny]);
                Value::Array(all.collect())
            }
            Self::Permissions(denied) => {
                let path = |number: usize| format!("/admin-{number}/");
                let denied = (0..denied)
                    .map(|number| json!({"Action": "deny", "HTTP": {"PathPrefix": path(number)}}));
                let allowed = json!({"Action": "allow", "HTTP": {
                    "PathPrefix": "/",
                    "Methods": ["GET"],
                    "Header": [{"Name": "x-blocked", "Present": true, "Invert": true}],
                }});
                let permissions: Vec<_> = denied.chain([allowed]).collect();
                json!([{"Name": caller, "Permissions": permissions}, deny])
            }
        }
    }
}

/// Consul and the application.
#[derive(Debug)]
pub(crate) struct Mesh {
    pub(crate) consul: Consul,
    _origin: origin::Running,
}

/// A caller, a callee, and who stands beside them.
#[derive(Debug, Clone)]
pub(crate) struct Pair {
    /// Who.
    pub(crate) kind: Kind,
    /// Service that calls; its sidecar offers the other one on [`Pair::port`].
    pub(crate) caller: Service,
    /// Service that is called.
    pub(crate) callee: Service,
}

impl Pair {
    /// The pair of the peer, and ours.
    pub(crate) fn both(setting: Setting) -> [Self; 2] {
        [
            Self::new(Kind::Envoy, 0, setting),
            Self::new(Kind::Meshd, 1, setting),
        ]
    }

    fn new(kind: Kind, index: u16, setting: Setting) -> Self {
        let name = |role: &str| format!("{role}-{kind:?}").to_lowercase();
        let callee = Service::new(&name("api"), setting.application.port()).sidecar(21000 + index);
        let caller = Service::new(&name("web"), 8900 + index)
            .sidecar(21100 + index)
            .upstream(&callee.name, 5000 + index);
        Self {
            kind,
            caller,
            callee,
        }
    }

    /// Name in tables.
    pub(crate) fn title(&self) -> &'static str {
        match self.kind {
            Kind::Envoy => "Envoy",
            Kind::Meshd => "meshd",
        }
    }

    /// Where the caller reaches the callee.
    pub(crate) fn port(&self) -> u16 {
        self.caller.upstreams[0].port
    }
}

impl Mesh {
    /// Starts Consul and the origin, and registers both pairs.
    pub(crate) async fn start(world: &World, setting: Setting, pairs: &[Pair]) -> Self {
        let consul = Consul::start(world).await;
        let origin = origin::start(world, setting.application).await;
        if setting.sanitized {
            consul
                .config_entry(json!({
                    "Kind": "mesh", "HTTP": {"SanitizeXForwardedClientCert": true},
                }))
                .await;
        }
        for pair in pairs {
            for service in [&pair.callee, &pair.caller] {
                consul.protocol(&service.name, setting.protocol).await;
                consul.register(service).await;
            }
            consul
                .config_entry(json!({
                    "Kind": "service-intentions",
                    "Name": pair.callee.name,
                    "Sources": setting.intentions.sources(&pair.caller.name),
                }))
                .await;
        }
        Self {
            consul,
            _origin: origin,
        }
    }

    /// Starts both sidecars of a pair and waits until they carry traffic.
    pub(crate) async fn run(&self, world: &World, pair: &Pair) -> Running {
        let callee = ready(world, pair.kind, &pair.callee).await;
        self.consul.passing(&pair.callee.name, 1).await;
        let caller = ready(world, pair.kind, &pair.caller).await;
        Running {
            port: pair.port(),
            callee,
            caller,
        }
    }
}

/// A pair that carries traffic.
#[derive(Debug)]
pub(crate) struct Running {
    /// Where load goes.
    pub(crate) port: u16,
    /// Sidecar of the called service.
    pub(crate) callee: Sidecarred,
    /// Sidecar of the calling service.
    pub(crate) caller: Sidecarred,
}

impl Running {
    /// Both proxies.
    pub(crate) fn processes(&self) -> [Tree; 2] {
        [self.callee.tree(), self.caller.tree()]
    }

    /// Waits until a request crosses both proxies.
    pub(crate) async fn answers(&self, setting: Setting) {
        let what = format!("an answer on {}", self.port);
        wait::until(&what, wait::PATIENCE, async || {
            let reply = match setting.protocol {
                "grpc" => {
                    return grpc::unary(loopback(self.port), CALL, b"?")
                        .await
                        .map(|_| ())
                        .map_err(|error| error.to_string());
                }
                "http2" => get(self.port, Protocol::Http2, "/").await,
                _ => get(self.port, Protocol::Http1, "/").await,
            };
            let status = reply.map_err(|error| error.to_string())?.status;
            (status == 200)
                .then_some(())
                .ok_or_else(|| status.to_string())
        })
        .await;
    }
}

/// A sidecar with one worker thread.
#[derive(Debug)]
pub(crate) struct Sidecarred {
    process: Process,
    /// Its admin listener.
    pub(crate) admin: Admin,
}

impl Sidecarred {
    /// The process and its children.
    pub(crate) fn tree(&self) -> Tree {
        Tree::of(self.process.id())
    }
}

/// Starts a sidecar without waiting for it.
pub(crate) fn launch(world: &World, kind: Kind, service: &Service) -> Sidecarred {
    if kind == Kind::Envoy {
        // The harness gives Envoy one worker.
        let Sidecar { process, admin, .. } = Sidecar::launch(world, kind, service);
        return Sidecarred { process, admin };
    }
    let address = SocketAddr::from(([127, 0, 0, 1], world.fresh_port()));
    let name = format!("{}-{}", service.name, address.port());
    // Envoy writes no access log unless it is told to.
    let file = world.write(
        &format!("{name}.yaml"),
        "version: mesh/v1\nthreads: 1\ntelemetry: {accessLog: {destination: none}}\n",
    );
    let words = format!(
        "run --sidecar-for {} --http-addr {HTTP_API} --admin-bind {address} --config {}",
        service.name,
        file.display()
    );
    Sidecarred {
        process: world.spawn(&name, &tools::ours("meshd"), words.split(' ')),
        admin: Admin::new(address),
    }
}

/// Starts a sidecar and waits until its listeners are open.
pub(crate) async fn ready(world: &World, kind: Kind, service: &Service) -> Sidecarred {
    /// As the integration tests allow.
    const READY: Duration = Duration::from_secs(30);
    let sidecar = launch(world, kind, service);
    let ports = service.sidecar_ports();
    wait::until(&format!("sidecar of {}", service.name), READY, async || {
        let status = sidecar.admin.ready().await?;
        let open = ports.iter().all(|port| listens(*port));
        (status == 200 && open)
            .then_some(())
            .ok_or_else(|| format!("/ready answers {status}, all listeners open: {open}"))
    })
    .await;
    sidecar
}
