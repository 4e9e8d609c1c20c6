//! The services of `dev` and `demo`: they answer with what reached them.
//!
//! What a proxy did can be read off the answer: which headers it added, whose
//! certificate the caller showed, and what the next service in the chain saw.
//! Only the certificates themselves are left out.

use crate::cli::App;
use crate::fetch::{self, FetchError};
use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use meridian_program::Outcome;
use meridian_telemetry::Chain;
use serde_json::{Map, Value, json};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};

/// The header by which a sidecar says who called.
const CLIENT_CERTIFICATE: &str = "x-forwarded-client-cert";

/// Headers that a service must pass on for a trace to hold together.
const TRACE: [&str; 3] = ["traceparent", "tracestate", "x-request-id"];

/// How long a client may take for its request.
const HEAD_DEADLINE: Duration = Duration::from_secs(10);

/// Runs one until SIGTERM or SIGINT ends the process.
pub(crate) async fn run(app: App) -> std::io::Result<Outcome> {
    let application = Application::bind(&app.name, app.listen, app.upstream).await?;
    application.serve().await;
    Ok(Outcome::Done)
}

/// A demo service that is bound and answers nobody yet.
#[derive(Debug)]
pub(crate) struct Application {
    name: String,
    listener: TcpListener,
    address: SocketAddr,
    upstream: Option<SocketAddr>,
}

impl Application {
    /// Binds a service called `name`. With an upstream, it asks that before it answers.
    pub(crate) async fn bind(
        name: &str,
        address: SocketAddr,
        upstream: Option<SocketAddr>,
    ) -> std::io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        Ok(Self {
            name: name.to_owned(),
            address: listener.local_addr()?,
            listener,
            upstream,
        })
    }

    /// The bound address, port 0 resolved.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers until the future is dropped.
    pub(crate) async fn serve(self) {
        let who = Arc::new((self.name, self.upstream));
        loop {
            let stream = match self.listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "demo service could not accept");
                    // Out of file descriptors: without a pause, a busy loop.
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            tokio::spawn(converse(stream, Arc::clone(&who)));
        }
    }
}

