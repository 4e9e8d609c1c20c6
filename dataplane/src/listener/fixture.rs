//! Listeners on real sockets for tests, with a handler that answers everything.

use super::{BindStatus, Bound, ConnectionHandler, DrainWatch, Entrance, ListenerState, Listeners};
use crate::downstream::streams::{self, Limits};
use crate::downstream::{Connection, Downstream, Incoming, Piece, Wire};
use crate::drain::Drain;
use crate::headers::ResponseHeader;
use crate::workers::Workers;
use bytes::Bytes;
use meridian_model::listener::*;
use meridian_model::{Bind, Listener, RouteTable};
use meridian_telemetry::Metrics;
use meridian_telemetry::metrics::BuildInfo;
use pingora_core::protocols::Stream;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Answers requests with `<protocol> <body length>`, or with the violation, and
/// echoes what comes over TCP.
pub(crate) struct Answering;

/// Answers one request; the stream, where another may follow.
async fn answer(
    mut request: Incoming,
    connection: &Connection<()>,
    drain: &DrainWatch,
) -> Option<Stream> {
    if !request.read_head().await.ok()? {
        return None;
    }
    let upgrade = request.head().headers.contains_key("upgrade");
    let mut length = 0;
    while connection.violation().is_none()
        && let Ok(Piece::Body(body)) = request.read().await
    {
        length += body.len();
    }
    if *drain.borrow() || connection.violation().is_some() {
        request.keep_alive(false);
    }
    if upgrade {
        echo(request, connection).await;
        return None;
    }
    let (status, text) = match connection.violation() {
        Some(violation) => (violation.status(), violation.as_str().to_owned()),
        None => (
            http::StatusCode::OK,
            format!("{:?} {length}", request.head().version),
        ),
    };
    let mut response = ResponseHeader::build(status, Some(1)).ok()?;
    response.insert_header("content-length", text.len()).ok()?;
    request.write_head(Box::new(response), false).await.ok()?;
    request.write_body(Bytes::from(text), true).await.ok()?;
    connection.request_finished();
    request.finish().await.ok()?
}

/// Switches protocols, and sends back in capitals what comes then.
async fn echo(mut request: Incoming, connection: &Connection<()>) {
    let mut response = ResponseHeader::build(101, Some(2)).unwrap();
    response.insert_header("connection", "upgrade").unwrap();
    response.insert_header("upgrade", "loud").unwrap();
    request.write_head(Box::new(response), false).await.unwrap();
    connection.upgraded();
    while let Ok(Piece::Body(bytes)) = request.read().await {
        let loud = bytes.to_ascii_uppercase();
        request.write_body(loud.into(), false).await.unwrap();
    }
}

impl ConnectionHandler for Answering {
    type State = ();

    async fn http(self: Arc<Self>, stream: Box<Downstream<()>>, drain: DrainWatch) {
        let connection = Arc::clone(stream.connection());
        if !stream.is_http2() {
            let mut next: Option<Stream> = Some(stream);
            while let Some(stream) = next {
                next = answer(Incoming::http1(stream), &connection, &drain).await;
            }
            return;
        }
        let limits = Limits {
            streams: 10,
            head_bytes: 64 * 1024,
            idle: SOON,
        };
        streams::serve(stream, limits, drain.clone(), |request, serving| {
            let (connection, drain) = (Arc::clone(&connection), drain.clone());
            tokio::spawn(async move {
                answer(request, &connection, &drain).await;
                drop(serving);
            });
        })
        .await;
    }

    async fn tcp(
        self: Arc<Self>,
        mut stream: Wire,
        connection: Arc<Connection<()>>,
        _: DrainWatch,
    ) {
        let mut buffer = [0; 1024];
        loop {
            let read = tokio::select! {
                read = stream.read(&mut buffer) => read,
                () = connection.closed() => return,
            };
            match read {
                Ok(read) if read > 0 => stream.write_all(&buffer[..read]).await.unwrap(),
                _ => return,
            }
        }
    }
}

