//! A sidecar that starts while Consul is away serves what it knew, for as long as
//! its certificate is good; and without its key it says that it can't.

use std::path::{Path, PathBuf};

use http::Method;
use meridian_tests::client::{Protocol, get};
use meridian_tests::consul::{Consul, HTTP_API, Service};
use meridian_tests::origin::Origin;
use meridian_tests::sidecar::{Kind, Sidecar};
use meridian_tests::wait::{self, PATIENCE};
use meridian_tests::world::{World, isolated};
use serde_json::Value;

const WEB: u16 = 5001;

/// A caller that remembers, and a destination beside another sidecar.
struct Mesh {
    consul: Consul,
    caller: Sidecar,
    words: Vec<String>,
    _web: Sidecar,
    _origin: Origin,
}

fn caller() -> Service {
    Service::new("caller", 8000)
        .sidecar(21000)
        .upstream("web", WEB)
}

impl Mesh {
    async fn start(world: &World, state: &Path, more: &[&str]) -> Self {
        let consul = Consul::start(world).await;
        consul.protocol("web", "http").await;
        let web = Service::new("web", 8001).sidecar(21001);
        consul.register(&web).await;
        consul.register(&caller()).await;
        let origin = Origin::start("web", web.port).await;
        let web = Sidecar::start(world, Kind::Meshd, &web).await;
        let own = format!("--http-addr {HTTP_API} --state-dir {}", state.display());
        let words = own.split_whitespace().chain(more.iter().copied());
        let words: Vec<_> = words.map(str::to_owned).collect();
        let mut caller = Sidecar::launch_with(world, &caller(), &words);
        caller.ready().await;
        wait::until("a first reply", PATIENCE, async || call().await).await;
        Self {
            consul,
            caller,
            words,
            _web: web,
            _origin: origin,
        }
    }

    /// Ends Consul, kills the sidecar, and starts it again.
    async fn restart_alone(&mut self, world: &World) {
        self.consul.kill();
        self.caller.process.kill();
        self.caller = Sidecar::launch_with(world, &caller(), &self.words);
    }

    async fn source(&self, name: &str) -> Option<Value> {
        let snapshot = self.caller.admin.snapshot().await;
        let sources = snapshot["sources"].as_array()?;
        sources.iter().find(|one| one["name"] == name).cloned()
    }

    /// Waits for the text of a `/ready` that is not.
    async fn not_ready_for(&self, reason: &str) {
        wait::until("the reason", PATIENCE, async || {
            let reply = self.caller.admin.ask(Method::GET, "/ready", "").await?;
            let text = reply.text();
            (reply.status == 503 && text.contains(reason))
                .then_some(())
                .ok_or(text)
        })
        .await;
    }
}

async fn call() -> Result<(), String> {
    let reply = get(WEB, Protocol::Http1, "/").await;
    let status = reply.map_err(|error| error.to_string())?.status;
    if status == 200 {
        Ok(())
    } else {
        Err(status.to_string())
    }
}

/// Waits until the folder holds one answer of each of these kinds, and says whose it is.
async fn kept(state: &Path, kinds: &[&str]) {
    wait::until("everything is kept", PATIENCE, async || {
        let files = std::fs::read_dir(state).map_err(|error| error.to_string())?;
        let names: Vec<_> = files
            .filter_map(|file| file.ok()?.file_name().into_string().ok())
            .collect();
        let missing = kinds.iter().find(|kind| {
            let is_it = |name: &&String| name.starts_with(**kind) && name.ends_with(".json");
            !names.iter().any(|name| is_it(&name))
        });
        if let Some(kind) = missing {
            return Err(format!("no {kind} in {names:?}"));
        }
        // The first answer may be of a time at which no check had run.
        let health = answer(state, "health")?;
        if health.contains("critical") || !health.contains("passing") {
            return Err(health);
        }
        Ok(())
    })
    .await;
}

/// The file of the only answer of its kind.
fn file_of(state: &Path, kind: &str) -> Result<PathBuf, String> {
    let files = std::fs::read_dir(state).map_err(|error| error.to_string())?;
    let mut paths = files.filter_map(|file| Some(file.ok()?.path()));
    let is_it = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str());
        name.is_some_and(|name| name.starts_with(kind) && name.ends_with(".json"))
    };
    paths.find(is_it).ok_or_else(|| format!("no {kind}"))
}