async fn converse(stream: TcpStream, who: Arc<(String, Option<SocketAddr>)>) {
    let service = hyper::service::service_fn(move |request: Request<Incoming>| {
        let who = Arc::clone(&who);
        async move {
            let (name, upstream) = &*who;
            Ok::<_, std::convert::Infallible>(answer(name, *upstream, &request).await)
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_DEADLINE)
        .serve_connection(TokioIo::new(stream), service);
    if let Err(error) = connection.await {
        tracing::debug!(%error, "connection to demo service ended early");
    }
}

async fn answer<B>(
    name: &str,
    upstream: Option<SocketAddr>,
    request: &Request<B>,
) -> Response<Full<Bytes>> {
    let (status, further) = match upstream {
        None => (StatusCode::OK, None),
        Some(upstream) => match ask(upstream, request.headers()).await {
            Ok((status, document)) => (status, Some(document)),
            Err(error) => {
                let reason = Chain(&error).to_string();
                (StatusCode::BAD_GATEWAY, Some(json!({ "error": reason })))
            }
        },
    };
    let mut document = json!({
        "service": name,
        "caller": caller(request.headers()),
        "request": {
            "method": request.method().as_str(),
            "path": request.uri().path(),
            "headers": headers(request.headers()),
        },
    });
    if let Some(further) = further {
        document["upstream"] = further;
    }
    let mut response = Response::new(Full::from(format!("{document:#}\n")));
    *response.status_mut() = status;
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        http::HeaderValue::from_static("application/json"),
    );
    response
}

/// Asks the upstream, which is its sidecar's listener, within the same trace.
async fn ask(
    upstream: SocketAddr,
    incoming: &HeaderMap,
) -> Result<(StatusCode, Value), FetchError> {
    let mut headers = HeaderMap::new();
    for name in TRACE {
        if let Some(value) = incoming.get(name) {
            headers.insert(name, value.clone());
        }
    }
    let answer = fetch::get(upstream, "/", headers).await?;
    // What is no JSON is a proxy's own answer: `RBAC: access denied`.
    let document = serde_json::from_slice(&answer.body)
        .unwrap_or_else(|_| Value::from(String::from_utf8_lossy(&answer.body).trim()));
    Ok((answer.status, document))
}

/// The SPIFFE ID that the last certificate element names: our own sidecar adds at the end.
fn caller(headers: &HeaderMap) -> Option<String> {
    let element = headers.get_all(CLIENT_CERTIFICATE).iter().next_back()?;
    let element = element.to_str().ok()?.rsplit(',').next()?;
    let uri = element
        .split(';')
        .find_map(|pair| pair.trim().strip_prefix("URI="))?;
    Some(uri.to_owned())
}

/// Headers as a JSON object; several values of one name are joined by `, `.
fn headers(headers: &HeaderMap) -> Map<String, Value> {
    let mut object = Map::new();
    for name in headers.keys() {
        let values: Vec<_> = headers
            .get_all(name)
            .iter()
            .map(|value| String::from_utf8_lossy(value.as_bytes()))
            .collect();
        let value = values.join(", ");
        let value = match name.as_str() {
            CLIENT_CERTIFICATE => without_certificates(&value),
            _ => value,
        };
        object.insert(name.to_string(), value.into());
    }
    object
}

/// The header without its two kilobytes of certificates, which nobody reads.
fn without_certificates(header: &str) -> String {
    let pairs = header.split(';').map(|pair| match pair.split_once('=') {
        Some((key @ ("Cert" | "Chain"), _)) => format!("{key}=\"...\""),
        _ => pair.to_owned(),
    });
    pairs.collect::<Vec<_>>().join(";")
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn started(name: &str, upstream: Option<SocketAddr>) -> SocketAddr {
        let any = "127.0.0.1:0".parse().unwrap();
        let application = Application::bind(name, any, upstream).await.unwrap();
        let address = application.address();
        tokio::spawn(application.serve());
        address
    }

    #[tokio::test]
    async fn answers_with_what_the_upstream_saw() {
        let api = started("api", None).await;
        let web = started("web", Some(api)).await;
        let mut incoming = HeaderMap::new();
        incoming.insert("traceparent", "00-1-2-01".parse().unwrap());
        let (status, document) = ask(web, &incoming).await.unwrap();
        assert_eq!(status, StatusCode::OK);
        assert_eq!(document["service"], "web");
        assert_eq!(document["upstream"]["service"], "api");
        let headers = &document["upstream"]["request"]["headers"];
        assert_eq!(headers["traceparent"], "00-1-2-01");
    }

    #[tokio::test]
    async fn says_that_the_upstream_is_away() {
        let [nobody] = crate::ports::free().unwrap();
        let web = started("web", Some(nobody)).await;
        let (status, document) = ask(web, &HeaderMap::new()).await.unwrap();
        assert_eq!(status, StatusCode::BAD_GATEWAY);
        let reason = document["upstream"]["error"].as_str().unwrap();
        assert!(reason.starts_with("connect to "), "{reason}");
    }

    #[test]
    fn certificates_are_left_out_of_the_answer() {
        let header = "By=x;Hash=1;Cert=\"-----BEGIN%20\";Chain=\"-----BEGIN%20\";URI=y";
        let shown = without_certificates(header);
        assert_eq!(shown, "By=x;Hash=1;Cert=\"...\";Chain=\"...\";URI=y");
    }

    #[test]
    fn the_caller_is_the_uri_of_the_last_element() {
        let mut headers = HeaderMap::new();
        assert_eq!(caller(&headers), None);
        let both = "By=x;URI=spiffe://td/forged,By=y;Hash=1;Subject=\"\";URI=spiffe://td/true";
        headers.insert(CLIENT_CERTIFICATE, both.parse().unwrap());
        assert_eq!(caller(&headers).as_deref(), Some("spiffe://td/true"));
    }
}
