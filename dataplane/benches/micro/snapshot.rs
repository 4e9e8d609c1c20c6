//! From a snapshot to tables: all of it at the start, then one changed cluster.
//! The second is the cost of a change, whatever else is known.

use crate::balance::endpoints;
use crate::route::table;
use criterion::{BenchmarkId, Criterion};
use meridian_dataplane::{DataPlane, Settings, Telemetry};
use meridian_model::cluster::Target;
use meridian_model::listener::{
    Callers, ClientCertificateHeader, ClientTrust, ConnectionDeadlines, ConnectionLimits,
    HttpFilters, HttpService, PathNormalization,
};
use meridian_model::{
    Bind, Cluster, Direction, Listener, Security, Service, Snapshot, Transport, UpstreamProtocol,
};
use meridian_telemetry::metrics::BuildInfo;
use meridian_telemetry::{Metrics, SpanSink};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;
use tokio::sync::watch;

/// Endpoints of a cluster.
const ENDPOINTS: usize = 10;

/// Clusters, each with as many routes.
const SIZES: [usize; 3] = [10, 1_000, 10_000];

pub(crate) fn build(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("snapshot build");
    group.sample_size(10);
    for size in SIZES {
        let snapshot = Arc::new(snapshot(size));
        group.bench_function(BenchmarkId::from_parameter(size), |bencher| {
            bencher.iter_custom(|rounds| {
                let run = |_| runtime().block_on(Running::start(Arc::clone(&snapshot))).1;
                (0..rounds).map(run).sum()
            });
        });
    }
}

pub(crate) fn update(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("snapshot update, one cluster");
    group.sample_size(10);
    for size in SIZES {
        let runtime = runtime();
        let mut running = runtime.block_on(Running::start(Arc::new(snapshot(size)))).0;
        group.bench_function(BenchmarkId::from_parameter(size), |bencher| {
            bencher.iter_custom(|rounds| runtime.block_on(running.change(rounds)));
        });
    }
}

fn runtime() -> Runtime {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().build().unwrap()
}

struct Running {
    plane: DataPlane,
    snapshots: watch::Sender<Arc<Snapshot>>,
}

impl Running {
    /// With the time until it was ready.
    async fn start(snapshot: Arc<Snapshot>) -> (Self, Duration) {
        let (snapshots, watched) = watch::channel(snapshot);
        let build = BuildInfo {
            program: "micro",
            version: "0",
        };
        let telemetry = Telemetry {
            metrics: Metrics::new(build).unwrap(),
            access_log: None,
            spans: SpanSink::default(),
        };
        let began = Instant::now();
        let plane = DataPlane::start(Settings { workers: 1 }, watched, telemetry).unwrap();
        let mut readiness = plane.readiness();
        readiness.wait_for(|now| now.ready).await.unwrap();
        (Self { plane, snapshots }, began.elapsed())
    }

    /// Publishes so many snapshots, each with one other endpoint, and waits for each to be served.
    async fn change(&mut self, rounds: u64) -> Duration {
        let mut total = Duration::ZERO;
        let mut readiness = self.plane.readiness();
        for _ in 0..rounds {
            let mut next = Snapshot::clone(&self.snapshots.borrow());
            next.generation += 1;
            let (name, cluster) = next.clusters.first_key_value().unwrap();
            let (name, mut cluster) = (name.clone(), Cluster::clone(cluster));
            let mut target = Target::clone(&cluster.targets[0]);
            let mut changed = target.endpoints.to_vec();
            changed[0].weight = changed[0].weight % 2 + 1;
            target.endpoints = changed.into();
            cluster.targets = vec![Arc::new(target)];
            next.clusters.insert(name, Arc::new(cluster));
            readiness.mark_unchanged();
            let began = Instant::now();
            self.snapshots.send_replace(Arc::new(next));
            readiness.changed().await.unwrap();
            total += began.elapsed();
        }
        total
    }
}

fn snapshot(size: usize) -> Snapshot {
    let mut snapshot = Snapshot {
        generation: 1,
        ..Snapshot::default()
    };
    for number in 0..size {
        let name = format!("cluster-{number}");
        let target = Target {
            name: name.as_str().into(),
            transport: Transport::Plain,
            endpoints: endpoints(ENDPOINTS).into(),
        };
        let targets = vec![Arc::new(target)];
        let cluster = Cluster::new(name.as_str().into(), UpstreamProtocol::Http1, targets);
        snapshot
            .clusters
            .insert(cluster.name.clone(), Arc::new(cluster));
    }
    let service = HttpService {
        routes: Arc::new(table(size)),
        authorization: None,
        client_certificate: ClientCertificateHeader::Sanitize,
        trust: ClientTrust::Edge,
        normalization: PathNormalization::EDGE,
        filters: HttpFilters::default(),
    };
    let listener = Listener {
        name: "in".into(),
        bind: Bind::Tcp(([127, 0, 0, 1], 0).into()),
        direction: Direction::Edge,
        security: Security::Plain,
        service: Service::Http(Arc::new(service)),
        limits: ConnectionLimits::default(),
        deadlines: ConnectionDeadlines::default(),
        callers: Callers::Anywhere,
    };
    snapshot
        .listeners
        .insert(listener.name.clone(), Arc::new(listener));
    snapshot
}
