//! Upstreams and entries that lead to a place which is not there: a datacenter that nobody knows, a
//! cluster peer, an Enterprise namespace or partition.

use http::Method;
use meridian_tests::client::{Protocol, get};
use meridian_tests::consul::{Consul, Service};
use meridian_tests::origin::Origin;
use meridian_tests::sidecar::{Kind, Sidecar};
use meridian_tests::wait::{self, PATIENCE};
use meridian_tests::world::{World, isolated, listens};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// Where the caller reaches a service that is there.
const GOOD: u16 = 5001;
/// Where its odd upstream is.
const ODD: u16 = 5002;

/// So long Envoy is looked at, which does nothing.
const A_WHILE: Duration = Duration::from_secs(4);

#[test]
fn an_upstream_to_nowhere_fails_for_itself_at_meshd() {
    isolated("nowhere at meshd", async |world| {
        let mut stage = Stage::start(world, Kind::Meshd).await;
        for (odd, answer, reason) in [
            (
                json!({"Datacenter": "nowhere"}),
                "503",
                "No path to datacenter",
            ),
            (
                json!({"DestinationPeer": "ghost"}),
                "-",
                "peers are not served",
            ),
            // Community Edition takes no notice.
            (json!({"DestinationNamespace": "other"}), "200", ""),
            (json!({"DestinationPartition": "other"}), "200", ""),
        ] {
            for anew in [false, true] {
                stage.with_upstream(&odd).await;
                if anew {
                    stage.start_anew(world).await;
                }
                answers(ODD, "/", answer).await;
                stage.rejects(reason).await;
                stage.follows().await;
                stage.without_upstream().await;
            }
        }
    });
}

/// Why meshd differs: nothing else of the proxy is told either, and one that starts is not ready.
#[test]
fn an_upstream_to_nowhere_stops_all_of_envoy() {
    isolated("nowhere at envoy", async |world| {
        let mut stage = Stage::start(world, Kind::Envoy).await;
        stage
            .with_upstream(&json!({"DestinationPeer": "ghost"}))
            .await;
        stage.follows().await;
        assert_eq!(status(ODD, "/").await, "-");
        stage.with_upstream(&json!({"Datacenter": "nowhere"})).await;
        stage.redirect(true).await;
        stays(async || assert_eq!(status(GOOD, "/").await, "200")).await;
        stage.redirect(false).await;
        stage.kill_and_launch(world);
        wait::until("an answer", PATIENCE, async || {
            stage.caller.admin.ready().await
        })
        .await;
        stays(async || {
            assert_eq!(stage.caller.admin.ready().await, Ok(503));
            assert!(!listens(GOOD));
        })
        .await;
    });
}

#[test]
fn entries_that_lead_nowhere_answer_for_themselves_at_meshd() {
    isolated("entries to nowhere at meshd", async |world| {
        let stage = Stage::start(world, Kind::Meshd).await;
        for (entry, answer, reason) in entries() {
            stage.consul.config_entry(entry.clone()).await;
            answers(GOOD, "/odd", answer).await;
            stage.rejects(reason).await;
            stage.delete(&entry).await;
            stage.rejects("").await;
            answers(GOOD, "/odd", "200").await;
        }
    });
}

/// What Envoy makes of the two that Consul tells it of. To a namespace it finds the default one.
#[test]
fn entries_that_lead_nowhere_at_envoy() {
    isolated("entries to nowhere at envoy", async |world| {
        let stage = Stage::start(world, Kind::Envoy).await;
        for ((entry, ..), answer) in entries().into_iter().zip(["404", "200", "200", "503"]) {
            stage.consul.config_entry(entry.clone()).await;
            answers(GOOD, "/odd", answer).await;
            stage.delete(&entry).await;
        }
        answers(GOOD, "/odd", "200").await;
    });
}

/// Entries that Community Edition stores, what meshd answers under them, and what it says.
fn entries() -> [(Value, &'static str, &'static str); 4] {
    let resolver =
        |key: &str, value: Value| json!({"Kind": "service-resolver", "Name": "good", key: value});
    let router = |key: &str| {
        json!({"Kind": "service-router", "Name": "good", "Routes": [
            {"Match": {"HTTP": {"PathPrefix": "/odd"}},
                "Destination": {"Service": "other", key: "other"}}]})
    };
    [
        (
            resolver("Redirect", json!({"Service": "good", "Peer": "ghost"})),
            "503",
            "it lies in cluster peer `ghost`",
        ),
        (
            resolver("Failover", json!({"*": {"Targets": [{"Peer": "ghost"}]}})),
            "200",
            "it lies in cluster peer `ghost`",
        ),
        (
            router("Namespace"),
            "503",
            "Namespaces are a Consul Enterprise feature",
        ),
        (
            router("Partition"),
            "503",
            "Partitions are a Consul Enterprise feature",
        ),
    ]
}

