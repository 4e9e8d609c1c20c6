//! One HTTP request on a connection of its own.

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::rt::TokioIo;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::TcpStream;

/// Bytes of an answer: a JSON document or two.
const ANSWER: usize = 64 * 1024;

/// How long an answer may take. Longer than any hiccup of a laptop, shorter than
/// the gateway's own 15 s, so that it shows which part was slow.
const DEADLINE: Duration = Duration::from_secs(5);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FetchError {
    #[error("connect to {address}")]
    Connect {
        address: SocketAddr,
        #[source]
        source: std::io::Error,
    },
    #[error("ask {address}")]
    Ask {
        address: SocketAddr,
        #[source]
        source: hyper::Error,
    },
    #[error("read the answer of {address}")]
    Read {
        address: SocketAddr,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    #[error("{address} did not answer within {DEADLINE:?}")]
    Deadline { address: SocketAddr },
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) body: Bytes,
}

/// `GET path` with these headers; `Host` is the address.
pub(crate) async fn get(
    address: SocketAddr,
    path: &'static str,
    headers: HeaderMap,
) -> Result<Answer, FetchError> {
    tokio::time::timeout(DEADLINE, ask(address, path, headers))
        .await
        .unwrap_or(Err(FetchError::Deadline { address }))
}

async fn ask(
    address: SocketAddr,
    path: &'static str,
    headers: HeaderMap,
) -> Result<Answer, FetchError> {
    let stream = TcpStream::connect(address)
        .await
        .map_err(|source| FetchError::Connect { address, source })?;
    let failed = |source| FetchError::Ask { address, source };
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(failed)?;
    // Errors of the connection come out of the request, too.
    drop(tokio::spawn(connection));
    let mut request = Request::new(Empty::<Bytes>::new());
    *request.uri_mut() = http::Uri::from_static(path);
    *request.headers_mut() = headers;
    if let Ok(host) = address.to_string().parse() {
        // An address is always a good header value.
        request.headers_mut().insert(header::HOST, host);
    }
    let response = sender.send_request(request).await.map_err(failed)?;
    let status = response.status();
    let body = Limited::new(response.into_body(), ANSWER)
        .collect()
        .await
        .map_err(|source| FetchError::Read { address, source })?
        .to_bytes();
    Ok(Answer { status, body })
}
