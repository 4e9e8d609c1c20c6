//! Cases under load.

use meridian_tests::world::World;

use crate::edge::{self, Contender, Shape};
use crate::load::{Arrivals, Load};
use crate::mesh::{Intentions, Pair, Running, Setting};
use crate::origin::Application;
use crate::turns::{Measure, Plan, Sample, Series, take};

/// Connections of a closed loop: enough to keep one worker busy all the time.
const CONNECTIONS: u32 = 32;

/// Connections of a flood: many more than a worker can serve at a time.
const FLOOD: usize = 512;

/// A case of the mesh: how the pairs are set up, and what is sent through them.
pub(super) struct Mesh {
    setting: Setting,
    load: fn() -> Load,
}

impl Mesh {
    pub(super) const HTTP: Self = Self {
        setting: Setting::HTTP,
        load: || closed("http", "/"),
    };
    pub(super) const SANITIZED: Self = Self {
        setting: Setting {
            sanitized: true,
            ..Setting::HTTP
        },
        ..Self::HTTP
    };
    pub(super) const HTTP2: Self = Self {
        setting: Setting {
            protocol: "http2",
            application: Application::FilesHttp2,
            ..Setting::HTTP
        },
        load: || streams("http"),
    };
    pub(super) const GRPC: Self = Self {
        setting: Setting {
            protocol: "grpc",
            application: Application::Calls,
            ..Setting::HTTP
        },
        load: || Load::Calls {
            connections: 4,
            streams: 16,
        },
    };
    /// Few connections with much on each: throughput, not accepting.
    pub(super) const TCP: Self = Self {
        setting: Setting {
            protocol: "tcp",
            ..Setting::HTTP
        },
        load: || Load::Closed {
            scheme: "http",
            connections: 4,
            path: "/large".to_owned(),
            close: false,
        },
    };
    /// Intentions are looked up once a connection, so each request brings one.
    pub(super) const L4: Self = Self {
        setting: Setting {
            protocol: "tcp",
            intentions: Intentions::Many(50),
            ..Setting::HTTP
        },
        load: || Load::Closed {
            scheme: "http",
            connections: CONNECTIONS as usize,
            path: "/".to_owned(),
            close: true,
        },
    };
    pub(super) const L7: Self = Self {
        setting: Setting {
            intentions: Intentions::Permissions(10),
            ..Setting::HTTP
        },
        ..Self::HTTP
    };
    pub(super) const BUSY: Self = Self {
        load: || Load::Closed {
            scheme: "http",
            connections: 200,
            path: "/".to_owned(),
            close: false,
        },
        ..Self::HTTP
    };
}

/// A case of the edge.
#[derive(Debug, Clone, Copy)]
pub(super) enum Edge {
    Http,
    Https,
    HttpsNew,
    Http2,
    Grpc,
    GrpcStream,
    Large,
    Routes(usize),
}

impl Edge {
    fn shape(self) -> Shape {
        let application = match self {
            Self::Grpc => Application::Calls,
            Self::GrpcStream => Application::Messages,
            Self::Large => Application::Bodies,
            _ => Application::Files,
        };
        let routes = match self {
            Self::Routes(count) => count,
            _ => 0,
        };
        Shape {
            application,
            routes,
        }
    }

    fn load(self, certificate: &str) -> Load {
        match self {
            Self::Http => closed("http", "/"),
            Self::Https => closed("https", "/"),
            Self::HttpsNew => Load::Handshakes {
                clients: 8,
                trusted: certificate.to_owned(),
            },
            Self::Http2 => streams("https"),
            Self::Grpc => Load::Calls {
                connections: 4,
                streams: 16,
            },
            Self::GrpcStream => Load::Messages {
                connections: 4,
                streams: 16,
            },
            Self::Large => Load::Bodies { connections: 4 },
            // From the middle: neither the best nor the worst place in a list.
            Self::Routes(count) => closed("http", &format!("{}/orders", edge::prefix(count / 2))),
        }
    }

    fn port(self, contender: &Contender) -> u16 {
        match self {
            Self::Https | Self::HttpsNew | Self::Http2 => contender.ports.tls,
            _ => contender.ports.plain,
        }
    }
}

