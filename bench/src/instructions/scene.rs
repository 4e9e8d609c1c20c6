//! What runs under callgrind: data planes on snapshots written as values, with
//! one worker each.

use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use clap::ValueEnum;
use http::{HeaderName, HeaderValue};
use meridian_dataplane::{DataPlane, Settings, Telemetry};
use meridian_model::cluster::Target;
use meridian_model::intention::{Decision, Intention, Source};
use meridian_model::listener::{
    Alpn, Callers, ClientCertificateHeader, ClientTrust, ConnectionDeadlines, ConnectionLimits,
    HttpFilters, HttpService, PathNormalization,
};
use meridian_model::route::{RouteTable, VirtualHost};
use meridian_model::{
    Authorization, Bind, Cluster, Direction, Endpoint, EndpointAddress, Health, Identity, Listener,
    Route, RouteAction, Security, Service, Snapshot, TlsTerms, Transport, UpstreamProtocol,
    Verdict,
};
use meridian_telemetry::access_log::{AccessLog, AccessLogConfig, Destination};
use meridian_telemetry::metrics::BuildInfo;
use meridian_telemetry::{Metrics, SpanSink};
use tokio::sync::watch;

use crate::certificates::{Authority, mesh};

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Scene {
    /// The edge: HTTP/1.1 both ways, metrics, an access log, one header set.
    Edge,
    /// Two sidecars in a row: HTTP/1.1 under mutual TLS, an intention, the
    /// client-certificate header, metrics. Both are counted.
    Mesh,
    /// The same with HTTP/2 all the way, and gRPC calls.
    Grpc,
}

impl Scene {
    /// Name in the file of expected counts.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Edge => "edge",
            Self::Mesh => "mesh",
            Self::Grpc => "grpc",
        }
    }
}

/// Serves a scene, says on standard output where, and ends with standard input.
///
/// # Errors
/// When a data plane does not start.
pub(crate) fn serve(scene: Scene, origin: u16) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("making a runtime")?;
    let origin = SocketAddr::from(([127, 0, 0, 1], origin));
    runtime.block_on(async {
        let running = match scene {
            Scene::Edge => vec![Running::start(edge(origin), true).await?],
            Scene::Mesh => pair(origin, UpstreamProtocol::Http1).await?,
            Scene::Grpc => pair(origin, UpstreamProtocol::Http2).await?,
        };
        let address = running.last().context("a scene without proxies")?.address;
        writeln!(std::io::stdout(), "{address}").context("saying where it listens")?;
        // Blocks the control side, which has nothing to do from here on.
        let end = std::io::stdin().read_to_end(&mut Vec::new());
        end.map(drop).context("waiting for the end")
    })
}

/// A data plane that goes on for as long as it is held.
struct Running {
    address: SocketAddr,
    _plane: DataPlane,
    _snapshots: watch::Sender<Arc<Snapshot>>,
}

impl Running {
    async fn start(mut snapshot: Snapshot, logs: bool) -> anyhow::Result<Self> {
        snapshot.generation = 1;
        let (snapshots, watched) = watch::channel(Arc::new(snapshot));
        let build = BuildInfo {
            program: "instructions",
            version: "0",
        };
        let metrics = Metrics::new(build).context("making the metrics")?;
        let config = AccessLogConfig {
            destination: Destination::File(PathBuf::from("/dev/null")),
            ..AccessLogConfig::default()
        };
        let access_log = logs
            .then(|| AccessLog::new(&config, metrics.access_log()))
            .transpose()
            .context("making the access log")?;
        let telemetry = Telemetry {
            metrics,
            access_log,
            spans: SpanSink::default(),
        };
        let plane = DataPlane::start(Settings { workers: 1 }, watched, telemetry)
            .context("starting a data plane")?;
        let mut readiness = plane.readiness();
        readiness
            .wait_for(|now| now.ready)
            .await
            .context("waiting for the listeners")?;
        let addresses = plane.addresses();
        let (_, &address) = addresses.first_key_value().context("no listener")?;
        Ok(Self {
            address,
            _plane: plane,
            _snapshots: snapshots,
        })
    }
}

fn edge(origin: SocketAddr) -> Snapshot {
    let mut action = RouteAction::forward("origin".into());
    action.request_headers.set.push((
        HeaderName::from_static("x-edge"),
        HeaderValue::from_static("bench").into(),
    ));
    let service = HttpService {
        routes: Arc::new(everything(action)),
        authorization: None,
        client_certificate: ClientCertificateHeader::Sanitize,
        trust: ClientTrust::Edge,
        normalization: PathNormalization::EDGE,
        filters: HttpFilters::default(),
    };
    let mut snapshot = Snapshot::default();
    put_listener(&mut snapshot, Direction::Edge, Security::Plain, service);
    put_cluster(&mut snapshot, "origin", Transport::Plain, origin);
    snapshot
}

