//! The cases, each with its stage, its load and the bars that it has to clear.

mod moments;

use std::fmt::{self, Display};
use std::sync::mpsc;
use std::time::Duration;

use clap::ValueEnum;
use meridian_tests::client::Protocol;
use meridian_tests::world::{World, isolated};

use crate::edge::{self, Contender};
use crate::load::Load;
use crate::mesh::{Mesh, Pair, Running, Setting};
use crate::origin;
use crate::report::{Bar, Table};
use crate::turns::{Measure, Plan, Series, take};

/// Connections of a closed loop: enough to keep one worker busy all the time.
const CONNECTIONS: usize = 32;

/// What can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Case {
    /// A pair of sidecars, HTTP/1.1, as Consul configures it by itself.
    MeshHttp,
    /// The same with `SanitizeXForwardedClientCert` in the mesh entry.
    MeshHttpSanitized,
    /// The same at half of what the Envoys can do, for latency.
    MeshLatency,
    /// A pair of sidecars, HTTP/2.
    MeshHttp2,
    /// A pair of sidecars, bytes.
    MeshTcp,
    /// The gateway, HTTP/1.1.
    EdgeHttp,
    /// The gateway, HTTP/1.1 over TLS, connections kept.
    EdgeHttps,
    /// The gateway, a new TLS connection for each request.
    EdgeHttpsNew,
    /// The gateway, HTTP/2 over TLS.
    EdgeHttp2,
    /// A sidecar without traffic.
    MemoryIdle,
    /// A sidecar that knows 1,000 endpoints.
    MemoryEndpoints,
    /// From the start of a sidecar to its first reply.
    Start,
    /// From an intention in Consul to the first request that it refuses.
    Change,
}

impl Case {
    /// In the order of their declaration.
    pub(crate) fn all() -> Vec<Self> {
        Self::value_variants().to_vec()
    }

    fn bars(self) -> Vec<Bar> {
        use Measure::{
            Delay, MebibytesPerSecond, NinetyNinth, ProcessorPerThousand, RequestsPerSecond,
            Resident,
        };
        match self {
            Self::MeshHttp => vec![
                Bar::at_least(RequestsPerSecond, "Envoy", 3.5),
                Bar::at_most(ProcessorPerThousand, "Envoy", 0.33),
            ],
            Self::MeshHttpSanitized => vec![Bar::at_least(RequestsPerSecond, "Envoy", 1.8)],
            Self::MeshLatency => vec![Bar::at_most(NinetyNinth, "Envoy", 0.5)],
            Self::MeshHttp2 => vec![Bar::at_least(RequestsPerSecond, "Envoy", 3.5)],
            Self::MeshTcp => vec![Bar::at_least(MebibytesPerSecond, "Envoy", 1.0)],
            Self::EdgeHttp => vec![
                Bar::at_least(RequestsPerSecond, "Envoy", 2.0),
                Bar::at_least(RequestsPerSecond, "nginx", 0.65),
                Bar::at_most(ProcessorPerThousand, "Envoy", 0.5),
                Bar::at_most(ProcessorPerThousand, "nginx", 1.8),
            ],
            Self::EdgeHttps => vec![],
            Self::EdgeHttpsNew => vec![
                Bar::at_least(RequestsPerSecond, "Envoy", 1.0),
                Bar::at_least(RequestsPerSecond, "nginx", 1.0),
            ],
            Self::EdgeHttp2 => vec![Bar::at_least(RequestsPerSecond, "Envoy", 1.3)],
            Self::MemoryIdle => vec![Bar::at_most(Resident, "Envoy", 0.3)],
            Self::MemoryEndpoints => vec![Bar::at_most(Resident, "Envoy", 0.25)],
            Self::Start => vec![Bar::at_most(Delay, "Envoy", 0.5)],
            Self::Change => vec![Bar::at_most(Delay, "Envoy", 1.0)],
        }
    }
}

impl Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.to_possible_value();
        f.write_str(value.as_ref().map_or("hidden", |value| value.get_name()))
    }
}

/// Runs a case in a network namespace of its own.
///
/// # Panics
/// When its stage can't be set, with the logs of everyone on it.
pub(crate) fn run(case: Case, plan: Plan) -> Table {
    let (results, result) = mpsc::channel();
    isolated(&case.to_string(), async move |world| {
        let series = measure(case, plan, world).await;
        results.send(series).expect("the caller waits");
    });
    Table {
        case: case.to_string(),
        bars: case.bars(),
        series: result.recv().expect("a case that ended without a panic"),
    }
}

