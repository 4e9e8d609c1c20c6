//! `meridian dev`: a gateway, two services and their sidecars in one process.
//!
//! Nothing here is a stand-in but the registry: three data planes, each with its
//! own identity from a development CA, talk mutual TLS over loopback.

use crate::application::Application;
use crate::cli::Dev;
use crate::gateway_file;
use crate::ports::{self, loopback};
use meridian_config::{GatewayFile, Report};
use meridian_dataplane::admin::AdminConfig;
use meridian_model::{Health, Verdict};
use meridian_program::{Outcome, Process, ProcessError, Proxy, Settings, StartError};
use meridian_sources::embedded::{
    CaError, Embedded, EmbeddedInstance, EmbeddedService, EmbeddedUpstream,
};
use meridian_sources::{Intent, Source};
use meridian_telemetry::log::{LogConfig, LogFormat};
use meridian_telemetry::metrics::BuildInfo;
use std::io;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::time::Duration;
use tokio::sync::watch;

const BUILD: BuildInfo = BuildInfo {
    program: "meridian",
    version: env!("CARGO_PKG_VERSION"),
};

/// Host of all SPIFFE IDs, and their datacenter.
const TRUST_DOMAIN: &str = "meridian.local";
const DATACENTER: &str = "dev";

/// Names in the mesh.
const GATEWAY: &str = "gateway";
const WEB: &str = "web";
const API: &str = "api";

/// How long requests may finish after Ctrl-C: somebody is waiting at a terminal.
const DRAIN: Duration = Duration::from_secs(5);

/// How long the start may take. It takes milliseconds; this is for finding out
/// that something is wrong.
const START: Duration = Duration::from_secs(15);

