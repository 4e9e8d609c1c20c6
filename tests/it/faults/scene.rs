//! Two callers and a service of two instances, all beside meshd, and loads that
//! may and that may not be repeated.

use std::time::Duration;

use http::Method;
use meridian_tests::client::loopback;
use meridian_tests::consul::{Consul, Service};
use meridian_tests::load::{Load, Plan, Report, Target};
use meridian_tests::origin::Fickle;
use meridian_tests::sidecar::{Kind, Sidecar};
use meridian_tests::wait::{self, PATIENCE};
use meridian_tests::world::World;
use serde_json::json;

/// Requests a second of each of the two loads.
const RATE: u32 = 100;

/// What the origins take for an answer: long enough that requests are under way
/// whenever something happens.
pub(crate) const PAUSE: Duration = Duration::from_millis(30);

/// Load before and after each fault: long enough that every pooled connection is used.
const CALM: Duration = Duration::from_secs(1);

/// Where the callers offer the service.
const UPSTREAMS: [u16; 2] = [5000, 5001];

/// The longest that a request may take.
pub(crate) const LIMIT: Duration = Duration::from_secs(4);

/// The mesh under load.
pub(crate) struct Scene {
    /// Consul.
    pub consul: Consul,
    /// Applications of the two instances.
    pub origins: [Fickle; 2],
    /// Their sidecars.
    pub webs: Vec<Sidecar>,
    /// The callers' sidecars.
    pub callers: Vec<Sidecar>,
}

/// Instance `number` of the service, counted from 0.
pub(crate) fn web(number: u16) -> Service {
    Service::new("web", 8001 + number)
        .id(&format!("web-{number}"))
        .sidecar(21001 + number)
}

impl Scene {
    /// Starts everything, on a Consul that runs, and waits until requests pass.
    pub(crate) async fn start(world: &World, consul: Consul) -> Self {
        consul.protocol("web", "http").await;
        consul.config_entry(router()).await;
        let origins = [
            Fickle::start(8001, PAUSE).await,
            Fickle::start(8002, PAUSE).await,
        ];
        let mut webs = Vec::new();
        for number in 0..2 {
            let service = web(number);
            consul.register(&service).await;
            webs.push(Sidecar::launch(world, Kind::Meshd, &service));
        }
        let mut callers = Vec::new();
        for (number, upstream) in (0..).zip(UPSTREAMS) {
            let name = format!("caller-{number}");
            consul.config_entry(caller_defaults(&name)).await;
            let service = Service::new(&name, 8010 + number)
                .sidecar(21010 + number)
                .upstream("web", upstream);
            consul.register(&service).await;
            callers.push(Sidecar::launch(world, Kind::Meshd, &service));
        }
        for sidecar in webs.iter_mut().chain(&mut callers) {
            sidecar.ready().await;
        }
        consul.passing("web", 2).await;
        let scene = Self {
            consul,
            origins,
            webs,
            callers,
        };
        scene.both_serve().await;
        scene
    }

    /// A load through both callers.
    pub(crate) fn load(&self, method: Method) -> Load {
        let plan = Plan {
            rate: RATE,
            authority: "web.example".to_owned(),
            path: "/".to_owned(),
        };
        let targets = UPSTREAMS.iter().zip(&self.callers);
        let targets = targets.map(|(port, caller)| Target::new(loopback(*port), caller.admin));
        Load::of(method, plan, targets.collect())
    }

    /// Both loads, after a calm moment.
    pub(crate) async fn loads(&self) -> Loads {
        let loads = Loads {
            get: self.load(Method::GET),
            post: self.load(Method::POST),
        };
        calm().await;
        loads
    }

    /// How many retries the callers had no budget for, since they began.
    pub(crate) async fn refused_retries(&self) -> u64 {
        let mut refused = 0;
        for caller in &self.callers {
            let snapshot = caller.admin.snapshot().await;
            let clusters = snapshot["clusters"].as_array().into_iter().flatten();
            let counts = clusters.map(|cluster| &cluster["limits"]["retries"]["refused"]);
            let counts = counts.map(|count| count.as_u64().expect("a count of refusals"));
            refused += counts.sum::<u64>();
        }
        refused
    }

    /// Fails the test unless at least as many retries were refused, since the callers
    /// had refused `before`, as GETs were lost, and each of these was told so: repeating
    /// them would have fed a storm. Returns how many were refused.
    pub(crate) async fn lost_where_refused(&self, reports: &Reports, before: u64) -> u64 {
        let refused = self.refused_retries().await - before;
        let (lost, told) = (reports.get.lost(), reports.get.statuses.get(&503));
        assert!(
            lost <= refused && told.copied().unwrap_or_default() == lost,
            "{refused} retries refused: {reports:#?}\n{}",
            self.refusals()
        );
        refused
    }

    /// What the callers say about requests that they gave up.
    pub(crate) fn refusals(&self) -> String {
        let logs = self.callers.iter().map(|caller| caller.process.log());
        let lines = logs.flat_map(|log| {
            let refused = log.lines().filter(|line| line.contains("\"status\":50"));
            refused.map(str::to_owned).collect::<Vec<_>>()
        });
        lines.collect::<Vec<_>>().join("\n")
    }

    /// Waits until each instance is asked, whether by load or by ourselves.
    pub(crate) async fn both_serve(&self) {
        let load = self.load(Method::GET);
        for origin in &self.origins {
            let before = origin.received();
            wait::holds("requests at each instance", PATIENCE, async || {
                origin.received() > before + 2
            })
            .await;
        }
        load.stop().await;
    }
}

/// A load of GET and one of POST.
pub(crate) struct Loads {
    /// May be repeated.
    pub get: Load,
    /// May not.
    pub post: Load,
}

impl Loads {
    /// Stops both after a calm moment.
    pub(crate) async fn stop(self) -> Reports {
        calm().await;
        let (get, post) = tokio::join!(self.get.stop(), self.post.stop());
        assert!(get.sent > 0 && post.sent > 0, "no load");
        Reports { get, post }
    }
}

/// What became of both loads.
#[derive(Debug)]
pub(crate) struct Reports {
    /// May be repeated.
    pub get: Report,
    /// May not.
    pub post: Report,
}

impl Reports {
    /// Fails the test if a request was lost.
    pub(crate) fn assert_whole(&self) {
        assert_eq!((self.get.lost(), self.post.lost()), (0, 0), "{self:#?}");
    }
}

/// Load with nothing else going on.
pub(crate) async fn calm() {
    tokio::time::sleep(CALM).await;
}

/// What an operator writes who wants every request that may be repeated to be so.
fn router() -> serde_json::Value {
    json!({
        "Kind": "service-router", "Name": "web",
        "Routes": [{
            "Match": {"HTTP": {"PathPrefix": "/"}},
            "Destination": {
                "NumRetries": 3,
                "RetryOn": ["gateway-error", "reset", "connect-failure"],
                "RequestTimeout": format!("{}s", LIMIT.as_secs()),
            },
        }],
    })
}

/// Ejection that a test can wait for, and that leaves one of two instances.
fn caller_defaults(name: &str) -> serde_json::Value {
    json!({
        "Kind": "service-defaults", "Name": name, "Protocol": "http",
        "UpstreamConfig": {"Defaults": {"PassiveHealthCheck": {
            "Interval": "500ms", "MaxFailures": 5, "MaxEjectionPercent": 50,
            "BaseEjectionTime": "1s",
        }}},
    })
}