/// Looks again and again, for a while.
async fn stays(mut look: impl AsyncFnMut()) {
    let end = Instant::now() + A_WHILE;
    while Instant::now() < end {
        look().await;
    }
}

/// A caller of two services, `good` and `other`.
struct Stage {
    consul: Consul,
    kind: Kind,
    caller: Sidecar,
    _running: Vec<(Origin, Sidecar)>,
}

impl Stage {
    async fn start(world: &World, kind: Kind) -> Self {
        let consul = Consul::start(world).await;
        let mut running = Vec::new();
        for (number, name) in (1..).zip(["good", "other"]) {
            consul.protocol(name, "http").await;
            let service = Service::new(name, 8000 + number).sidecar(21000 + number);
            consul.register(&service).await;
            let origin = Origin::start(name, service.port).await;
            running.push((origin, Sidecar::start(world, Kind::Meshd, &service).await));
        }
        consul.register(&caller()).await;
        let stage = Self {
            caller: Sidecar::start(world, kind, &caller()).await,
            consul,
            kind,
            _running: running,
        };
        answers(GOOD, "/", "200").await;
        stage
    }

    async fn with_upstream(&self, odd: &Value) {
        let good = json!({"DestinationName": "good", "LocalBindPort": GOOD});
        let mut upstream = json!({"DestinationName": "other", "LocalBindPort": ODD});
        for (key, value) in odd.as_object().into_iter().flatten() {
            upstream[key] = value.clone();
        }
        let sidecar = json!({"Address": "127.0.0.1", "Port": 21000,
            "Proxy": {"Upstreams": [good, upstream]}});
        let body = json!({"Name": "caller", "Port": 8000, "Address": "127.0.0.1",
            "Connect": {"SidecarService": sidecar}});
        let path = "/v1/agent/service/register";
        self.consul.api(Method::PUT, path, Some(body)).await;
    }

    async fn without_upstream(&self) {
        self.consul.register(&caller()).await;
        answers(ODD, "/", "-").await;
    }

    fn kill_and_launch(&mut self, world: &World) {
        self.caller.process.kill();
        self.caller = Sidecar::launch(world, self.kind, &caller());
    }

    async fn start_anew(&mut self, world: &World) {
        self.kill_and_launch(world);
        self.caller.ready().await;
    }

    /// Waits until `/snapshot` says so; nothing, where there is nothing to say.
    async fn rejects(&self, reason: &str) {
        wait::until(reason, PATIENCE, async || {
            let rejected = self.caller.admin.snapshot().await["rejected"].to_string();
            match reason.is_empty() {
                true if rejected == "[]" => Ok(()),
                false if rejected.contains(reason) => Ok(()),
                _ => Err(rejected),
            }
        })
        .await;
    }

    /// What is elsewhere in the configuration goes on being followed.
    async fn follows(&self) {
        self.redirect(true).await;
        answers(GOOD, "/", "503").await;
        self.redirect(false).await;
        answers(GOOD, "/", "200").await;
    }

    /// Sends the good service's callers to nobody, or no longer.
    async fn redirect(&self, away: bool) {
        let entry = json!({"Kind": "service-resolver", "Name": "good",
            "Redirect": {"Service": "nobody"}});
        match away {
            true => {
                self.consul.protocol("nobody", "http").await;
                self.consul.config_entry(entry).await;
            }
            false => self.delete(&entry).await,
        }
    }

    async fn delete(&self, entry: &Value) {
        let text = |key: &str| entry[key].as_str().unwrap_or_default().to_owned();
        self.consul
            .delete_config_entry(&text("Kind"), &text("Name"))
            .await;
    }
}

fn caller() -> Service {
    Service::new("caller", 8000)
        .sidecar(21000)
        .upstream("good", GOOD)
}

async fn answers(port: u16, path: &str, wanted: &str) {
    wait::until(
        &format!("{wanted} at {port}"),
        PATIENCE,
        async || match status(port, path).await {
            seen if seen == wanted => Ok(()),
            other => Err(other),
        },
    )
    .await;
}

/// Status of a reply; `-` without one.
async fn status(port: u16, path: &str) -> String {
    match get(port, Protocol::Http1, path).await {
        Ok(reply) => reply.status.as_u16().to_string(),
        Err(_) => "-".to_owned(),
    }
}