/// Why there is no mesh.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DevError {
    #[error("set up the process")]
    Process(#[source] ProcessError),
    #[error("find free ports")]
    Ports(#[source] io::Error),
    #[error("start service {name}")]
    Application {
        name: &'static str,
        #[source]
        source: io::Error,
    },
    #[error("make the development CA")]
    Ca(#[source] CaError),
    #[error("our own configuration is refused:\n{0}")]
    Configuration(Report),
    #[error("start {name}; is the port in use? --port and --admin-port choose others, 0 any")]
    Start {
        name: &'static str,
        #[source]
        source: StartError,
    },
    #[error("the listeners did not open; is port {port} in use? --port chooses another, 0 any")]
    NotReady { port: u16 },
}

/// Runs the mesh until somebody ends it.
pub(crate) async fn run(dev: &Dev) -> Result<Outcome, DevError> {
    let process = Process::begin(BUILD, &log(dev)).map_err(DevError::Process)?;
    let places = Places::choose(dev).map_err(DevError::Ports)?;
    let [api, web] = applications(&places).await?;
    let mesh = mesh(&places, &web, &api).map_err(DevError::Ca)?;
    for application in [web, api] {
        // They end with the process.
        drop(tokio::spawn(application.serve()));
    }
    let blueprint = GatewayFile::parse(
        &gateway_file::text(places.gateway.port(), GATEWAY, WEB, API),
        "dev",
    )
    .map_err(DevError::Configuration)?
    .value
    .blueprint;
    // Sources end when nobody could tell them anything any more, so this is held.
    let (_intent, intents) = watch::channel(Intent::from(blueprint));

    let start = Starting {
        process: &process,
        dev,
    };
    let (gateway, _gateway_source) = start
        .proxy(GATEWAY, 0, |counts| mesh.gateway(GATEWAY, intents, counts))
        .await?;
    let (web, _web_source) = start
        .proxy("sidecar of web", 1, |counts| mesh.sidecar(WEB, counts))
        .await?;
    let (api, _api_source) = start
        .proxy("sidecar of api", 2, |counts| mesh.sidecar(API, counts))
        .await?;
    let ready = async {
        for proxy in [&gateway, &web, &api] {
            proxy.ready().await;
        }
    };
    let port = places.gateway.port();
    tokio::time::timeout(START, ready)
        .await
        .map_err(|_| DevError::NotReady { port })?;
    announce(places.gateway, [&gateway, &web, &api]);
    Ok(process.supervise(vec![gateway, web, api], || {}).await)
}

/// Where everything listens.
struct Places {
    gateway: SocketAddr,
    web_sidecar: SocketAddr,
    api_sidecar: SocketAddr,
    /// Where web's sidecar makes api reachable.
    upstream: SocketAddr,
}

impl Places {
    fn choose(dev: &Dev) -> io::Result<Self> {
        let [any, web_sidecar, api_sidecar, upstream] = ports::free()?;
        Ok(Self {
            gateway: if dev.port == 0 {
                any
            } else {
                loopback(dev.port)
            },
            web_sidecar,
            api_sidecar,
            upstream,
        })
    }
}

async fn applications(places: &Places) -> Result<[Application; 2], DevError> {
    let bind = async |name, upstream| {
        Application::bind(name, loopback(0), upstream)
            .await
            .map_err(|source| DevError::Application { name, source })
    };
    Ok([
        bind(API, None).await?,
        bind(WEB, Some(places.upstream)).await?,
    ])
}

/// The registry: two services, and who may call whom.
fn mesh(places: &Places, web: &Application, api: &Application) -> Result<Embedded, CaError> {
    let mesh = Embedded::new(TRUST_DOMAIN, DATACENTER)?;
    let service = |name: &str, application: &Application, sidecar, upstreams| EmbeddedService {
        name: name.to_owned(),
        protocol: "http".to_owned(),
        instances: vec![EmbeddedInstance {
            id: name.to_owned(),
            application: application.address(),
            sidecar,
            health: Health::Healthy,
            upstreams,
        }],
    };
    let upstream = EmbeddedUpstream {
        service: API.to_owned(),
        bind: places.upstream,
    };
    mesh.set_service(service(WEB, web, places.web_sidecar, vec![upstream]));
    mesh.set_service(service(API, api, places.api_sidecar, Vec::new()));
    // Everything else is denied: the gateway may not call api.
    mesh.set_default(Verdict::Deny);
    mesh.set_intention(GATEWAY, WEB, Verdict::Allow);
    mesh.set_intention(WEB, API, Verdict::Allow);
    Ok(mesh)
}

/// What is alike for the three proxies.
struct Starting<'a> {
    process: &'a Process,
    dev: &'a Dev,
}

impl Starting<'_> {
    /// Starts one proxy. The source is to be held as long as it should learn.
    async fn proxy(
        &self,
        name: &'static str,
        place: u16,
        source: impl FnOnce(std::sync::Arc<dyn meridian_sources::SourceMetrics>) -> Source,
    ) -> Result<(Proxy, Source), DevError> {
        let failed = |source| DevError::Start { name, source };
        let opened = self
            .process
            .open(self.settings(place))
            .await
            .map_err(failed)?;
        let source = source(opened.counts());
        let proxy = opened.start(source.snapshots.clone()).map_err(failed)?;
        Ok((proxy, source))
    }

    fn settings(&self, place: u16) -> Settings {
        let port = match self.dev.admin_port {
            0 => 0,
            first => first.saturating_add(place),
        };
        Settings {
            workers: NonZeroUsize::MIN,
            admin: AdminConfig {
                bind: loopback(port),
                token: None,
            },
            log: log(self.dev),
            access_log: None,
            spans: None,
            drain: DRAIN,
        }
    }
}

fn log(dev: &Dev) -> LogConfig {
    LogConfig {
        filter: dev.log_level.clone(),
        format: LogFormat::Text,
    }
}

#[expect(
    clippy::print_stdout,
    reason = "this is what somebody waits for at a terminal"
)]
fn announce(gateway: SocketAddr, [edge, web, api]: [&Proxy; 3]) {
    println!(
        "A mesh is running in this process. Ctrl-C ends it.

  client -> gateway == mTLS ==> web -> its sidecar == mTLS ==> api

  gateway         http://{gateway}      admin http://{}
  sidecar of web                             admin http://{}
  sidecar of api                             admin http://{}

Try:
  curl http://{gateway}/         # through both hops: the answers say who called
  curl http://{gateway}/api      # 403: no intention lets the gateway call api
  curl http://{}/metrics  # what the gateway counted",
        edge.admin_address(),
        web.admin_address(),
        api.admin_address(),
        edge.admin_address(),
    );
}
