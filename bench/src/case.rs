//! The cases, each with its stage, its load and the bars that it has to clear.

mod changes;
mod loads;
mod memory;
mod relay;
mod start;

use std::fmt::{self, Display};
use std::sync::mpsc;
use std::time::Duration;

use clap::ValueEnum;
use meridian_tests::world::{World, isolated};

use crate::report::{Bar, Table};
use crate::turns::{Measure, Plan, Sample, Series};

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
    /// A pair of sidecars, unary gRPC.
    MeshGrpc,
    /// A pair of sidecars, bytes.
    MeshTcp,
    /// Connections through a pair of sidecars that 50 intentions are about.
    MeshL4,
    /// Requests through a pair of sidecars that permissions decide on.
    MeshL7,
    /// The gateway, HTTP/1.1.
    EdgeHttp,
    /// The gateway, HTTP/1.1 over TLS, connections kept.
    EdgeHttps,
    /// The gateway, a new TLS connection for each request.
    EdgeHttpsNew,
    /// The gateway, HTTP/2 over TLS.
    EdgeHttp2,
    /// The gateway, unary gRPC.
    EdgeGrpc,
    /// The gateway, gRPC messages on streams that stay open.
    EdgeGrpcStream,
    /// The gateway, 1 MiB there and back.
    EdgeLarge,
    /// The gateway with 1,000 routes.
    #[value(name = "edge-routes-1000")]
    EdgeRoutes1000,
    /// The gateway with 10,000 routes.
    #[value(name = "edge-routes-10000")]
    EdgeRoutes10000,
    /// The gateway at twice the load that it can carry.
    Overload,
    /// A sidecar without traffic.
    MemoryIdle,
    /// A sidecar that knows one endpoint.
    #[value(name = "memory-endpoints-1")]
    MemoryEndpoints1,
    /// A sidecar that knows 100 endpoints.
    #[value(name = "memory-endpoints-100")]
    MemoryEndpoints100,
    /// A sidecar that knows 1,000 endpoints.
    #[value(name = "memory-endpoints-1000")]
    MemoryEndpoints1000,
    /// A sidecar that knows 10,000 endpoints.
    #[value(name = "memory-endpoints-10000")]
    MemoryEndpoints10000,
    /// A pair of sidecars that carries 200 busy connections.
    MemoryLoaded,
    /// The gateway with 10,000 idle connections.
    MemoryConnections,
    /// From the start of a sidecar to its first reply.
    Start,
    /// From a new instance in Consul to the first request that it answers.
    ChangeInstance,
    /// From an instance that turned critical to the first request that shows it.
    ChangeCritical,
    /// From an intention in Consul to the first request that it refuses.
    ChangeIntention,
    /// From an instance's new weight to the first requests that it draws.
    ChangeWeight,
}

impl Case {
    /// In the order of their declaration.
    pub(crate) fn all() -> Vec<Self> {
        Self::value_variants().to_vec()
    }

    /// How long it is measured: longer where bars are close or samples differ.
    pub(crate) fn plan(self) -> Plan {
        match self {
            Self::MeshHttp | Self::MeshLatency | Self::EdgeHttp => Plan::FULL,
            Self::MemoryIdle
            | Self::MemoryEndpoints1
            | Self::MemoryEndpoints100
            | Self::MemoryEndpoints1000
            | Self::MemoryEndpoints10000
            | Self::MemoryConnections => Plan::STEADY,
            _ => Plan::SHORT,
        }
    }

