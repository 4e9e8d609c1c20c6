//! Consul's built-in extensions on a real Consul, before services of the test's own: one that is
//! asked about requests, and a collector of access logs. Envoy holds the tests to the truth.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use meridian_tests::client::grpc::frame;
use meridian_tests::client::{Connection, Protocol, Reply, loopback};
use meridian_tests::consul::{Consul, Service};
use meridian_tests::origin::{Origin, Seen};
use meridian_tests::sidecar::{Kind, Sidecar};
use meridian_tests::wait::{self, PATIENCE};
use meridian_tests::world::{World, isolated};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// Where the caller reaches the service with extensions.
const WEB: u16 = 5001;
/// Where the service that extensions call listens.
const CALLED: u16 = 9000;

#[test]
fn envoy_does_as_it_is_told_by_a_service_that_is_asked() {
    isolated("authz by envoy", async |world| {
        asked(world, Kind::Envoy).await
    });
}

#[test]
fn meshd_does_as_it_is_told_by_a_service_that_is_asked() {
    isolated("authz by meshd", async |world| {
        asked(world, Kind::Meshd).await
    });
}

#[test]
fn envoy_tells_a_collector_of_each_request() {
    isolated("otel by envoy", async |world| {
        told(world, Kind::Envoy).await
    });
}

#[test]
fn meshd_tells_a_collector_of_each_request() {
    isolated("otel by meshd", async |world| {
        told(world, Kind::Meshd).await
    });
}

#[test]
fn what_is_not_served_is_named_and_stops_nothing_unless_it_is_required() {
    isolated("extensions named", async |world| {
        let mut mesh = Mesh::start(world, Kind::Meshd).await;
        let lua = json!({"Name": "builtin/lua", "Arguments": {"ProxyType": "connect-proxy",
            "Listener": "inbound", "Script": "function envoy_on_request(h) end"}});
        mesh.extend(lua.clone()).await;
        mesh.named("builtin/lua").await;
        wait::until("traffic beside it", PATIENCE, async || passes("/ok").await).await;
        let mut required = lua;
        required["Required"] = json!(true);
        mesh.extend(required).await;
        mesh.named("the required extension `builtin/lua`").await;
        passes("/ok").await.expect("what was served goes on");

        mesh.web.process.kill();
        mesh.web = Sidecar::launch(world, Kind::Meshd, &web());
        wait::until("the admin listener", PATIENCE, async || {
            mesh.web.admin.ready().await
        })
        .await;
        mesh.named("its public listener is not open").await;
        mesh.extend_with(json!([])).await;
        wait::until("an open one", PATIENCE, async || passes("/ok").await).await;
    });
}