async fn measure(case: Case, plan: Plan, world: &World) -> Vec<Series> {
    let closed = |scheme, path| Load::Closed {
        scheme,
        connections: CONNECTIONS,
        path,
    };
    let streams = |scheme| Load::Streams {
        connections: 4,
        streams: 16,
        scheme,
    };
    let sanitized = Setting {
        sanitized: true,
        ..Setting::HTTP
    };
    let http2 = Setting {
        protocol: "http2",
        origin: origin::HTTP2,
        sanitized: false,
    };
    let tcp = Setting {
        protocol: "tcp",
        ..Setting::HTTP
    };
    match case {
        Case::MeshHttp => mesh(world, plan, Setting::HTTP, &closed("http", "/")).await,
        Case::MeshHttpSanitized => mesh(world, plan, sanitized, &closed("http", "/")).await,
        Case::MeshLatency => latency(world, plan).await,
        Case::MeshHttp2 => mesh(world, plan, http2, &streams("http")).await,
        Case::MeshTcp => {
            // Few connections with much on each: throughput, not accepting.
            let large = Load::Closed {
                scheme: "http",
                connections: 4,
                path: "/large",
            };
            mesh(world, plan, tcp, &large).await
        }
        Case::EdgeHttp => {
            let load = closed("http", "/");
            edge(
                world,
                plan,
                |_| load.clone(),
                |contender| contender.ports.plain,
            )
            .await
        }
        Case::EdgeHttps => {
            let load = closed("https", "/");
            edge(
                world,
                plan,
                |_| load.clone(),
                |contender| contender.ports.tls,
            )
            .await
        }
        Case::EdgeHttpsNew => {
            let load = |certificate: &str| Load::Handshakes {
                clients: 8,
                trusted: certificate.to_owned(),
            };
            edge(world, plan, load, |contender| contender.ports.tls).await
        }
        Case::EdgeHttp2 => {
            let load = streams("https");
            edge(
                world,
                plan,
                |_| load.clone(),
                |contender| contender.ports.tls,
            )
            .await
        }
        Case::MemoryIdle => moments::idle_memory(world, plan).await,
        Case::MemoryEndpoints => moments::memory_with_endpoints(world, plan).await,
        Case::Start => moments::start(world, plan).await,
        Case::Change => moments::change(world, plan).await,
    }
}

async fn mesh(world: &World, plan: Plan, setting: Setting, load: &Load) -> Vec<Series> {
    let (_mesh, running) = pairs(world, setting).await;
    take_load(world, plan, &running, load)
}

/// At half of what the peer can do on this machine, today: both have room.
async fn latency(world: &World, plan: Plan) -> Vec<Series> {
    let (_mesh, running) = pairs(world, Setting::HTTP).await;
    let closed = Load::Closed {
        scheme: "http",
        connections: CONNECTIONS,
        path: "/",
    };
    let (_, envoy) = &running[0];
    let sample = closed.turn(world, envoy.port, &envoy.processes(), plan.warm_up);
    let open = Load::Open {
        rate: sample[&Measure::RequestsPerSecond] / 2.0,
        connections: CONNECTIONS,
    };
    take_load(world, plan, &running, &open)
}

/// Both pairs, carrying traffic; ours last.
async fn pairs(world: &World, setting: Setting) -> (Mesh, Vec<(&'static str, Running)>) {
    let pairs = Pair::both(setting);
    let mesh = Mesh::start(world, setting, &pairs).await;
    let protocol = match setting.protocol {
        "http2" => Protocol::Http2,
        _ => Protocol::Http1,
    };
    let mut running = Vec::new();
    for pair in &pairs {
        let both = mesh.run(world, pair).await;
        both.answers(protocol).await;
        running.push((pair.title(), both));
    }
    (mesh, running)
}

fn take_load(
    world: &World,
    plan: Plan,
    running: &[(&'static str, Running)],
    load: &Load,
) -> Vec<Series> {
    for (_, pair) in running {
        load.run(world, pair.port, plan.warm_up);
    }
    take(plan, running, |pair| {
        load.turn(world, pair.port, &pair.processes(), plan.turn)
    })
}

async fn edge(
    world: &World,
    plan: Plan,
    load: impl Fn(&str) -> Load,
    port: impl Fn(&Contender) -> u16,
) -> Vec<Series> {
    let edge = edge::start(world).await;
    let load = load(&edge.certificate);
    for (_, contender) in &edge.contenders {
        load.run(world, port(contender), plan.warm_up);
    }
    take(plan, &edge.contenders, |contender| {
        load.turn(world, port(contender), &[contender.tree()], plan.turn)
    })
}

/// One figure as a sample.
fn delay(time: Duration) -> crate::turns::Sample {
    [(Measure::Delay, crate::load::millis(time))].into()
}
