//! Spans on their way to a collector behind TLS: they reach one whose certificate
//! is trusted, and no other.

use std::sync::Arc;

use http::{Request, Response};
use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use meridian_tests::certs::{Authority, Identity, TRUST_DOMAIN};
use meridian_tests::client::{Protocol, get, loopback};
use meridian_tests::gateway::{Gateway, static_configuration};
use meridian_tests::origin::Origin;
use meridian_tests::wait::{self, PATIENCE};
use meridian_tests::world::{World, isolated};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;

const LISTENER: u16 = 8080;

/// Where OTLP over HTTP is expected.
const COLLECTOR: u16 = 4318;

#[test]
fn spans_reach_a_collector_behind_tls() {
    isolated("spans over tls", async |world| {
        let authority = Authority::new(TRUST_DOMAIN);
        let mut exports = collector(authority.host_leaf("localhost")).await;
        let origin = Origin::start("origin", 0).await;
        let _gateway = traced_gateway(world, &origin, &authority).await;
        let reply = get(LISTENER, Protocol::Http1, "/").await.expect("a reply");
        assert_eq!(reply.status, 200);

        let (path, body) = wait::until("an export", PATIENCE, async || {
            exports.try_recv().map_err(|error| error.to_string())
        })
        .await;
        assert_eq!(path, "/v1/traces");
        // Names are plain text in a protobuf message.
        for name in ["service.name", "everything", "http.request.method"] {
            let found = body.windows(name.len()).any(|part| part == name.as_bytes());
            assert!(found, "{name:?} is missing from the export");
        }
    });
}

#[test]
fn a_collector_with_a_strange_certificate_gets_nothing() {
    isolated("untrusted collector", async |world| {
        let stranger = Authority::new(TRUST_DOMAIN).host_leaf("localhost");
        let mut exports = collector(stranger).await;
        let origin = Origin::start("origin", 0).await;
        let gateway = traced_gateway(world, &origin, &Authority::new(TRUST_DOMAIN)).await;
        let reply = get(LISTENER, Protocol::Http1, "/").await.expect("a reply");
        assert_eq!(reply.status, 200);
        wait::holds("the failure is logged", PATIENCE, async || {
            gateway.process.log().contains("export of spans failed")
        })
        .await;
        assert!(exports.try_recv().is_err(), "spans went to a stranger");
    });
}

/// A gateway that records every request and trusts one authority.
async fn traced_gateway(world: &World, origin: &Origin, trusted: &Authority) -> Gateway {
    let roots = world.write("collector-ca.pem", &trusted.root_pem());
    let roots = roots.to_str().expect("a path of text");
    let configuration = format!(
        "{}telemetry:\n  tracing: {{endpoint: \"https://localhost:{COLLECTOR}\", sampling: 1}}\n",
        static_configuration(LISTENER, origin.address())
    );
    Gateway::start_in(
        world,
        "gateway",
        &configuration,
        &[("SSL_CERT_FILE", roots)],
    )
    .await
}

/// Takes exports over TLS: their paths and bodies.
async fn collector(identity: Identity) -> mpsc::UnboundedReceiver<(String, Bytes)> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let settings = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(identity.chain, identity.key)
        .expect("a certificate with its key");
    let acceptor = TlsAcceptor::from(Arc::new(settings));
    let listener = TcpListener::bind(loopback(COLLECTOR)).await;
    let listener = listener.expect("the collector's port");
    let (sender, exports) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, sender) = (acceptor.clone(), sender.clone());
            tokio::spawn(async move {
                // A client that does not trust us ends the handshake.
                let Ok(stream) = acceptor.accept(stream).await else {
                    return;
                };
                let answer = service_fn(|request| take(request, sender.clone()));
                let served = auto::Builder::new(TokioExecutor::new());
                // How a connection ends shows in what arrived.
                let _ = served.serve_connection(TokioIo::new(stream), answer).await;
            });
        }
    });
    exports
}

async fn take(
    request: Request<Incoming>,
    sender: mpsc::UnboundedSender<(String, Bytes)>,
) -> Result<Response<Empty<Bytes>>, hyper::Error> {
    let path = request.uri().path().to_owned();
    let body = request.into_body().collect().await?.to_bytes();
    // The test may have seen enough.
    let _ = sender.send((path, body));
    Ok(Response::new(Empty::new()))
}
