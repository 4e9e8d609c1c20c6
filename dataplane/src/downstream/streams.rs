//! The requests of an HTTP/2 connection: accepted until the client leaves, the
//! connection has been idle for too long, or is drained.

use super::PREFACE;
use super::deadline::Deadline;
use super::incoming::{Accepted, Incoming, Refused};
use crate::gather::{Gathered, gathered};
use bytes::Bytes;
use h2::server::{Builder, Connection};
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::time::Instant;

/// How many malformed requests a connection may carry before it is closed. Each costs
/// little; without a bound, a client could have us refuse for ever.
const MALFORMED: usize = 32;

/// What is granted to a connection.
pub(crate) struct Limits {
    /// Streams at a time.
    pub(crate) streams: u32,
    /// Bytes of a head, decoded.
    pub(crate) head_bytes: u32,
    /// How long there may be no stream.
    pub(crate) idle: Duration,
}

/// Held for as long as a request is served.
pub(crate) struct Serving(Arc<Load>);

/// The requests under way on a connection.
struct Load {
    count: AtomicUsize,
    began: Instant,
    /// When the last one ended, in nanoseconds behind `began`: a number, since a request takes no
    /// lock.
    idle_since: AtomicU64,
}

/// Hands each request to `serve`, until the connection ends.
pub(crate) async fn serve<S>(
    stream: S,
    limits: Limits,
    drain: watch::Receiver<bool>,
    serve: impl FnMut(Incoming, Serving),
) where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (stream, turns) = gathered(stream, PREFACE.len());
    turns.drive(accept(stream, limits, drain, serve)).await;
}

async fn accept<S>(
    stream: Gathered<S>,
    limits: Limits,
    mut drain: watch::Receiver<bool>,
    mut serve: impl FnMut(Incoming, Serving),
) where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut builder = Builder::new();
    builder
        .max_concurrent_streams(limits.streams)
        .max_header_list_size(limits.head_bytes);
    let mut connection = match builder.handshake(stream).await {
        Ok(connection) => connection,
        Err(error) => {
            tracing::debug!(%error, "a client's HTTP/2 preface failed");
            return;
        }
    };
    let mut malformed = 0;
    let mut idle = Idle::new(limits.idle);
    let mut told = pin!(drain.changed());
    let mut draining = false;
    loop {
        let accepted = tokio::select! {
            biased;
            _ = &mut told, if !draining => {
                connection.graceful_shutdown();
                draining = true;
                continue;
            }
            accepted = next(&mut connection, &mut idle, draining) => accepted,
        };
        match accepted.map(Incoming::http2) {
            Some(Ok(request)) => serve(request, idle.begin()),
            Some(Err(Refused)) => {
                malformed += 1;
                if malformed >= MALFORMED {
                    tracing::warn!("a client's connection is closed: too many malformed requests");
                    return;
                }
            }
            None => return,
        }
    }
}

/// The next stream; `None` at the end of the connection, be it that nobody used it.
async fn next<S>(
    connection: &mut Connection<Gathered<S>, Bytes>,
    idle: &mut Idle,
    draining: bool,
) -> Option<Accepted>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    poll_fn(|cx| match connection.poll_accept(cx) {
        Poll::Ready(Some(Ok(accepted))) => Poll::Ready(Some(accepted)),
        // Clients break connections off as they leave, which is no news.
        Poll::Ready(Some(Err(_)) | None) => Poll::Ready(None),
        // A client that was told to leave may take its time for what it has under way.
        Poll::Pending if draining => Poll::Pending,
        Poll::Pending => idle.poll_expired(cx).map(|()| None),
    })
    .await
}

/// How long nothing has been under way. Requests that come and go cost no timer work: it
/// rings as if there were none, and is wound again when it was wrong.
struct Idle {
    limit: Duration,
    load: Arc<Load>,
    timer: Deadline,
}

impl Idle {
    fn new(limit: Duration) -> Self {
        Self {
            limit,
            load: Arc::new(Load {
                count: AtomicUsize::new(0),
                began: Instant::now(),
                idle_since: AtomicU64::new(0),
            }),
            timer: Deadline::default(),
        }
    }

