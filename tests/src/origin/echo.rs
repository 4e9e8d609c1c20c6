//! An HTTP origin for HTTP/1.1, h2c and gRPC on one port.
//!
//! A plain request is answered with a report of what was received. The query may
//! ask for something else: `status=N`, `delay=MILLISECONDS`, `size=BYTES`. A gRPC
//! request is echoed as it comes, with the status in the trailers.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use serde::{Deserialize, Serialize};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::client::{Reply, loopback};

/// What the origin received.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// Name of the origin.
    pub origin: String,
    /// Method.
    pub method: String,
    /// Path and query, unchanged.
    pub target: String,
    /// `HTTP/1.1` or `HTTP/2.0`.
    pub version: String,
    /// Headers in order, repeated ones repeated.
    pub headers: Vec<(String, String)>,
    /// Body as text.
    pub body: String,
}

impl Seen {
    /// Reads a report.
    ///
    /// # Errors
    /// When the reply comes from somebody else, such as a proxy that refuses.
    pub fn from_reply(reply: &Reply) -> Result<Self, String> {
        serde_json::from_slice(&reply.body)
            .map_err(|_| format!("no report: {} {}", reply.status, reply.text()))
    }

    /// Values of a header.
    pub fn header(&self, name: &str) -> Vec<&str> {
        let named = self.headers.iter().filter(|(key, _)| key == name);
        named.map(|(_, value)| value.as_str()).collect()
    }
}

/// A running origin, on 127.0.0.1 unless told otherwise. It ends when dropped.
#[derive(Debug)]
pub struct Origin {
    address: SocketAddr,
    requests: Arc<AtomicU64>,
    acceptor: JoinHandle<()>,
}

impl Origin {
    /// Starts an origin; port 0 takes a free one.
    pub async fn start(name: &str, port: u16) -> Self {
        Self::at(name, loopback(port)).await
    }

    /// Starts an origin at an address.
    pub async fn at(name: &str, address: SocketAddr) -> Self {
        let listener = TcpListener::bind(address)
            .await
            .expect("a port for the origin");
        let address = listener.local_addr().expect("the address of a listener");
        let requests = Arc::new(AtomicU64::new(0));
        let state = State {
            name: name.into(),
            requests: Arc::clone(&requests),
        };
        let acceptor = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, state.clone()));
            }
        });
        Self {
            address,
            requests,
            acceptor,
        }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Requests received so far.
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.acceptor.abort();
    }
}

#[derive(Debug, Clone)]
struct State {
    name: Arc<str>,
    requests: Arc<AtomicU64>,
}

type Body = BoxBody<Bytes, hyper::Error>;

async fn serve(stream: TcpStream, state: State) {
    let answer = service_fn(move |request| {
        let state = state.clone();
        async move { Ok::<_, Infallible>(answer(state, request).await) }
    });
    // Small writes go out at once; a failure shows as a slower test only.
    let _ = stream.set_nodelay(true);
    // A connection that the proxy cuts is no concern of the origin.
    let _ = auto::Builder::new(TokioExecutor::new())
        .serve_connection(TokioIo::new(stream), answer)
        .await;
}

async fn answer(state: State, request: Request<Incoming>) -> Response<Body> {
    state.requests.fetch_add(1, Ordering::Relaxed);
    let kind = request.headers().get(http::header::CONTENT_TYPE);
    if kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc")) {
        return echo_grpc(request);
    }
    let option = |name: &str| query_number(request.uri().query().unwrap_or_default(), name);
    let (status, size) = (option("status").unwrap_or(200), option("size"));
    if let Some(delay) = option("delay") {
        tokio::time::sleep(Duration::from_millis(delay)).await;
    }
    let seen = report(&state.name, request).await;
    let body = match size {
        Some(size) => "x"
            .repeat(usize::try_from(size).expect("a size"))
            .into_bytes(),
        None => serde_json::to_vec(&seen).expect("a report as JSON"),
    };
    let body = Full::new(Bytes::from(body)).map_err(|never| match never {});
    Response::builder()
        .status(u16::try_from(status).expect("a status"))
        .header(http::header::CONTENT_TYPE, "application/json")
        .body(body.boxed())
        .expect("a response of fixed shape")
}

/// Sends every message back as it arrives, then says that all is well.
fn echo_grpc(request: Request<Incoming>) -> Response<Body> {
    let te = request.headers().get(http::header::TE).cloned();
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    // Proves that `te: trailers` came through, which gRPC servers insist on.
    trailers.insert("seen-te", te.unwrap_or(HeaderValue::from_static("none")));
    let body = request
        .into_body()
        .with_trailers(async move { Some(Ok(trailers)) });
    Response::builder()
        .header(http::header::CONTENT_TYPE, "application/grpc")
        .body(body.boxed())
        .expect("a response of fixed shape")
}

async fn report(name: &str, request: Request<Incoming>) -> Seen {
    let (head, body) = request.into_parts();
    let body = match body.collect().await {
        Ok(body) => String::from_utf8_lossy(&body.to_bytes()).into_owned(),
        Err(error) => format!("body cut off: {error}"),
    };
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    Seen {
        origin: name.to_owned(),
        method: head.method.to_string(),
        target: head
            .uri
            .path_and_query()
            .map_or("/", |path| path.as_str())
            .to_owned(),
        version: format!("{:?}", head.version),
        headers: head
            .headers
            .iter()
            .map(|(name, value)| (name.to_string(), text(value)))
            .collect(),
        body,
    }
}

fn query_number(query: &str, name: &str) -> Option<u64> {
    query
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .find(|(key, _)| *key == name)
        .and_then(|(_, value)| value.parse().ok())
}
