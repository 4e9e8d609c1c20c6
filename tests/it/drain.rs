//! How a proxy leaves: at once when idle, after its requests when not, and at
//! once again when told twice.

use std::time::{Duration, Instant};

use meridian_tests::client::{Connection, Protocol, get, loopback};
use meridian_tests::consul::{Consul, Service};
use meridian_tests::gateway::{Gateway, static_configuration};
use meridian_tests::origin::Origin;
use meridian_tests::process::Signal;
use meridian_tests::sidecar::{Kind, Sidecar};
use meridian_tests::wait::{self, PATIENCE};
use meridian_tests::world::isolated;

/// Promised for idle programs.
const AT_ONCE: Duration = Duration::from_millis(100);

const LISTENER: u16 = 8080;

#[test]
fn an_idle_sidecar_ends_at_once() {
    isolated("idle sidecar", async |world| {
        let consul = Consul::start(world).await;
        let service = Service::new("web", 8000)
            .sidecar(21000)
            .upstream("api", 5000);
        consul.register(&service).await;
        let mut sidecar = Sidecar::start(world, Kind::Meshd, &service).await;
        let began = Instant::now();
        sidecar.process.signal(Signal::SIGTERM);
        assert_eq!(sidecar.process.exit_code(PATIENCE).await, 0);
        assert!(began.elapsed() < AT_ONCE, "took {:?}", began.elapsed());
    });
}

#[test]
fn an_idle_gateway_ends_at_once() {
    isolated("idle gateway", async |world| {
        let origin = Origin::start("origin", 0).await;
        for signal in [Signal::SIGTERM, Signal::SIGINT] {
            let configuration = static_configuration(LISTENER, origin.address());
            let mut gateway = Gateway::start(world, "gateway", &configuration).await;
            let began = Instant::now();
            gateway.process.signal(signal);
            assert_eq!(gateway.process.exit_code(PATIENCE).await, 0, "{signal}");
            assert!(
                began.elapsed() < AT_ONCE,
                "{signal} took {:?}",
                began.elapsed()
            );
        }
    });
}

#[test]
fn requests_under_way_are_finished() {
    isolated("busy gateway", async |world| {
        let origin = Origin::start("origin", 0).await;
        let configuration = static_configuration(LISTENER, origin.address());
        let mut gateway = Gateway::start(world, "gateway", &configuration).await;
        let mut first = Connection::open(loopback(LISTENER), Protocol::Http1)
            .await
            .unwrap();
        let mut second = Connection::open(loopback(LISTENER), Protocol::Http2)
            .await
            .unwrap();
        let slow = async { tokio::join!(first.get("/?delay=1500"), second.get("/?delay=1500")) };
        let leave = async {
            wait::holds("both requests at the origin", PATIENCE, async || {
                origin.requests() == 2
            })
            .await;
            gateway.process.signal(Signal::SIGTERM);
            wait::until("readiness fails", PATIENCE, async || {
                match gateway.admin.ready().await {
                    Ok(503) => Ok(()),
                    other => Err(format!("{other:?}")),
                }
            })
            .await;
            wait::holds("no new connections", PATIENCE, async || {
                get(LISTENER, Protocol::Http1, "/").await.is_err()
            })
            .await;
        };
        let ((over_http1, over_http2), ()) = tokio::join!(slow, leave);
        let over_http1 = over_http1.expect("the reply over HTTP/1.1");
        assert_eq!(over_http1.status, 200);
        assert_eq!(over_http1.headers["connection"], "close");
        assert_eq!(over_http2.expect("the reply over HTTP/2").status, 200);
        assert_eq!(gateway.process.exit_code(PATIENCE).await, 0);
    });
}

#[test]
fn a_second_signal_ends_at_once() {
    isolated("impatience", async |world| {
        let origin = Origin::start("origin", 0).await;
        let configuration = static_configuration(LISTENER, origin.address());
        let mut gateway = Gateway::start(world, "gateway", &configuration).await;
        let mut connection = Connection::open(loopback(LISTENER), Protocol::Http1)
            .await
            .unwrap();
        let slow = tokio::spawn(async move { connection.get("/?delay=15000").await });
        wait::holds("the request is at the origin", PATIENCE, async || {
            origin.requests() == 1
        })
        .await;
        gateway.process.signal(Signal::SIGTERM);
        wait::holds("readiness fails", PATIENCE, async || {
            gateway.admin.ready().await == Ok(503)
        })
        .await;
        gateway.process.assert_running();
        let began = Instant::now();
        gateway.process.signal(Signal::SIGTERM);
        assert_eq!(gateway.process.exit_code(PATIENCE).await, 1);
        assert!(began.elapsed() < AT_ONCE, "took {:?}", began.elapsed());
        assert!(slow.await.unwrap().is_err(), "the request was cut off");
    });
}
