//! HTTP clients that show everything a reply carries, and gRPC on top of them.

pub mod grpc;

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::uri::Authority;
use http::{HeaderMap, Method, Request, Response, StatusCode, Version};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::convert::Infallible;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// What went wrong, whichever layer it was.
pub type Error = Box<dyn std::error::Error + Send + Sync>;

/// Body of a request.
pub type Body = BoxBody<Bytes, Infallible>;

/// Longest wait for one complete reply: more than any proxy under test allows itself.
pub const REPLY: Duration = Duration::from_secs(20);

/// Version spoken on a connection; HTTP/2 by prior knowledge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2 without negotiation.
    Http2,
}

/// A reply, complete.
#[derive(Debug)]
pub struct Reply {
    /// Status.
    pub status: StatusCode,
    /// Version.
    pub version: Version,
    /// Headers.
    pub headers: HeaderMap,
    /// Body.
    pub body: Bytes,
    /// Trailers; empty when there were none.
    pub trailers: HeaderMap,
}

impl Reply {
    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    async fn collect(response: Response<Incoming>) -> Result<Self, Error> {
        let (head, body) = response.into_parts();
        let collected = body.collect().await?;
        let trailers = collected.trailers().cloned().unwrap_or_default();
        Ok(Self {
            status: head.status,
            version: head.version,
            headers: head.headers,
            body: collected.to_bytes(),
            trailers,
        })
    }
}

/// One client connection.
#[derive(Debug)]
pub struct Connection {
    sender: Sender,
    authority: Authority,
}

#[derive(Debug)]
enum Sender {
    Http1(http1::SendRequest<Body>),
    Http2(http2::SendRequest<Body>),
}

impl Connection {
    /// Connects; `address` is also the authority of the requests.
    pub async fn open(address: SocketAddr, protocol: Protocol) -> Result<Self, Error> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Self::over(stream, protocol, address.to_string().parse()?).await
    }

    /// Speaks HTTP on a stream that is open already.
    pub async fn over(
        stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
        protocol: Protocol,
        authority: Authority,
    ) -> Result<Self, Error> {
        let io = TokioIo::new(stream);
        // How a connection ends is seen by the request that it carries.
        let sender = match protocol {
            Protocol::Http1 => {
                let (sender, connection) = http1::handshake(io).await?;
                tokio::spawn(async { drop(connection.await) });
                Sender::Http1(sender)
            }
            Protocol::Http2 => {
                let (sender, connection) = http2::handshake(TokioExecutor::new(), io).await?;
                tokio::spawn(async { drop(connection.await) });
                Sender::Http2(sender)
            }
        };
        Ok(Self { sender, authority })
    }

    /// Sends another authority from now on.
    #[must_use]
    pub fn authority(mut self, authority: &str) -> Self {
        self.authority = authority.parse().expect("an authority");
        self
    }

    /// Has the peer ended the connection, or will it take no more requests?
    pub fn is_closed(&self) -> bool {
        match &self.sender {
            Sender::Http1(sender) => sender.is_closed(),
            Sender::Http2(sender) => sender.is_closed(),
        }
    }

    /// A GET without more.
    pub async fn get(&mut self, path: &str) -> Result<Reply, Error> {
        self.send(Request::get(path).body(empty())?).await
    }

    /// Sends a request whose URI is a path, and reads the whole reply.
    pub async fn send(&mut self, request: Request<Body>) -> Result<Reply, Error> {
        timeout(REPLY, async {
            Reply::collect(self.begin(request).await?).await
        })
        .await
        .map_err(|_| format!("no complete reply within {REPLY:?}"))?
    }

    /// Sends a request and returns with the head of the reply.
    pub async fn begin(&mut self, mut request: Request<Body>) -> Result<Response<Incoming>, Error> {
        let path = request
            .uri()
            .path_and_query()
            .map_or("/", |path| path.as_str());
        match &mut self.sender {
            Sender::Http1(sender) => {
                if !request.headers().contains_key(http::header::HOST) {
                    let host = self.authority.as_str().parse()?;
                    request.headers_mut().insert(http::header::HOST, host);
                }
                sender.ready().await?;
                Ok(sender.send_request(request).await?)
            }
            Sender::Http2(sender) => {
                *request.uri_mut() = format!("http://{}{path}", self.authority).parse()?;
                *request.version_mut() = Version::HTTP_2;
                sender.ready().await?;
                Ok(sender.send_request(request).await?)
            }
        }
    }
}

/// One request on a connection of its own.
pub async fn once(
    address: SocketAddr,
    protocol: Protocol,
    method: Method,
    path: &str,
    body: String,
) -> Result<Reply, Error> {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .body(full(body))?;
    Connection::open(address, protocol)
        .await?
        .send(request)
        .await
}

/// A GET on a connection of its own, to a port of the loopback interface.
pub async fn get(port: u16, protocol: Protocol, path: &str) -> Result<Reply, Error> {
    once(loopback(port), protocol, Method::GET, path, String::new()).await
}

/// 127.0.0.1 with a port.
pub fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

/// No body.
pub fn empty() -> Body {
    full("")
}

/// A body of known length.
pub fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).boxed()
}
