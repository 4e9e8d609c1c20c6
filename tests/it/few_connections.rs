//! A service that takes one connection, and a caller that may make but one: the requests of all
//! of the caller's worker threads have to get along with it.

use meridian_tests::client::{Connection, Protocol, get, loopback};
use meridian_tests::consul::{Consul, Service};
use meridian_tests::origin::Origin;
use meridian_tests::sidecar::{Kind, Sidecar};
use meridian_tests::wait::{self, PATIENCE};
use meridian_tests::world::{World, isolated, open_connections};
use serde_json::{Value, json};

/// Where the caller offers the service.
const UPSTREAM: u16 = 5000;

/// The service's public listener.
const PUBLIC: u16 = 21001;

/// Clients of the caller: so many that each of its two threads has some.
const CLIENTS: usize = 24;

/// Requests of each client, one after the other.
const ROUNDS: usize = 4;

/// What became of requests.
#[derive(Debug, Default)]
struct Counts {
    served: usize,
    failed: Vec<String>,
}

#[test]
fn a_service_that_takes_one_connection_serves_all_threads_of_meshd() {
    for callee in [Kind::Meshd, Kind::Envoy] {
        let counts = with_one_inbound(Kind::Meshd, callee);
        assert_eq!(counts.failed, [] as [String; 0], "{callee:?}");
    }
}

/// Holds the test before to the truth: the limit is in the way.
#[test]
fn a_service_that_takes_one_connection_fails_threads_of_envoy() {
    for callee in [Kind::Meshd, Kind::Envoy] {
        let counts = with_one_inbound(Kind::Envoy, callee);
        assert!(!counts.failed.is_empty(), "{callee:?}: {counts:?}");
        assert!(counts.served > 0, "{callee:?}: {counts:?}");
    }
}

#[expect(
    clippy::print_stdout,
    reason = "the counts are for the reader of the test's output"
)]
fn with_one_inbound(caller: Kind, callee: Kind) -> Counts {
    let defaults = json!({
        "Kind": "service-defaults", "Name": "web", "Protocol": "http",
        "MaxInboundConnections": 1,
    });
    let name = format!("{caller:?} calls {callee:?} by one connection");
    let counts = run(&name, [caller, callee], vec![defaults], async |_| {});
    println!(
        "{name}: {} served, {} failed",
        counts.served,
        counts.failed.len()
    );
    counts
}

#[test]
fn one_connection_that_meshd_may_make_serves_all_its_threads() {
    for limit in [0, 1] {
        let counts = with_one_outbound(Kind::Meshd, limit, async |_| {
            // Consul's own check comes and goes.
            wait::holds("one connection", PATIENCE, async || {
                open_connections(PUBLIC) == 1
            })
            .await;
        });
        assert_eq!(counts.failed, [] as [String; 0], "limit {limit}");
    }
}

/// Holds the test before to the truth: a limit of 0 means no more to Envoy.
#[test]
fn envoy_makes_connections_at_a_limit_of_0() {
    let counts = with_one_outbound(Kind::Envoy, 0, async |_| {});
    assert_eq!(counts.failed, [] as [String; 0]);
}

fn with_one_outbound(
    caller: Kind,
    limit: u32,
    then: impl AsyncFnOnce(&World) + Send + 'static,
) -> Counts {
    let limited = json!({
        "Kind": "service-defaults", "Name": "caller", "Protocol": "http",
        "UpstreamConfig": {"Defaults": {"Limits": {"MaxConnections": limit}}},
    });
    let http = json!({"Kind": "service-defaults", "Name": "web", "Protocol": "http"});
    let name = format!("{caller:?} may make {limit}");
    run(&name, [caller, Kind::Meshd], vec![limited, http], then)
}

/// Requests of clients on all threads of the caller, one after the other, and what holds then.
fn run(
    name: &str,
    [caller, callee]: [Kind; 2],
    entries: Vec<Value>,
    then: impl AsyncFnOnce(&World) + Send + 'static,
) -> Counts {
    let (tell, told) = std::sync::mpsc::channel();
    isolated(name, async move |world| {
        let consul = Consul::start(world).await;
        for entry in entries {
            consul.config_entry(entry).await;
        }
        let web = Service::new("web", 8001).sidecar(PUBLIC);
        let _origin = Origin::start("web", 8001).await;
        consul.register(&web).await;
        let calling = Service::new("caller", 8000)
            .sidecar(21000)
            .upstream("web", UPSTREAM);
        consul.register(&calling).await;
        let _callee = Sidecar::start(world, callee, &web).await;
        let mut sidecar = Sidecar::launch_on(world, caller, &calling, Some(2));
        sidecar.ready().await;
        consul.passing("web", 1).await;
        wait::until("the service answers", PATIENCE, async || {
            match get(UPSTREAM, Protocol::Http1, "/").await {
                Ok(reply) if reply.status == 200 => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await;
        let counts = requests().await;
        then(world).await;
        tell.send(counts).expect("the test waits");
    });
    told.recv().expect("the test has come to its end")
}

async fn requests() -> Counts {
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        let client = Connection::open(loopback(UPSTREAM), Protocol::Http1).await;
        clients.push(client.expect("a connection to the caller's sidecar"));
    }
    let mut counts = Counts::default();
    for _ in 0..ROUNDS {
        for client in &mut clients {
            match client.get("/").await {
                Ok(reply) if reply.status == 200 => counts.served += 1,
                Ok(reply) => counts
                    .failed
                    .push(format!("{} {}", reply.status, reply.text())),
                Err(error) => counts.failed.push(error.to_string()),
            }
        }
    }
    counts
}