async fn pair(origin: SocketAddr, protocol: UpstreamProtocol) -> anyhow::Result<Vec<Running>> {
    let authority = Authority::new()?;
    let (web, api) = (authority.identity("web")?, authority.identity("api")?);
    let callee = speaking(protocol, inbound(&web, &api, origin));
    let callee = Running::start(callee, false).await?;
    let caller = speaking(protocol, outbound(&web, &api, callee.address));
    let caller = Running::start(caller, false).await?;
    Ok(vec![callee, caller])
}

fn inbound(web: &Identity, api: &Identity, origin: SocketAddr) -> Snapshot {
    let allowed = Intention {
        source: Source {
            trust_domain: web.spiffe.trust_domain().clone(),
            partition: None,
            namespace: None,
            service: Some("web".to_owned()),
        },
        jwt: Vec::new(),
        decision: Decision::Allow,
    };
    let service = HttpService {
        routes: Arc::new(everything(RouteAction::forward("local".into()))),
        authorization: Some(Arc::new(Authorization {
            intentions: vec![allowed],
            default: Verdict::Deny,
            providers: Vec::new(),
        })),
        client_certificate: ClientCertificateHeader::AppendForward,
        trust: ClientTrust::Mesh,
        normalization: PathNormalization::MESH_INBOUND,
        filters: HttpFilters::default(),
    };
    let security = Security::Mesh {
        identity: api.name.clone(),
        alpn: vec![Alpn::H2, Alpn::Http1],
        terms: TlsTerms::default(),
    };
    let mut snapshot = Snapshot::default();
    put_listener(&mut snapshot, Direction::Inbound, security, service);
    put_cluster(&mut snapshot, "local", Transport::Plain, origin);
    put_identity(&mut snapshot, api);
    snapshot
}

fn outbound(web: &Identity, api: &Identity, callee: SocketAddr) -> Snapshot {
    let service = HttpService {
        routes: Arc::new(everything(RouteAction::forward("api".into()))),
        authorization: None,
        client_certificate: ClientCertificateHeader::Sanitize,
        trust: ClientTrust::Mesh,
        normalization: PathNormalization::NONE,
        filters: HttpFilters::default(),
    };
    let mut snapshot = Snapshot::default();
    put_listener(&mut snapshot, Direction::Outbound, Security::Plain, service);
    put_cluster(&mut snapshot, "api", mesh(web, api), callee);
    put_identity(&mut snapshot, web);
    snapshot
}

/// The same with clusters that speak a protocol.
fn speaking(protocol: UpstreamProtocol, mut snapshot: Snapshot) -> Snapshot {
    for cluster in snapshot.clusters.values_mut() {
        Arc::make_mut(cluster).protocol = protocol;
    }
    snapshot
}

fn everything(action: RouteAction) -> RouteTable {
    let route = Route {
        name: "all".into(),
        matches: Arc::default(),
        action: Arc::new(action),
    };
    RouteTable {
        hosts: vec![VirtualHost {
            hosts: vec!["*".to_owned()],
            routes: vec![route],
        }],
        ..RouteTable::default()
    }
}

fn put_listener(
    snapshot: &mut Snapshot,
    direction: Direction,
    security: Security,
    service: HttpService,
) {
    let listener = Listener {
        name: "in".into(),
        bind: Bind::Tcp(([127, 0, 0, 1], 0).into()),
        direction,
        security,
        service: Service::Http(Arc::new(service)),
        limits: ConnectionLimits::default(),
        deadlines: ConnectionDeadlines::default(),
        callers: Callers::Anywhere,
    };
    snapshot
        .listeners
        .insert(listener.name.clone(), Arc::new(listener));
}

fn put_cluster(snapshot: &mut Snapshot, name: &str, transport: Transport, address: SocketAddr) {
    let endpoint = Endpoint {
        address: EndpointAddress::Tcp(address),
        weight: 1,
        health: Health::Healthy,
        instance: address.to_string().into(),
    };
    let target = Target {
        name: name.into(),
        transport,
        endpoints: [endpoint].into(),
    };
    let cluster = Cluster::new(name.into(), UpstreamProtocol::Http1, vec![Arc::new(target)]);
    snapshot
        .clusters
        .insert(cluster.name.clone(), Arc::new(cluster));
}

fn put_identity(snapshot: &mut Snapshot, identity: &Identity) {
    snapshot
        .identities
        .insert(identity.name.clone(), Arc::new(identity.clone()));
}