    fn bars(self) -> Vec<Bar> {
        use Measure::{
            Delay, Kept, MebibytesPerSecond, NinetyNinth, ProcessorPerThousand, RequestsPerSecond,
            Resident,
        };
        match self {
            Self::MeshHttp => vec![
                Bar::at_least(RequestsPerSecond, "Envoy", 3.5),
                Bar::at_most(ProcessorPerThousand, "Envoy", 0.33),
            ],
            Self::MeshHttpSanitized => vec![Bar::at_least(RequestsPerSecond, "Envoy", 1.8)],
            Self::MeshLatency => vec![Bar::at_most(NinetyNinth, "Envoy", 0.5)],
            Self::MeshHttp2 | Self::MeshGrpc => {
                vec![Bar::at_least(RequestsPerSecond, "Envoy", 3.5)]
            }
            Self::MeshTcp => vec![Bar::at_least(MebibytesPerSecond, "Envoy", 1.0)],
            Self::EdgeHttp => vec![
                Bar::at_least(RequestsPerSecond, "Envoy", 2.0),
                Bar::at_least(RequestsPerSecond, "nginx", 0.65),
                Bar::at_most(ProcessorPerThousand, "Envoy", 0.5),
                Bar::at_most(ProcessorPerThousand, "nginx", 1.8),
            ],
            Self::EdgeHttpsNew => vec![
                Bar::at_least(RequestsPerSecond, "Envoy", 1.0),
                Bar::at_least(RequestsPerSecond, "nginx", 1.0),
            ],
            Self::EdgeHttp2 => vec![Bar::at_least(RequestsPerSecond, "Envoy", 1.3)],
            Self::Overload => vec![Bar::own_at_least(Kept, 0.9)],
            Self::MemoryIdle => vec![Bar::at_most(Resident, "Envoy", 0.3)],
            Self::MemoryEndpoints1000 => vec![Bar::at_most(Resident, "Envoy", 0.25)],
            Self::Start => vec![Bar::at_most(Delay, "Envoy", 0.5)],
            Self::ChangeInstance
            | Self::ChangeCritical
            | Self::ChangeIntention
            | Self::ChangeWeight => vec![Bar::at_most(Delay, "Envoy", 1.0)],
            _ => vec![],
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
    use loads::{Edge, Mesh};
    match case {
        Case::MeshHttp => loads::mesh(world, plan, Mesh::HTTP).await,
        Case::MeshHttpSanitized => loads::mesh(world, plan, Mesh::SANITIZED).await,
        Case::MeshLatency => loads::latency(world, plan).await,
        Case::MeshHttp2 => loads::mesh(world, plan, Mesh::HTTP2).await,
        Case::MeshGrpc => loads::mesh(world, plan, Mesh::GRPC).await,
        Case::MeshTcp => loads::mesh(world, plan, Mesh::TCP).await,
        Case::MeshL4 => loads::mesh(world, plan, Mesh::L4).await,
        Case::MeshL7 => loads::mesh(world, plan, Mesh::L7).await,
        Case::EdgeHttp => loads::edge(world, plan, Edge::Http).await,
        Case::EdgeHttps => loads::edge(world, plan, Edge::Https).await,
        Case::EdgeHttpsNew => loads::edge(world, plan, Edge::HttpsNew).await,
        Case::EdgeHttp2 => loads::edge(world, plan, Edge::Http2).await,
        Case::EdgeGrpc => loads::edge(world, plan, Edge::Grpc).await,
        Case::EdgeGrpcStream => loads::edge(world, plan, Edge::GrpcStream).await,
        Case::EdgeLarge => loads::edge(world, plan, Edge::Large).await,
        Case::EdgeRoutes1000 => loads::edge(world, plan, Edge::Routes(1_000)).await,
        Case::EdgeRoutes10000 => loads::edge(world, plan, Edge::Routes(10_000)).await,
        Case::Overload => loads::overload(world, plan).await,
        Case::MemoryIdle => memory::idle(world, plan).await,
        Case::MemoryEndpoints1 => memory::with_endpoints(world, plan, 1).await,
        Case::MemoryEndpoints100 => memory::with_endpoints(world, plan, 100).await,
        Case::MemoryEndpoints1000 => memory::with_endpoints(world, plan, 1_000).await,
        Case::MemoryEndpoints10000 => memory::with_endpoints(world, plan, 10_000).await,
        Case::MemoryLoaded => loads::mesh(world, plan, Mesh::BUSY).await,
        Case::MemoryConnections => memory::with_connections(world, plan).await,
        Case::Start => start::start(world, plan).await,
        Case::ChangeInstance => changes::instance(world, plan).await,
        Case::ChangeCritical => changes::critical(world, plan).await,
        Case::ChangeIntention => changes::intention(world, plan).await,
        Case::ChangeWeight => changes::weight(world, plan).await,
    }
}

/// One figure as a sample.
fn delay(time: Duration) -> Sample {
    [(Measure::Delay, crate::load::millis(time))].into()
}

/// No turns yet.
fn empty(contender: &'static str) -> Series {
    Series {
        contender,
        samples: Vec::new(),
    }
}
