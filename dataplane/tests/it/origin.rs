//! HTTP/1.1 origins that keep the bytes they were sent, and a TCP echo.

use crate::client::find;
use crate::{soon, until};
use std::future::Future;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What an origin was sent.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    /// Request line and header lines as they came.
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Seen {
    pub(crate) fn line(&self) -> &str {
        self.head.lines().next().unwrap()
    }

    pub(crate) fn path(&self) -> &str {
        self.line().split(' ').nth(1).unwrap()
    }

    /// All values of a header, in order.
    pub(crate) fn values(&self, name: &str) -> Vec<&str> {
        self.head
            .lines()
            .skip(1)
            .filter_map(|line| line.split_once(':'))
            .filter(|(other, _)| other.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.trim())
            .collect()
    }
}

#[derive(Clone)]
pub(crate) struct Origin {
    pub(crate) address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    opened: Arc<AtomicUsize>,
    closed: Arc<AtomicUsize>,
}

/// One connection of an origin.
pub(crate) struct Incoming {
    pub(crate) stream: TcpStream,
    pub(crate) buffer: Vec<u8>,
    /// Which of the origin's connections it is, counted from 0.
    pub(crate) number: usize,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Origin {
    /// Answers each request with what `answer` makes of it, and keeps connections open.
    pub(crate) async fn answering(
        answer: impl Fn(&Seen) -> Vec<u8> + Send + Sync + 'static,
    ) -> Self {
        let answer = Arc::new(answer);
        Self::serving(move |mut incoming| {
            let answer = Arc::clone(&answer);
            async move {
                while let Some(seen) = incoming.request().await {
                    let bytes = answer(&seen);
                    if incoming.stream.write_all(&bytes).await.is_err() {
                        return;
                    }
                }
            }
        })
        .await
    }

    /// Answers 200 with `ok`.
    pub(crate) async fn ok() -> Self {
        Self::answering(|_| response(200, "ok")).await
    }

    /// Takes requests, and never answers.
    pub(crate) async fn silent() -> Self {
        Self::serving(|mut incoming| async move { while incoming.request().await.is_some() {} })
            .await
    }

    /// Serves each connection as `serve` says.
    pub(crate) async fn serving<F: Future<Output = ()> + Send + 'static>(
        serve: impl Fn(Incoming) -> F + Send + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let origin = Self {
            address: listener.local_addr().unwrap(),
            seen: Arc::default(),
            opened: Arc::default(),
            closed: Arc::default(),
        };
        let shared = origin.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                stream.set_nodelay(true).unwrap();
                let serving = serve(Incoming {
                    stream,
                    buffer: Vec::new(),
                    number: shared.opened.fetch_add(1, Ordering::SeqCst),
                    seen: Arc::clone(&shared.seen),
                });
                let closed = Arc::clone(&shared.closed);
                tokio::spawn(async move {
                    serving.await;
                    closed.fetch_add(1, Ordering::SeqCst);
                });
            }
        });
        origin
    }

    /// Echoes bytes, and an end when it reads one.
    pub(crate) async fn echo() -> Self {
        Self::serving(|incoming| async move {
            let (mut read, mut write) = incoming.stream.into_split();
            // A reset ends it like anything else.
            let _ = tokio::io::copy(&mut read, &mut write).await;
        })
        .await
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// The only request there was.
    pub(crate) fn only(&self) -> Seen {
        let seen = self.seen();
        assert_eq!(seen.len(), 1, "{seen:?}");
        seen.into_iter().next().unwrap()
    }

    /// How many connections were accepted.
    pub(crate) fn connections(&self) -> usize {
        self.opened.load(Ordering::SeqCst)
    }

    /// Waits until so many connections have ended.
    pub(crate) async fn has_closed(&self, count: usize) {
        until("the upstream connection to end", || {
            self.closed.load(Ordering::SeqCst) == count
        })
        .await;
    }

    /// Waits until so many requests have come.
    pub(crate) async fn has_seen(&self, count: usize) {
        until("requests at the origin", || self.seen().len() >= count).await;
    }
}

impl Incoming {
    /// The next request, body and all; `None` at the end of the connection.
    pub(crate) async fn request(&mut self) -> Option<Seen> {
        let head = self.head().await?;
        let lower = head.to_ascii_lowercase();
        let mut seen = Seen {
            head,
            body: Vec::new(),
        };
        if let Some(length) = seen.values("content-length").first() {
            let length = length.parse().unwrap();
            seen.body = self.take(length).await?;
        } else if lower.contains("transfer-encoding: chunked") {
            while let Some(chunk) = self.chunk().await? {
                seen.body.extend(chunk);
            }
        }
        self.seen.lock().unwrap().push(seen.clone());
        Some(seen)
    }

    /// A request's head.
    pub(crate) async fn head(&mut self) -> Option<String> {
        let end = loop {
            if let Some(end) = find(&self.buffer, b"\r\n\r\n") {
                break end;
            }
            self.fill().await?;
        };
        Some(String::from_utf8(self.buffer.drain(..end + 4).collect()).unwrap())
    }

    /// The next chunk; `Some(None)` for the last.
    pub(crate) async fn chunk(&mut self) -> Option<Option<Vec<u8>>> {
        let end = loop {
            if let Some(end) = find(&self.buffer, b"\r\n") {
                break end;
            }
            self.fill().await?;
        };
        let line = String::from_utf8(self.buffer.drain(..end + 2).collect()).unwrap();
        let size = usize::from_str_radix(line.trim_end(), 16).unwrap();
        let mut chunk = self.take(size + 2).await?;
        chunk.truncate(size);
        Some((size > 0).then_some(chunk))
    }

    pub(crate) async fn take(&mut self, count: usize) -> Option<Vec<u8>> {
        while self.buffer.len() < count {
            self.fill().await?;
        }
        Some(self.buffer.drain(..count).collect())
    }

    pub(crate) async fn write(&mut self, bytes: impl AsRef<[u8]>) {
        // Who has gone needs no answer; the test looks elsewhere.
        let _ = self.stream.write_all(bytes.as_ref()).await;
    }

    /// Waits until the other side ends, in whatever way.
    pub(crate) async fn until_closed(&mut self) {
        soon("the other side to close", async {
            while self.fill().await.is_some() {}
        })
        .await;
    }

    async fn fill(&mut self) -> Option<()> {
        match self.stream.read_buf(&mut self.buffer).await {
            Ok(read) if read > 0 => Some(()),
            _ => None,
        }
    }
}

/// A response with a length.
pub(crate) fn response(status: u16, body: &str) -> Vec<u8> {
    format!(
        "HTTP/1.1 {status} X\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// An address where nobody listens.
pub(crate) async fn nowhere() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap()
}
