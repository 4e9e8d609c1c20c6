//! A server that answers what it was told to, and remembers what it was asked.

use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// Long enough for a loaded machine, short enough to notice a hang.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct Scripted {
    pub(crate) address: SocketAddr,
    asked: JoinHandle<String>,
}

impl Scripted {
    /// Answers one request with `status` and `body`.
    pub(crate) async fn answering(status: &str, body: &str) -> Self {
        let answer = format!(
            "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        );
        Self::raw(answer.into_bytes()).await
    }

    /// Answers one request with these bytes, and closes.
    pub(crate) async fn raw(answer: Vec<u8>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let asked = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let asked = request(&mut stream).await;
            stream.write_all(&answer).await.unwrap();
            asked
        });
        Self { address, asked }
    }

    pub(crate) fn client(&self) -> crate::Client {
        crate::Client::new(&format!("http://{}", self.address), Some("t0ken")).unwrap()
    }

    /// The request, head and body.
    pub(crate) async fn asked(self) -> String {
        tokio::time::timeout(PATIENCE, self.asked)
            .await
            .expect("a request in time")
            .unwrap()
    }
}

async fn request(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    loop {
        let mut chunk = [0; 4096];
        let read = stream.read(&mut chunk).await.unwrap();
        bytes.extend_from_slice(&chunk[..read]);
        let text = String::from_utf8_lossy(&bytes).to_lowercase();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head
                .lines()
                .find_map(|line| line.strip_prefix("content-length: "))
                .map_or(0, |length| length.parse().unwrap());
            if body.len() >= length {
                return String::from_utf8(bytes).unwrap();
            }
        }
        assert_ne!(read, 0, "the request ended early");
    }
}