fn closed(scheme: &'static str, path: &str) -> Load {
    Load::Closed {
        scheme,
        connections: CONNECTIONS as usize,
        path: path.to_owned(),
        close: false,
    }
}

fn streams(scheme: &'static str) -> Load {
    Load::Streams {
        connections: 4,
        streams: 16,
        scheme,
    }
}

pub(super) async fn mesh(world: &World, plan: Plan, case: Mesh) -> Vec<Series> {
    let (_mesh, running) = pairs(world, case.setting).await;
    take_load(world, plan, &running, &(case.load)()).await
}

/// At half of what the peer can do on this machine, today: both have room.
pub(super) async fn latency(world: &World, plan: Plan) -> Vec<Series> {
    let (_mesh, running) = pairs(world, Setting::HTTP).await;
    let (_, envoy) = &running[0];
    let sample = closed("http", "/").turn(world, envoy.port, &envoy.processes(), plan.turn);
    let open = Load::Open {
        rate: sample[&Measure::RequestsPerSecond] / 2.0,
        connections: CONNECTIONS,
    };
    take_load(world, plan, &running, &open).await
}

/// Both pairs, carrying traffic; ours last.
pub(super) async fn pairs(
    world: &World,
    setting: Setting,
) -> (crate::mesh::Mesh, Vec<(&'static str, Running)>) {
    let pairs = Pair::both(setting);
    let mesh = crate::mesh::Mesh::start(world, setting, &pairs).await;
    let mut running = Vec::new();
    for pair in &pairs {
        let both = mesh.run(world, pair).await;
        both.answers(setting).await;
        running.push((pair.title(), both));
    }
    (mesh, running)
}

async fn take_load(
    world: &World,
    plan: Plan,
    running: &[(&'static str, Running)],
    load: &Load,
) -> Vec<Series> {
    for (_, pair) in running {
        load.verify(pair.port).await;
        load.warm_up(world, pair.port, plan);
    }
    let series = take(plan, running, |pair| {
        load.turn(world, pair.port, &pair.processes(), plan.turn)
    });
    for (_, pair) in running {
        load.verify(pair.port).await;
    }
    series
}

pub(super) async fn edge(world: &World, plan: Plan, case: Edge) -> Vec<Series> {
    let edge = edge::start(world, case.shape()).await;
    let load = case.load(&edge.certificate);
    for (_, contender) in &edge.contenders {
        load.verify(case.port(contender)).await;
        load.warm_up(world, case.port(contender), plan);
    }
    let series = take(plan, &edge.contenders, |contender| {
        let port = case.port(contender);
        load.turn(world, port, &[contender.tree()], plan.turn)
    });
    for (_, contender) in &edge.contenders {
        load.verify(case.port(contender)).await;
    }
    series
}

/// Twice of what the contender itself could do a moment before, by the same client. That is the
/// better of two closed loops: some do best with few connections, some with as many as the flood.
pub(super) async fn overload(world: &World, plan: Plan) -> Vec<Series> {
    let edge = edge::start(world, Shape::PLAIN).await;
    let crowd = |arrivals, connections| Load::Crowd {
        arrivals,
        connections,
    };
    let loops = [CONNECTIONS as usize, FLOOD].map(|count| crowd(Arrivals::Always, count));
    for (_, contender) in &edge.contenders {
        loops[0].warm_up(world, contender.ports.plain, plan);
    }
    take(plan, &edge.contenders, |contender| {
        let turn = |load: &Load| -> Sample {
            load.turn(world, contender.ports.plain, &[contender.tree()], plan.turn)
        };
        let rates = loops
            .each_ref()
            .map(|load| turn(load)[&Measure::RequestsPerSecond]);
        let capacity = rates.into_iter().fold(0.0, f64::max);
        let mut sample = turn(&crowd(Arrivals::PerSecond(capacity * 2.0), FLOOD));
        let kept = sample[&Measure::RequestsPerSecond] / capacity;
        sample.insert(Measure::Kept, kept);
        sample
    })
}