fn answer(state: &Path, kind: &str) -> Result<String, String> {
    std::fs::read_to_string(file_of(state, kind)?).map_err(|error| error.to_string())
}

const KINDS: [&str; 9] = [
    "owner",
    "registration",
    "roots",
    "leaf",
    "intentions",
    "agent",
    "mesh",
    "chain",
    "health",
];

#[test]
fn traffic_flows_after_a_restart_without_consul_where_keys_are_kept() {
    isolated("restart", async |world| {
        let state = world.directory().join("state");
        let mut mesh = Mesh::start(world, &state, &["--keep-keys"]).await;
        kept(&state, &KINDS).await;
        mesh.restart_alone(world).await;
        mesh.caller.ready().await;
        wait::until("a reply without Consul", PATIENCE, async || call().await).await;
        let memory = mesh.source("memory").await.expect("memory is named");
        assert_eq!(memory["state"], "stale", "{memory}");
        let age = memory["ageSeconds"].as_f64();
        assert!(age.is_some_and(|age| age < 120.0), "{memory}");
        let consul = mesh.source("consul").await.expect("Consul is a source");
        assert_eq!(consul["cause"], "unreachable", "{consul}");

        // Consul's word counts again as soon as it is back.
        mesh.consul.restart(world).await;
        wait::until("Consul is heard", PATIENCE, async || {
            let consul = mesh.source("consul").await;
            let memory = mesh.source("memory").await;
            let current = consul.as_ref().is_some_and(|one| one["state"] == "current");
            (current && memory.is_none())
                .then_some(())
                .ok_or_else(|| format!("{consul:?} {memory:?}"))
        })
        .await;
        mesh.consul.intentions("web", &[("caller", "deny")]).await;
        wait::until("news arrives", PATIENCE, async || match call().await {
            Err(status) if status.starts_with("403") => Ok(()),
            other => Err(format!("{other:?}")),
        })
        .await;
    });
}

#[test]
fn without_its_key_a_restarted_sidecar_waits_for_consul_and_says_so() {
    isolated("restart without key", async |world| {
        let state = world.directory().join("state");
        let mut mesh = Mesh::start(world, &state, &[]).await;
        kept(&state, &KINDS).await;
        for file in std::fs::read_dir(&state).expect("the state directory") {
            let path = file.expect("a file").path();
            let text = std::fs::read_to_string(&path).unwrap_or_default();
            assert!(!text.contains("PRIVATE KEY"), "{}", path.display());
        }
        mesh.restart_alone(world).await;
        mesh.not_ready_for("--keep-keys").await;
        assert!(mesh.caller.process.log().contains("--keep-keys"));
        mesh.consul.restart(world).await;
        mesh.caller.ready().await;
        wait::until("a reply with Consul", PATIENCE, async || call().await).await;
    });
}

#[test]
fn an_expired_certificate_is_not_served_from_memory() {
    isolated("restart expired", async |world| {
        let state = world.directory().join("state");
        let mut mesh = Mesh::start(world, &state, &["--keep-keys"]).await;
        kept(&state, &KINDS).await;
        mesh.consul.kill();
        mesh.caller.process.kill();
        // As if it had been lying there for years: an hour is the least that Consul signs for.
        let file = file_of(&state, "leaf").expect("a leaf");
        let text = answer(&state, "leaf").expect("a leaf");
        let (head, body) = text.split_once('\n').expect("a head");
        let mut leaf: Value = serde_json::from_str(body).expect("Consul's answer");
        leaf["ValidBefore"] = "2020-01-01T00:00:00Z".into();
        std::fs::write(&file, format!("{head}\n{leaf}")).expect("the leaf");
        mesh.restart_alone(world).await;
        mesh.not_ready_for("expired at 2020").await;
    });
}

#[test]
fn a_directory_that_others_may_read_is_refused() {
    isolated("loose state", async |world| {
        use std::os::unix::fs::PermissionsExt;
        let state = world.directory().join("state");
        std::fs::create_dir(&state).expect("a directory");
        std::fs::set_permissions(&state, std::fs::Permissions::from_mode(0o755)).expect("a mode");
        let state = state.display().to_string();
        let words = ["--state-dir", &state, "--keep-keys"].map(str::to_owned);
        let mut sidecar = Sidecar::launch_with(world, &caller(), &words);
        assert_eq!(sidecar.process.exit_code(PATIENCE).await, 2);
        assert!(sidecar.process.log().contains("chmod 700"));
    });
}
