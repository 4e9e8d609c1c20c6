//! The operator's view of a sidecar, with Consul there and with Consul away.

use std::time::{SystemTime, UNIX_EPOCH};

use http::Method;
use meridian_tests::client::{Protocol, get};
use meridian_tests::consul::{Consul, Service};
use meridian_tests::origin::Origin;
use meridian_tests::sidecar::{Kind, Sidecar};
use meridian_tests::wait::{self, PATIENCE};
use meridian_tests::world::{World, isolated};

/// A caller and a destination, both beside meshd.
struct Pair {
    consul: Consul,
    caller: Sidecar,
    _web: Sidecar,
    _origin: Origin,
}

impl Pair {
    async fn start(world: &World) -> Self {
        let consul = Consul::start(world).await;
        consul.protocol("web", "http").await;
        let web = Service::new("web", 8001).sidecar(21001);
        let caller = Service::new("caller", 8000)
            .sidecar(21000)
            .upstream("web", 5000);
        consul.register(&web).await;
        consul.register(&caller).await;
        let pair = Self {
            _origin: Origin::start("web", web.port).await,
            _web: Sidecar::start(world, Kind::Meshd, &web).await,
            caller: Sidecar::start(world, Kind::Meshd, &caller).await,
            consul,
        };
        wait::until("a first reply", PATIENCE, async || call().await).await;
        pair
    }
}

async fn call() -> Result<(), String> {
    let reply = get(5000, Protocol::Http1, "/").await;
    let status = reply.map_err(|error| error.to_string())?.status;
    if status == 200 {
        Ok(())
    } else {
        Err(status.to_string())
    }
}

#[test]
fn metrics_count_what_passed() {
    isolated("metrics", async |world| {
        let pair = Pair::start(world).await;
        for _ in 0..10 {
            call().await.expect("a reply");
        }
        let metrics = pair.caller.admin.metrics().await;
        let answered = metrics.sum(
            "meridian_http_server_requests_total",
            &[
                ("direction", "outbound"),
                ("http_response_status_code", "200"),
            ],
        );
        assert!(answered >= 10.0, "{answered} requests counted");
        assert!(metrics.sum("meridian_upstream_connections_total", &[]) >= 1.0);
        assert!(metrics.sum("meridian_snapshot_generation", &[]) >= 1.0);
        let expiries = metrics.named("meridian_certificate_expiry_timestamp_seconds");
        let expiries: Vec<_> = expiries.map(|sample| sample.value).collect();
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.expect("a clock past 1970").as_secs_f64();
        assert!(
            !expiries.is_empty() && expiries.iter().all(|expiry| *expiry > now),
            "{expiries:?} are no times to come"
        );
    });
}

#[test]
fn unknown_paths_and_methods_are_refused() {
    isolated("admin", async |world| {
        let pair = Pair::start(world).await;
        let status = async |method, path| {
            let reply = pair.caller.admin.ask(method, path, "").await;
            reply.expect("an answer").status.as_u16()
        };
        assert_eq!(status(Method::GET, "/live").await, 200);
        assert_eq!(status(Method::GET, "/ready").await, 200);
        assert_eq!(status(Method::GET, "/nowhere").await, 404);
        assert_eq!(
            status(Method::GET, "/drain").await,
            405,
            "a crawler must not drain us"
        );
        pair.caller.admin.snapshot().await;
    });
}

#[test]
fn everything_goes_on_while_consul_is_away() {
    isolated("outage", async |world| {
        let mut pair = Pair::start(world).await;
        let connected = async |pair: &Pair| {
            let metrics = pair.caller.admin.metrics().await;
            metrics.sum("meridian_source_connected", &[])
        };
        assert_eq!(connected(&pair).await, 1.0);

        pair.consul.kill();
        wait::holds("the outage is noticed", PATIENCE, async || {
            connected(&pair).await == 0.0
        })
        .await;
        assert_eq!(pair.caller.admin.ready().await, Ok(200));
        call().await.expect("a reply without Consul");
        let errors = pair.caller.admin.metrics().await;
        assert!(errors.sum("meridian_source_watch_errors_total", &[]) >= 1.0);

        pair.consul.restart(world).await;
        wait::holds("the end is noticed", PATIENCE, async || {
            connected(&pair).await == 1.0
        })
        .await;
        call().await.expect("a reply with Consul back");

        pair.consul.freeze();
        call().await.expect("a reply while Consul hangs");
        assert_eq!(pair.caller.admin.ready().await, Ok(200));
        pair.consul.thaw();
    });
}

#[test]
fn the_log_level_is_changed_while_it_runs() {
    isolated("log level", async |world| {
        let pair = Pair::start(world).await;
        let admin = pair.caller.admin;
        let reply = admin.ask(Method::PUT, "/log-level", "debug").await;
        assert_eq!(reply.expect("an answer").status, 200);
        let reply = admin.ask(Method::GET, "/log-level", "").await;
        assert_eq!(reply.expect("an answer").text().trim(), "debug");
        let reply = admin.ask(Method::PUT, "/log-level", "a,b=c=d").await;
        assert_eq!(reply.expect("an answer").status, 400);
    });
}

#[test]
fn drain_ends_the_program_as_a_signal_does() {
    isolated("admin drain", async |world| {
        let mut pair = Pair::start(world).await;
        let reply = pair.caller.admin.ask(Method::POST, "/drain", "").await;
        assert!(reply.expect("an answer").status.is_success());
        assert_eq!(pair.caller.process.exit_code(PATIENCE).await, 0);
    });
}
