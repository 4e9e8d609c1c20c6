//! Nothing that an operator or Consul does to the mesh costs a request.
//!
//! Two gateways, a service behind its sidecar, 500 requests a second; and then
//! leaves and the root are rotated, the agent is stopped for a minute, listeners
//! come and go, and a gateway is told to leave. Every response is counted.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use meridian_tests::client::{Protocol, get, loopback};
use meridian_tests::consul::{Consul, Service};
use meridian_tests::gateway::{Gateway, mesh_configuration};
use meridian_tests::handshake;
use meridian_tests::load::{Load, Plan, Target};
use meridian_tests::origin::Origin;
use meridian_tests::process::Signal;
use meridian_tests::sidecar::{Kind, Sidecar};
use meridian_tests::wait::{self, PATIENCE};
use meridian_tests::world::{World, isolated, listens};

const RATE: u32 = 500;
const LEAF_ROTATIONS: usize = 20;
const LISTENER_CHANGES: u16 = 50;
const OUTAGE: Duration = Duration::from_secs(60);

/// Load before and after each event: long enough that every pooled connection is used.
const CALM: Duration = Duration::from_secs(2);

/// A root change reaches both ends within half a minute with Envoy.
const ROTATION: Duration = Duration::from_secs(60);

const GATEWAYS: [u16; 2] = [8081, 8082];
const SIDECAR: u16 = 21001;
const EXTRA_LISTENERS: u16 = 9000;

#[test]
fn no_event_costs_a_request() {
    isolated("zero loss", async |world| {
        let mut scene = Scene::start(world).await;
        let began = Instant::now();
        let load = scene.load();
        calm().await;
        scene.rotate_root_and_leaves().await;
        calm().await;
        scene.outage_with_listener_changes(world).await;
        calm().await;
        scene.first_gateway_leaves().await;
        calm().await;
        let duration = began.elapsed();
        let report = load.stop().await;

        assert_eq!(report.lost(), 0, "{report:#?}");
        let wanted = duration.as_secs_f64() * f64::from(RATE);
        assert!(
            report.sent as f64 > wanted * 0.95,
            "too little load: {report:#?} in {duration:?}"
        );
        let served = scene.origin.requests() - scene.warm_up;
        let most = report.good() + report.repeated;
        assert!(
            (report.good()..=most).contains(&served),
            "{served} at the origin: {report:#?}"
        );
    });
}

struct Scene {
    consul: Consul,
    origin: Origin,
    sidecar: Sidecar,
    gateways: Vec<Gateway>,
    /// Requests before the load.
    warm_up: u64,
}

impl Scene {
    async fn start(world: &World) -> Self {
        let consul = Consul::start(world).await;
        consul.protocol("web", "http").await;
        let web = Service::new("web", 8001).sidecar(SIDECAR);
        consul.register(&web).await;
        let origin = Origin::start("web", web.port).await;
        let sidecar = Sidecar::start(world, Kind::Meshd, &web).await;
        consul.passing("web", 1).await;
        let mut gateways = Vec::new();
        for port in GATEWAYS {
            let configuration = mesh_configuration(port, "web", &[]);
            gateways.push(Gateway::start(world, &format!("gateway-{port}"), &configuration).await);
            wait::until("the gateway reaches the service", PATIENCE, async || {
                answers(port).await
            })
            .await;
        }
        let warm_up = origin.requests();
        Self {
            consul,
            origin,
            sidecar,
            gateways,
            warm_up,
        }
    }

    fn load(&self) -> Load {
        let plan = Plan {
            rate: RATE,
            authority: "web.example".to_owned(),
            path: "/?size=200".to_owned(),
        };
        let targets = GATEWAYS.iter().zip(&self.gateways);
        let targets = targets.map(|(port, gateway)| Target::new(loopback(*port), gateway.admin));
        Load::start(plan, targets.collect::<Vec<Arc<Target>>>())
    }

    /// A new root, whose leaves are due again as soon as they are there, until
    /// enough of them were seen.
    async fn rotate_root_and_leaves(&self) {
        let old = handshake::issuer(loopback(SIDECAR))
            .await
            .expect("an issuer");
        self.consul.leaf_lifetime("5m").await;
        self.consul.rotate_root().await;
        wait::holds("a leaf of the new root", ROTATION, async || {
            let issuer = handshake::issuer(loopback(SIDECAR)).await;
            issuer.is_ok_and(|issuer| issuer != old)
        })
        .await;
        let mut seen = BTreeSet::new();
        wait::until("leaf rotations", ROTATION, async || {
            let serial = handshake::serial(loopback(SIDECAR)).await;
            seen.insert(serial.map_err(|error| error.to_string())?);
            let count = seen.len();
            // The first one seen may be the one that the root change brought.
            (count > LEAF_ROTATIONS)
                .then_some(())
                .ok_or_else(|| format!("{count} leaves seen"))
        })
        .await;
        self.consul.leaf_lifetime("72h").await;
    }

    /// Both at once: the file is a source of its own, which Consul's absence must
    /// not hold up.
    async fn outage_with_listener_changes(&mut self, world: &World) {
        let end = Instant::now() + OUTAGE;
        self.consul.kill();
        for change in 0..LISTENER_CHANGES {
            // Opens one, and closes the one before.
            let extra = |gateway: u16| EXTRA_LISTENERS + 1000 * gateway + change;
            for ((gateway, port), number) in self.gateways.iter().zip(GATEWAYS).zip(0..) {
                gateway.reconfigure(&mesh_configuration(port, "web", &[extra(number)]));
            }
            wait::holds(
                "one listener opens, the one before closes",
                PATIENCE,
                async || {
                    let ports = [extra(0), extra(1)];
                    ports
                        .iter()
                        .all(|port| listens(*port) && !listens(port - 1))
                },
            )
            .await;
        }
        tokio::time::sleep_until(end.into()).await;
        assert_eq!(self.sidecar.admin.ready().await, Ok(200));
        self.consul.restart(world).await;
        wait::holds("the sidecar has Consul again", PATIENCE, async || {
            let metrics = self.sidecar.admin.metrics().await;
            metrics.sum("meridian_source_connected", &[]) == 1.0
        })
        .await;
    }

    async fn first_gateway_leaves(&mut self) {
        let gateway = &mut self.gateways[0].process;
        gateway.signal(Signal::SIGTERM);
        assert_eq!(gateway.exit_code(PATIENCE).await, 0);
    }
}

async fn answers(port: u16) -> Result<(), String> {
    let reply = get(port, Protocol::Http1, "/").await;
    let status = reply.map_err(|error| error.to_string())?.status;
    if status == 200 {
        Ok(())
    } else {
        Err(status.to_string())
    }
}

/// Load with nothing else going on.
async fn calm() {
    tokio::time::sleep(CALM).await;
}
