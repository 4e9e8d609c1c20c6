//! An HTTP/2 client, in plain text or over TLS.

use crate::client::Io;
use crate::http2_origin::{drain, send};
use crate::soon;
use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::{RecvStream, SendStream};
use http::{HeaderMap, Request, Response};
use std::net::SocketAddr;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

pub(crate) struct Http2Client {
    requests: SendRequest<Bytes>,
    /// Ends with the connection.
    pub(crate) connection: JoinHandle<Result<(), h2::Error>>,
}

/// A response that was read to its end.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) head: Response<()>,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Option<HeaderMap>,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.headers().get(name)?.to_str().ok()
    }

    pub(crate) fn trailer(&self, name: &str) -> Option<&str> {
        self.trailers.as_ref()?.get(name)?.to_str().ok()
    }
}

impl Http2Client {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        Self::over(TcpStream::connect(address).await.unwrap()).await
    }

    pub(crate) async fn over(stream: impl Io + 'static) -> Self {
        let (requests, connection) = soon("a preface", h2::client::handshake(stream))
            .await
            .unwrap();
        Self {
            requests,
            connection: tokio::spawn(connection),
        }
    }

    /// Opens a stream.
    pub(crate) async fn open(
        &mut self,
        request: Request<()>,
        end: bool,
    ) -> (ResponseFuture, SendStream<Bytes>) {
        let mut ready = soon("a free stream", self.requests.clone().ready())
            .await
            .unwrap();
        ready.send_request(request, end).unwrap()
    }

    /// Sends a request with a body and reads the whole answer.
    pub(crate) async fn call(&mut self, request: Request<()>, body: &[u8]) -> Answer {
        let (response, mut out) = self.open(request, body.is_empty()).await;
        if !body.is_empty() {
            soon("sending", send(&mut out, Bytes::copy_from_slice(body))).await;
            out.send_data(Bytes::new(), true).unwrap();
        }
        finish(response).await.unwrap()
    }
}

/// Reads an answer to its end.
pub(crate) async fn finish(response: ResponseFuture) -> Result<Answer, h2::Error> {
    let (head, mut body) = soon("a response", response).await?.into_parts();
    let bytes = soon("a body", drain(&mut body)).await;
    let trailers = trailers(&mut body).await;
    Ok(Answer {
        head: Response::from_parts(head, ()),
        body: bytes,
        trailers,
    })
}

pub(crate) async fn trailers(body: &mut RecvStream) -> Option<HeaderMap> {
    soon("trailers", body.trailers()).await.unwrap()
}

pub(crate) fn request(method: &str, path: &str) -> Request<()> {
    Request::builder()
        .method(method)
        .uri(format!("http://test{path}"))
        .body(())
        .unwrap()
}

/// A gRPC call's head.
pub(crate) fn grpc(path: &str) -> Request<()> {
    let mut request = request("POST", path);
    let headers = request.headers_mut();
    headers.insert("content-type", "application/grpc".parse().unwrap());
    headers.insert("te", "trailers".parse().unwrap());
    request
}
