//! An HTTP/1.1 origin that misbehaves when it is told to, and counts what it was
//! given meanwhile.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::client::loopback;

/// What it does with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mood {
    /// Answers 200 after a while.
    Slow(Duration),
    /// Takes the request and never answers.
    Hung,
    /// Takes the request and resets the connection.
    Resetting,
}

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nok\n";
const END_OF_HEAD: &[u8] = b"\r\n\r\n";

/// A running origin. It ends when dropped.
#[derive(Debug)]
pub struct Fickle {
    address: SocketAddr,
    mood: watch::Sender<Mood>,
    counts: Arc<Counts>,
    acceptor: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Counts {
    received: AtomicU64,
    spoiled: AtomicU64,
}

impl Fickle {
    /// Starts an origin that answers after `pause`; port 0 takes a free one.
    pub async fn start(port: u16, pause: Duration) -> Self {
        let listener = TcpListener::bind(loopback(port)).await.expect("a port");
        let address = listener.local_addr().expect("the address of a listener");
        let (mood, moods) = watch::channel(Mood::Slow(pause));
        let counts = Arc::new(Counts::default());
        let shared = Arc::clone(&counts);
        let acceptor = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (moods, counts) = (moods.clone(), Arc::clone(&shared));
                // A connection that the proxy cuts is no concern of the origin.
                tokio::spawn(async move { drop(serve(stream, &moods, &counts).await) });
            }
        });
        Self {
            address,
            mood,
            counts,
            acceptor,
        }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Behaves so from the next request on.
    pub fn turn(&self, mood: Mood) {
        self.mood.send_replace(mood);
    }

    /// Requests received so far.
    pub fn received(&self) -> u64 {
        self.counts.received.load(Ordering::Relaxed)
    }

    /// Those of them that got no answer by its own doing.
    pub fn spoiled(&self) -> u64 {
        self.counts.spoiled.load(Ordering::Relaxed)
    }
}

impl Drop for Fickle {
    fn drop(&mut self) {
        self.acceptor.abort();
    }
}

/// Requests without bodies, one after the other.
async fn serve(
    mut stream: TcpStream,
    moods: &watch::Receiver<Mood>,
    counts: &Counts,
) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut bytes = Vec::new();
    loop {
        let end = loop {
            let found = bytes
                .windows(END_OF_HEAD.len())
                .position(|window| window == END_OF_HEAD);
            if let Some(start) = found {
                break start + END_OF_HEAD.len();
            }
            if stream.read_buf(&mut bytes).await? == 0 {
                return Ok(());
            }
        };
        bytes.drain(..end);
        counts.received.fetch_add(1, Ordering::Relaxed);
        let mood = *moods.borrow();
        if !matches!(mood, Mood::Slow(_)) {
            counts.spoiled.fetch_add(1, Ordering::Relaxed);
        }
        match mood {
            Mood::Slow(pause) => {
                tokio::time::sleep(pause).await;
                stream.write_all(ANSWER).await?;
            }
            // Whoever waits gives up first.
            Mood::Hung => while stream.read_buf(&mut bytes).await? > 0 {},
            Mood::Resetting => return stream.set_zero_linger(),
        }
        if mood == Mood::Hung {
            return Ok(());
        }
    }
}