/// Allowed, changed, refused and unanswered, by HTTP and by gRPC.
async fn asked(world: &World, kind: Kind) {
    let mesh = Mesh::start(world, kind).await;
    let target = json!({"Target": {"URI": format!("127.0.0.1:{CALLED}"), "Timeout": "2s"}});
    let mut http = target.clone();
    http["AuthorizationResponse"] = json!({"AllowedUpstreamHeaders": [{"Exact": "x-user"}]});
    for (user, service) in [
        ("bob", json!({"HttpService": http})),
        ("rob", json!({"GrpcService": target})),
    ] {
        let called = Called::start().await;
        let extension = |required| {
            json!({"Name": "builtin/ext-authz", "Required": required,
                "Arguments": {"Config": service}})
        };
        mesh.extend(extension(true)).await;
        wait::until("a user of the service's", PATIENCE, async || {
            let seen = passes("/ok").await?;
            match seen.header("x-user").as_slice() {
                [only] if *only == user => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await;
        // Connections that Envoy drains go on under the extension before this one.
        wait::until("a refusal of the service's", PATIENCE, async || {
            let reply = ask("/no").await?;
            match (reply.status.as_u16(), reply.text().as_str()) {
                (401, "who") if reply.headers["x-why"] == "me" => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await;

        drop(called);
        wait::until("a refusal without an answer", PATIENCE, async || {
            let reply = ask("/ok").await?;
            match (reply.status.as_u16(), reply.body.is_empty()) {
                (403, true) => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await;
        mesh.extend(extension(false)).await;
        wait::until("a pass without an answer", PATIENCE, async || {
            passes("/ok").await
        })
        .await;
    }
    mesh.extend_with(json!([])).await;
}

async fn told(world: &World, kind: Kind) {
    let mesh = Mesh::start(world, kind).await;
    let collector = Called::start().await;
    mesh.extend(
        json!({"Name": "builtin/otel-access-logging", "Arguments": {"Config": {
        "LogName": "the-log", "GrpcService": {"Target": {"URI": format!("127.0.0.1:{CALLED}")}},
        "Body": "%REQ(:METHOD)% %REQ(:PATH)% %PROTOCOL% %RESPONSE_CODE% %BYTES_SENT%",
        "Attributes": {"agent": "agent=%REQ(USER-AGENT)%"},
        "ResourceAttributes": {"place": "here"}}}}),
    )
    .await;
    wait::until("a record at the collector", PATIENCE, async || {
        let reply = ask("/teapot?status=418").await?;
        assert_eq!(reply.status, 418);
        let line = format!("GET /teapot?status=418 HTTP/1.1 418 {}", reply.body.len());
        let parts = [line.as_str(), "agent=-", "the-log", "place", "here"];
        let records = collector.questions();
        let all = |record: &Vec<u8>| parts.iter().all(|part| contains(record, part));
        records.iter().any(all).then_some(()).ok_or_else(|| {
            let texts = records.iter().map(|one| String::from_utf8_lossy(one));
            format!("{:?}", texts.collect::<Vec<_>>())
        })
    })
    .await;
    if kind == Kind::Meshd {
        wait::holds("a record that is counted", PATIENCE, async || {
            let metrics = mesh.web.admin.metrics().await;
            metrics.sum("meridian_access_log_exported_total", &[]) >= 1.0
        })
        .await;
    }
}

/// The service whose sidecar is under test.
fn web() -> Service {
    Service::new("web", 8001).sidecar(21001)
}

/// A caller and a service whose sidecar is under test.
struct Mesh {
    consul: Consul,
    web: Sidecar,
    _caller: Sidecar,
    _origin: Origin,
}

impl Mesh {
    async fn start(world: &World, kind: Kind) -> Self {
        let consul = Consul::start(world).await;
        consul.protocol("web", "http").await;
        let web = web();
        let caller = Service::new("caller", 8000).sidecar(21000);
        let caller = caller.upstream("web", WEB);
        consul.register(&web).await;
        consul.register(&caller).await;
        let mesh = Self {
            web: Sidecar::start(world, kind, &web).await,
            _caller: Sidecar::start(world, Kind::Meshd, &caller).await,
            _origin: Origin::start("web", 8001).await,
            consul,
        };
        wait::until("the service", PATIENCE, async || passes("/ok").await).await;
        mesh
    }

    async fn extend(&self, extension: Value) {
        self.extend_with(json!([extension])).await;
    }

    async fn extend_with(&self, extensions: Value) {
        self.consul
            .config_entry(json!({"Kind": "service-defaults", "Name": "web",
                "Protocol": "http", "EnvoyExtensions": extensions}))
            .await;
    }

    /// Waits until `/snapshot` says so.
    async fn named(&self, words: &str) {
        wait::until(words, PATIENCE, async || {
            let rejected = self.web.admin.snapshot().await["rejected"].to_string();
            match rejected.contains(words) {
                true => Ok(()),
                false => Err(rejected),
            }
        })
        .await;
    }
}

async fn ask(path: &str) -> Result<Reply, String> {
    let open = Connection::open(loopback(WEB), Protocol::Http1).await;
    let mut connection = open.map_err(|error| error.to_string())?;
    // A lie that must not reach the application once somebody says who it is.
    let request = Request::get(path).header("x-user", "liar");
    let request = request.body(meridian_tests::client::empty());
    let request = request.map_err(|error| error.to_string())?;
    connection
        .send(request)
        .await
        .map_err(|error| error.to_string())
}

async fn passes(path: &str) -> Result<Seen, String> {
    Seen::from_reply(&ask(path).await?)
}

/// A service that refuses whatever has `/no` in it, and keeps what it was asked by gRPC.
struct Called {
    acceptor: JoinHandle<()>,
    questions: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Called {
    async fn start() -> Self {
        let listener = wait::until("the port of the last one", PATIENCE, async || {
            TcpListener::bind(loopback(CALLED)).await
        })
        .await;
        let questions = Arc::new(Mutex::new(Vec::new()));
        let keep = Arc::clone(&questions);
        let acceptor = tokio::spawn(async move {
            // They end with this task.
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let keep = Arc::clone(&keep);
                let service = service_fn(move |request| answer(Arc::clone(&keep), request));
                connections.spawn(async move {
                    let server = auto::Builder::new(TokioExecutor::new());
                    let connection = server.serve_connection(TokioIo::new(stream), service);
                    drop(connection.await);
                });
            }
        });
        Self {
            acceptor,
            questions,
        }
    }

    fn questions(&self) -> Vec<Vec<u8>> {
        self.questions.lock().expect("no panic elsewhere").clone()
    }
}

impl Drop for Called {
    fn drop(&mut self) {
        self.acceptor.abort();
    }
}

type Answer = Response<BoxBody<Bytes, Infallible>>;

async fn answer(
    keep: Arc<Mutex<Vec<Vec<u8>>>>,
    request: Request<Incoming>,
) -> Result<Answer, hyper::Error> {
    let path = request.uri().path().to_owned();
    let kind = request.headers().get("content-type");
    let is_grpc = kind.is_some_and(|kind| kind == "application/grpc");
    let body = request.into_body().collect().await?.to_bytes();
    if !is_grpc {
        let (status, text) = match path.contains("/no") {
            true => (401, "who"),
            false => (200, ""),
        };
        let answer = Response::builder().status(status);
        let answer = answer.header("x-user", "bob").header("x-why", "me");
        let body = Full::new(Bytes::from(text)).boxed();
        return Ok(answer.body(body).expect("a response of fixed shape"));
    }
    let refused = contains(&body, "/no");
    keep.lock().expect("no panic elsewhere").push(body.to_vec());
    let message = match path.as_str() {
        "/envoy.service.auth.v3.Authorization/Check" if refused => denied(),
        "/envoy.service.auth.v3.Authorization/Check" => allowed(),
        "/opentelemetry.proto.collector.logs.v1.LogsService/Export" => Vec::new(),
        other => panic!("nobody should call {other}"),
    };
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    let body = Full::new(frame(&message)).with_trailers(async { Some(Ok(trailers)) });
    let answer = Response::builder().header("content-type", "application/grpc");
    Ok(answer
        .body(body.boxed())
        .expect("a response of fixed shape"))
}

/// `CheckResponse` with status 0 and a header for the application.
fn allowed() -> Vec<u8> {
    let ok = field(2, &option("x-user", "rob"));
    [field(1, &[]), field(3, &ok)].concat()
}

/// `CheckResponse` with PERMISSION_DENIED (7), HTTP status 401, a header and a body.
fn denied() -> Vec<u8> {
    let status = field(1, &[8, 0x91, 3]);
    let refusal = [status, field(2, &option("x-why", "me")), field(3, b"who")].concat();
    [field(1, &[8, 7]), field(2, &refusal)].concat()
}

/// `HeaderValueOption`, of which nothing says whether it is appended.
fn option(name: &str, value: &str) -> Vec<u8> {
    let header = [field(1, name.as_bytes()), field(2, value.as_bytes())].concat();
    field(1, &header)
}

/// A field of protobuf that holds fewer than 128 bytes.
fn field(tag: u8, bytes: &[u8]) -> Vec<u8> {
    let length = u8::try_from(bytes.len()).expect("a short field");
    [&[tag << 3 | 2, length], bytes].concat()
}

fn contains(bytes: &[u8], text: &str) -> bool {
    let mut windows = bytes.windows(text.len());
    windows.any(|window| window == text.as_bytes())
}
