//! Destinations without sidecars: one TLS listener that is every service at once,
//! each with its own leaf, chosen by SNI. What arrives here is exactly what the
//! proxy in front of it sent.
//!
//! A request's own headers say how it is answered: `x-reply` names response
//! headers (`a=1,a=2`), `x-script` statuses, one a try (the last one stays), and
//! `x-delay` milliseconds before the answer.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use meridian_tests::certs::Identity;
use meridian_tests::client::loopback;
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

/// What reached a destination.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Sight {
    /// Name of the listener that was called.
    pub instance: String,
    /// Name that the proxy asked for in its handshake.
    pub sni: String,
    /// Method.
    pub method: String,
    /// Path and query as they came.
    pub target: String,
    /// `:authority`, or `Host`.
    pub host: String,
    /// Headers, repeated ones in their order.
    pub headers: BTreeMap<String, Vec<String>>,
    /// Body.
    pub body: String,
    /// Tries so far, this one included.
    pub tries: usize,
}

/// Leaves by service.
pub(crate) type Leaves = BTreeMap<String, Arc<CertifiedKey>>;

/// A leaf ready to be presented.
pub(crate) fn certified(identity: Identity) -> Arc<CertifiedKey> {
    let key = ring::default_provider()
        .key_provider
        .load_private_key(identity.key)
        .expect("a private key of a known kind");
    Arc::new(CertifiedKey::new(identity.chain, key))
}

/// A running destination. It ends when dropped.
#[derive(Debug)]
pub(crate) struct Native {
    acceptor: JoinHandle<()>,
}

/// Tries of each case so far.
type Tries = Arc<Mutex<BTreeMap<String, usize>>>;

impl Native {
    /// Listens in the mesh, under a name that its reports carry.
    pub(crate) async fn start(name: &str, port: u16, leaves: Leaves) -> Self {
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("TLS 1.2 and 1.3")
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(ByService(leaves)));
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Self::listen(name, port, Some(TlsAcceptor::from(Arc::new(config)))).await
    }

    /// Listens without TLS: the application behind a sidecar.
    pub(crate) async fn plain(name: &str, port: u16) -> Self {
        Self::listen(name, port, None).await
    }

    async fn listen(name: &str, port: u16, tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind(loopback(port)).await.expect("a port");
        let (name, tries) = (name.to_owned(), Tries::default());
        let acceptor = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (tls, name, tries) = (tls.clone(), name.clone(), Arc::clone(&tries));
                tokio::spawn(async move { meet(tls, stream, name, tries).await });
            }
        });
        Self { acceptor }
    }
}

impl Drop for Native {
    fn drop(&mut self) {
        self.acceptor.abort();
    }
}

/// `[subset.]service.default.dc1.internal.<trust domain>`
#[derive(Debug)]
struct ByService(Leaves);

impl ResolvesServerCert for ByService {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let mut labels = hello.server_name()?.split('.');
        labels.find_map(|label| self.0.get(label)).cloned()
    }
}

async fn meet(tls: Option<TlsAcceptor>, stream: TcpStream, name: String, tries: Tries) {
    let Some(tls) = tls else {
        return serve(stream, (name, String::new()), tries).await;
    };
    // A proxy that breaks off is seen by the test at its other end.
    if let Ok(stream) = tls.accept(stream).await {
        let sni = stream.get_ref().1.server_name().unwrap_or_default();
        let place = (name, sni.to_owned());
        serve(stream, place, tries).await;
    }
}

async fn serve(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    place: (String, String),
    tries: Tries,
) {
    let place = Arc::new(place);
    let answer = service_fn(move |request| {
        let (place, tries) = (Arc::clone(&place), Arc::clone(&tries));
        async move { Ok::<_, Infallible>(answer(&place, &tries, request).await) }
    });
    let _ = auto::Builder::new(TokioExecutor::new())
        .serve_connection(TokioIo::new(stream), answer)
        .await;
}

async fn answer(
    place: &(String, String),
    tries: &Tries,
    request: Request<Incoming>,
) -> Response<Full<Bytes>> {
    let order = Order::read(request.headers());
    let tries = count(tries, request.headers());
    if let Some(delay) = order.delay {
        tokio::time::sleep(delay).await;
    }
    let sight = look(place, tries, request).await;
    let body = serde_json::to_vec(&sight).expect("a report as JSON");
    let last = order.script.len().saturating_sub(1);
    let status = order.script.get((tries - 1).min(last)).copied();
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status
        .unwrap_or(200)
        .try_into()
        .expect("a status of the script");
    for (name, value) in order.reply {
        response.headers_mut().append(name, value);
    }
    let kind = HeaderValue::from_static("application/sight");
    response
        .headers_mut()
        .insert(http::header::CONTENT_TYPE, kind);
    response
}

/// How a request wants to be answered.
struct Order {
    script: Vec<u16>,
    reply: Vec<(HeaderName, HeaderValue)>,
    delay: Option<Duration>,
}

impl Order {
    fn read(headers: &HeaderMap) -> Self {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let list = |name: &str| text(name).unwrap_or_default().split(',').map(str::trim);
        Self {
            script: list("x-script").flat_map(str::parse).collect(),
            reply: list("x-reply")
                .filter_map(|pair| pair.split_once('='))
                .map(|(name, value)| {
                    let name = name.parse().expect("a header name");
                    (name, value.parse().expect("a header value"))
                })
                .collect(),
            delay: text("x-delay").map(|text| {
                let milliseconds = text.parse().expect("milliseconds");
                Duration::from_millis(milliseconds)
            }),
        }
    }
}

fn count(tries: &Tries, headers: &HeaderMap) -> usize {
    let case = headers.get(super::observe::CASE);
    let case = case.and_then(|case| case.to_str().ok()).unwrap_or_default();
    let mut tries = tries.lock().expect("a lock that nobody broke");
    let count = tries.entry(case.to_owned()).or_default();
    *count += 1;
    *count
}

async fn look(
    (instance, sni): &(String, String),
    tries: usize,
    request: Request<Incoming>,
) -> Sight {
    let (head, body) = request.into_parts();
    let body = body
        .collect()
        .await
        .map(http_body_util::Collected::to_bytes);
    let mut headers = BTreeMap::<_, Vec<_>>::new();
    for (name, value) in &head.headers {
        let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
        headers.entry(name.to_string()).or_default().push(value);
    }
    let named = headers.remove("host").unwrap_or_default().join(",");
    let authority = head.uri.authority().map(ToString::to_string);
    Sight {
        instance: instance.clone(),
        sni: sni.clone(),
        method: head.method.to_string(),
        target: head
            .uri
            .path_and_query()
            .map_or("", |target| target.as_str())
            .to_owned(),
        host: authority.unwrap_or(named),
        headers,
        body: String::from_utf8_lossy(&body.unwrap_or_default()).into_owned(),
        tries,
    }
}
