//! An HTTP/1.1 client that sends the very bytes it is given.

use crate::soon;
use rustls::ClientConfig;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

pub(crate) trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

pub(crate) struct Client {
    pub(crate) stream: Box<dyn Io>,
    buffer: Vec<u8>,
}

#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    /// Names in lower case, in the order of the wire.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Response {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.headers.iter();
        headers
            .find(|(other, _)| other == name)
            .map(|(_, value)| value.as_str())
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }
}

/// TLS over TCP.
pub(crate) async fn tls(address: SocketAddr, config: ClientConfig, name: &'static str) -> impl Io {
    let connector = TlsConnector::from(Arc::new(config));
    let stream = TcpStream::connect(address).await.unwrap();
    let name = name.try_into().unwrap();
    soon("a handshake", connector.connect(name, stream))
        .await
        .unwrap()
}

/// One request on a connection of its own.
pub(crate) async fn get(address: SocketAddr, path: &str) -> Response {
    let mut client = Client::connect(address).await;
    client.get(path).await
}

impl Client {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self::over(stream)
    }

    pub(crate) fn over(stream: impl Io + 'static) -> Self {
        Self {
            stream: Box::new(stream),
            buffer: Vec::new(),
        }
    }

    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        soon("sending", self.stream.write_all(bytes.as_ref()))
            .await
            .unwrap();
        self.stream.flush().await.unwrap();
    }

    pub(crate) async fn get(&mut self, path: &str) -> Response {
        self.send(format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n"))
            .await;
        self.response().await
    }

    pub(crate) async fn response(&mut self) -> Response {
        let mut response = self.head().await;
        if !matches!(response.status, 100..=199 | 204 | 304) {
            response.body = soon("a body", self.body(&response)).await;
        }
        response
    }

    /// A head alone; its body, if any, is left to be read.
    pub(crate) async fn head(&mut self) -> Response {
        let end = soon("a head", async {
            loop {
                if let Some(end) = find(&self.buffer, b"\r\n\r\n") {
                    return end;
                }
                assert!(self.fill().await, "closed before a head");
            }
        })
        .await;
        let head = String::from_utf8(self.buffer.drain(..end + 4).collect()).unwrap();
        let mut lines = head.trim_end().split("\r\n");
        let status = lines.next().unwrap().split(' ').nth(1).unwrap();
        Response {
            status: status.parse().unwrap(),
            headers: lines
                .map(|line| line.split_once(':').unwrap())
                .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
                .collect(),
            body: Vec::new(),
        }
    }

    async fn body(&mut self, head: &Response) -> Vec<u8> {
        if let Some(length) = head.header("content-length") {
            return self.take(length.parse().unwrap()).await;
        }
        let mut body = Vec::new();
        if head.header("transfer-encoding") == Some("chunked") {
            while let Some(chunk) = self.chunk().await {
                body.extend(chunk);
            }
            return body;
        }
        while self.fill().await {}
        std::mem::take(&mut self.buffer)
    }

    /// The next chunk; `None` for the last.
    pub(crate) async fn chunk(&mut self) -> Option<Vec<u8>> {
        let line = loop {
            if let Some(end) = find(&self.buffer, b"\r\n") {
                break String::from_utf8(self.buffer.drain(..end + 2).collect()).unwrap();
            }
            assert!(self.fill().await, "closed within a chunked body");
        };
        let size = usize::from_str_radix(line.trim_end(), 16).unwrap();
        let mut chunk = self.take(size + 2).await;
        chunk.truncate(size);
        (size > 0).then_some(chunk)
    }

    /// So many bytes.
    pub(crate) async fn take(&mut self, count: usize) -> Vec<u8> {
        soon("bytes", async {
            while self.buffer.len() < count {
                let have = self.buffer.len();
                assert!(self.fill().await, "closed after {have} of {count} bytes");
            }
        })
        .await;
        self.buffer.drain(..count).collect()
    }

    /// Everything up to an orderly end. A reset fails the test.
    pub(crate) async fn rest(&mut self) -> Vec<u8> {
        soon("the end", async { while self.fill().await {} }).await;
        std::mem::take(&mut self.buffer)
    }

    async fn fill(&mut self) -> bool {
        self.stream.read_buf(&mut self.buffer).await.unwrap() > 0
    }
}

pub(crate) fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes
        .windows(wanted.len())
        .position(|window| window == wanted)
}
