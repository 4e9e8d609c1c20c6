//! The gateway and its peers, each from a configuration that does the same: one
//! worker, everything to the origin, an access log into a file, metrics, and a
//! request header set on every route.

mod envoy;
mod gateway;
mod haproxy;
mod nginx;

use std::path::PathBuf;

use meridian_tests::process::Process;
use meridian_tests::world::World;

use crate::account::Tree;
use crate::origin::{self, Application};

/// What the contenders are configured for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    /// Who answers behind them.
    pub(crate) application: Application,
    /// Routes by path beside the one that takes everything.
    pub(crate) routes: usize,
}

impl Shape {
    /// One route to the usual origin.
    pub(crate) const PLAIN: Self = Self {
        application: Application::Files,
        routes: 0,
    };

    /// Whether both sides speak HTTP/2 in plain text, as gRPC does.
    fn is_grpc(self) -> bool {
        self.application.is_grpc()
    }

    /// Prefixes of the routes by path.
    fn prefixes(self) -> impl Iterator<Item = String> {
        (0..self.routes).map(prefix)
    }
}

/// What the paths of a route begin with.
pub(crate) fn prefix(route: usize) -> String {
    format!("/service-{route}/v1")
}

/// Where a contender listens: plain, and under TLS.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ports {
    /// HTTP/1.1; HTTP/2 by prior knowledge where the shape is gRPC.
    pub(crate) plain: u16,
    /// HTTP/1.1 and HTTP/2 under TLS.
    pub(crate) tls: u16,
}

impl Ports {
    fn numbered(index: u16) -> Self {
        Self {
            plain: 9000 + index,
            tls: 9100 + index,
        }
    }
}

/// A proxy at the edge.
#[derive(Debug)]
pub(crate) struct Contender {
    /// Where it listens.
    pub(crate) ports: Ports,
    process: Process,
}

impl Contender {
    /// The process and its children.
    pub(crate) fn tree(&self) -> Tree {
        Tree::of(self.process.id())
    }
}

/// All contenders, ours last, and the certificate that they present.
#[derive(Debug)]
pub(crate) struct Edge {
    /// By the names of the tables.
    pub(crate) contenders: Vec<(&'static str, Contender)>,
    /// PEM.
    pub(crate) certificate: String,
    _origin: origin::Running,
}

/// Starts the origin and everyone in front of it.
pub(crate) async fn start(world: &World, shape: Shape) -> Edge {
    let origin = origin::start(world, shape.application).await;
    // The gateway watches the folders of its inputs: nobody writes a log there.
    std::fs::create_dir_all(world.directory().join("gateway")).expect("a folder for the gateway");
    let identity = rcgen::generate_simple_self_signed(["localhost".to_owned()])
        .expect("a self-signed certificate");
    let certificate = identity.cert.pem();
    let stage = Stage {
        world,
        shape,
        certificate: world.write("gateway/edge.crt", &certificate),
        key: world.write("gateway/edge.key", &identity.signing_key.serialize_pem()),
    };
    let contenders = vec![
        ("Envoy", envoy::start(&stage, Ports::numbered(0)).await),
        ("nginx", nginx::start(&stage, Ports::numbered(1)).await),
        ("HAProxy", haproxy::start(&stage, Ports::numbered(2)).await),
        ("gateway", gateway::start(&stage, Ports::numbered(3)).await),
    ];
    Edge {
        contenders,
        certificate,
        _origin: origin,
    }
}

/// What all of them are started with.
struct Stage<'a> {
    world: &'a World,
    shape: Shape,
    certificate: PathBuf,
    key: PathBuf,
}