    fn begin(&self) -> Serving {
        self.load.count.fetch_add(1, Ordering::Relaxed);
        Serving(Arc::clone(&self.load))
    }

    fn poll_expired(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        // Looked at again when the limit has passed once more, if requests are under way.
        let since = match self.load.count.load(Ordering::Acquire) {
            0 => self.load.idle_since(),
            _ => Instant::now(),
        };
        self.timer.poll(cx, since + self.limit)
    }
}

impl Load {
    fn idle_since(&self) -> Instant {
        self.began + Duration::from_nanos(self.idle_since.load(Ordering::Relaxed))
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let load = &self.0;
        // Enough for centuries.
        let now = u64::try_from(load.began.elapsed().as_nanos()).unwrap_or(u64::MAX);
        load.idle_since.store(now, Ordering::Relaxed);
        load.count.fetch_sub(1, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::{Limits, MALFORMED, Serving, serve};
    use crate::downstream::Incoming;
    use bytes::Bytes;
    use h2::client::SendRequest;
    use http::Request;
    use std::time::Duration;
    use tokio::sync::{mpsc, watch};
    use tokio::task::JoinHandle;
    use tokio::time::Instant;

    const IDLE: Duration = Duration::from_secs(5);

    struct Stage {
        client: SendRequest<Bytes>,
        requests: mpsc::UnboundedReceiver<(Incoming, Serving)>,
        serving: JoinHandle<()>,
        drain: watch::Sender<bool>,
    }

    async fn stage() -> Stage {
        let (near, far) = tokio::io::duplex(64 * 1024);
        let (tell, requests) = mpsc::unbounded_channel();
        let (drain, drained) = watch::channel(false);
        let limits = Limits {
            streams: 100,
            head_bytes: 64 * 1024,
            idle: IDLE,
        };
        let serving = tokio::spawn(serve(near, limits, drained, move |request, serving| {
            tell.send((request, serving)).unwrap();
        }));
        let (client, connection) = h2::client::handshake(far).await.unwrap();
        tokio::spawn(connection);
        Stage {
            client,
            requests,
            serving,
            drain,
        }
    }

    fn get() -> Request<()> {
        Request::get("http://test/").body(()).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_ends_once_nothing_was_under_way_for_too_long() {
        let mut stage = stage().await;
        let (response, _) = stage.client.send_request(get(), true).unwrap();
        let (request, serving) = stage.requests.recv().await.unwrap();
        tokio::time::sleep(3 * IDLE).await;
        assert!(!stage.serving.is_finished());
        let ended = Instant::now();
        request.abort().await;
        drop(serving);
        assert!(response.await.is_err());
        stage.serving.await.unwrap();
        let waited = ended.elapsed();
        assert!((IDLE..IDLE * 2).contains(&waited), "{waited:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_drain_ends_the_connection_behind_its_last_request() {
        let mut stage = stage().await;
        let (response, _) = stage.client.send_request(get(), true).unwrap();
        let (request, _serving) = stage.requests.recv().await.unwrap();
        stage.drain.send(true).unwrap();
        tokio::time::sleep(3 * IDLE).await;
        assert!(!stage.serving.is_finished());
        request.abort().await;
        assert!(response.await.is_err());
        stage.serving.await.unwrap();
    }

    #[tokio::test]
    async fn malformed_requests_are_refused_until_there_are_too_many() {
        let mut stage = stage().await;
        for number in 1..=MALFORMED {
            let mut request = get();
            let other = http::HeaderValue::from_static("other");
            request.headers_mut().insert("host", other);
            let (response, _) = stage.client.send_request(request, true).unwrap();
            match response.await {
                Ok(response) => assert_eq!(response.status(), 400),
                Err(error) => assert!(number == MALFORMED, "{number}: {error}"),
            }
        }
        stage.serving.await.unwrap();
        assert!(stage.requests.recv().await.is_none());
    }
}
