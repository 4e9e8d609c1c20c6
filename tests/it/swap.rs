//! A service goes from Envoy to meshd and back under load, without a lost request.
//!
//! It is done as docs/operations.md tells operators: one instance after the other
//! goes into maintenance, so that nobody calls it; when it is idle its proxy ends,
//! and the other one starts on the same registration. Callers of both kinds call
//! all the while, with requests that may be repeated and with others.

use std::time::Duration;

use http::Method;
use meridian_tests::client::loopback;
use meridian_tests::consul::{Consul, Service};
use meridian_tests::load::{Load, Plan, Target};
use meridian_tests::origin::Fickle;
use meridian_tests::process::Signal;
use meridian_tests::sidecar::{Kind, Sidecar};
use meridian_tests::wait::{self, PATIENCE};
use meridian_tests::world::{World, isolated};

/// Requests a second of each load.
const RATE: u32 = 50;

/// What the application takes for an answer.
const PAUSE: Duration = Duration::from_millis(20);

/// No request for so long: the callers know, and all is answered.
const IDLE: Duration = Duration::from_secs(1);

const CALLERS: [(Kind, u16); 2] = [(Kind::Envoy, 5000), (Kind::Meshd, 5001)];

#[test]
fn a_service_goes_from_envoy_to_meshd_and_back_without_a_lost_request() {
    isolated("swap", async |world| {
        let consul = Consul::start(world).await;
        consul.protocol("web", "http").await;
        let mut webs = [
            Web::start(world, &consul, 0).await,
            Web::start(world, &consul, 1).await,
        ];
        let mut callers = Vec::new();
        for (number, (kind, upstream)) in (0..).zip(CALLERS) {
            let service = Service::new(&format!("caller-{number}"), 8010 + number)
                .sidecar(21010 + number)
                .upstream("web", upstream);
            consul.register(&service).await;
            callers.push(Sidecar::start(world, kind, &service).await);
        }
        consul.passing("web", 2).await;
        all_serve(&callers, &webs).await;

        let loads: Vec<_> = [Method::GET, Method::POST]
            .into_iter()
            .flat_map(|method| loads(&method, &callers))
            .collect();
        for kind in [Kind::Meshd, Kind::Envoy] {
            for web in &mut webs {
                web.swap(world, &consul, kind).await;
            }
        }
        for load in loads {
            let report = load.stop().await;
            assert!(report.sent > 0, "no load");
            assert_eq!(report.lost(), 0, "{report:#?}");
        }
    });
}

/// One instance.
struct Web {
    service: Service,
    origin: Fickle,
    sidecar: Sidecar,
}

impl Web {
    async fn start(world: &World, consul: &Consul, number: u16) -> Self {
        let service = Service::new("web", 8001 + number)
            .id(&format!("web-{number}"))
            .sidecar(21001 + number);
        consul.register(&service).await;
        Self {
            origin: Fickle::start(service.port, PAUSE).await,
            sidecar: Sidecar::start(world, Kind::Envoy, &service).await,
            service,
        }
    }

    /// Another proxy on the same registration, and back to work.
    async fn swap(&mut self, world: &World, consul: &Consul, kind: Kind) {
        let proxy = format!("{}-sidecar-proxy", self.service.id);
        consul.maintenance(&proxy, true).await;
        self.idle().await;
        self.sidecar.process.signal(Signal::SIGTERM);
        self.sidecar.process.exit_code(PATIENCE).await;
        self.sidecar = Sidecar::start(world, kind, &self.service).await;
        let before = self.origin.received();
        consul.maintenance(&proxy, false).await;
        consul.passing("web", 2).await;
        self.busy(before).await;
    }

    /// Waits until nobody has called for a while.
    async fn idle(&self) {
        wait::until("nobody calls", PATIENCE, async || {
            let before = self.origin.received();
            tokio::time::sleep(IDLE).await;
            let more = self.origin.received() - before;
            (more == 0)
                .then_some(())
                .ok_or_else(|| format!("{more} requests"))
        })
        .await;
    }

    async fn busy(&self, before: u64) {
        wait::holds("calls again", PATIENCE, async || {
            self.origin.received() > before + 5
        })
        .await;
    }
}

/// A load through each caller alone, so that neither answers for the other.
fn loads(method: &Method, callers: &[Sidecar]) -> Vec<Load> {
    let callers = callers.iter().zip(CALLERS);
    let start = |(caller, (_, port)): (&Sidecar, (Kind, u16))| {
        let plan = Plan {
            rate: RATE,
            authority: "web.example".to_owned(),
            path: "/".to_owned(),
        };
        let target = Target::new(loopback(port), caller.admin);
        Load::of(method.clone(), plan, vec![target])
    };
    callers.map(start).collect()
}

/// Waits until both callers reach both instances.
async fn all_serve(callers: &[Sidecar], webs: &[Web; 2]) {
    for load in loads(&Method::GET, callers) {
        for web in webs {
            web.busy(web.origin.received()).await;
        }
        load.stop().await;
    }
}