/// Running listeners.
pub(crate) struct Fixture {
    pub(crate) listeners: Listeners<Answering>,
    pub(crate) workers: Arc<Workers>,
    pub(crate) metrics: Metrics,
    pub(crate) drain: Drain,
}

impl Fixture {
    pub(crate) fn new() -> Self {
        let workers = Workers::start(2).unwrap();
        let build = BuildInfo {
            program: "test",
            version: "0",
        };
        let metrics = Metrics::new(build).unwrap();
        let drain = Drain::default();
        let handler = Arc::new(Answering);
        Self {
            listeners: Listeners::new(
                handler,
                Arc::clone(&workers),
                metrics.clone(),
                drain.clone(),
            ),
            workers,
            metrics,
            drain,
        }
    }

    /// One listener on a free port; its address.
    pub(crate) fn with(listener: Listener) -> (Self, SocketAddr) {
        let mut fixture = Self::new();
        let status = fixture.listeners.reconcile(vec![state(listener)]);
        let address = address(&status[0]);
        (fixture, address)
    }

    /// The value of a series as it is scraped.
    pub(crate) fn metric(&self, series: &str) -> Option<f64> {
        let text = self.metrics.render(std::time::Instant::now()).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(series))?;
        line.trim().parse().ok()
    }
}

pub(crate) fn state(listener: Listener) -> ListenerState<()> {
    ListenerState {
        model: Arc::new(listener),
        entrance: Entrance::Plain,
        app: (),
    }
}

pub(crate) fn address(status: &BindStatus) -> SocketAddr {
    match &status.bound {
        Bound::Open(Some(address)) => *address,
        other => panic!("not open on TCP: {other:?}"),
    }
}

/// A plain HTTP listener on a free port.
pub(crate) fn http(name: &str) -> Listener {
    Listener {
        name: name.into(),
        bind: Bind::Tcp("127.0.0.1:0".parse().unwrap()),
        direction: Direction::Edge,
        security: Security::Plain,
        service: Service::Http(Arc::new(HttpService {
            routes: Arc::new(RouteTable::default()),
            authorization: None,
            client_certificate: ClientCertificateHeader::Sanitize,
            trust: ClientTrust::Edge,
            normalization: PathNormalization::EDGE,
            filters: Default::default(),
        })),
        limits: ConnectionLimits::default(),
        deadlines: ConnectionDeadlines::default(),
        callers: Callers::Anywhere,
    }
}

/// A plain TCP listener on a free port.
pub(crate) fn tcp(name: &str) -> Listener {
    Listener {
        service: Service::Tcp(Arc::new(TcpService {
            clusters: Vec::new(),
            authorization: None,
            idle_timeout: None,
            checks: Vec::new(),
        })),
        ..http(name)
    }
}

/// Sends bytes and reads to the end of the connection.
pub(crate) async fn exchange(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    read_to_end(&mut stream).await
}

pub(crate) async fn read_to_end(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    tokio::time::timeout(SOON, stream.read_to_end(&mut answer))
        .await
        .expect("the connection stays open")
        .unwrap();
    String::from_utf8(answer).unwrap()
}

/// Reads one response of a kept-alive connection.
pub(crate) async fn response(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    let read = async {
        loop {
            answer.push(stream.read_u8().await.unwrap());
            let Some(head) = answer.windows(4).position(|w| w == b"\r\n\r\n") else {
                continue;
            };
            let text = String::from_utf8_lossy(&answer[..head]).to_ascii_lowercase();
            let length: usize = text
                .lines()
                .find_map(|line| line.strip_prefix("content-length: "))
                .map_or(0, |length| length.parse().unwrap());
            if answer.len() == head + 4 + length {
                return;
            }
        }
    };
    tokio::time::timeout(SOON, read).await.expect("no response");
    String::from_utf8(answer).unwrap()
}

/// Longer than anything takes here, shorter than a test run's patience.
pub(crate) const SOON: Duration = Duration::from_secs(10);
