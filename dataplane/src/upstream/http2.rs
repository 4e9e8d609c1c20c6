//! An HTTP/2 connection to an endpoint: a task of its own moves its bytes, and
//! any number of holders open streams on it.

use super::io::UpstreamIo;
use crate::gather::gathered;
use bytes::Bytes;
use h2::client::{Builder, SendRequest};
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Streams on one connection before another is made; the least that RFC 9113
/// recommends servers to allow.
const STREAMS: usize = 100;

/// Receive windows. A slow client may make us hold a whole window for it.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 4 << 20;

/// Frames of a bulk response, each read and passed on at once.
const FRAME: u32 = 64 << 10;

/// A connection as one of its holders has it. It ends once all are gone.
#[derive(Clone)]
pub(crate) struct Connection {
    opener: SendRequest<Bytes>,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    streams: AtomicUsize,
    /// The upstream takes no more streams.
    retired: AtomicBool,
    closed: AtomicBool,
}

/// Leave for one stream of a connection.
pub(crate) struct Slot {
    /// Opens the stream.
    pub(crate) opener: SendRequest<Bytes>,
    state: Arc<State>,
}

impl Connection {
    /// Speaks first, and starts the task that moves the bytes on this worker.
    pub(crate) async fn open(io: UpstreamIo) -> Result<Self, h2::Error> {
        let mut builder = Builder::new();
        builder
            .enable_push(false)
            .initial_max_send_streams(STREAMS)
            .max_frame_size(FRAME)
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW);
        let (io, turns) = gathered(io, 0);
        let (opener, moving) = builder.handshake(io).await?;
        let state = Arc::new(State::default());
        let moved = Arc::clone(&state);
        tokio::spawn(async move {
            if let Err(error) = turns.drive(moving).await {
                tracing::debug!(%error, "HTTP/2 connection to an upstream broke");
            }
            moved.closed.store(true, Ordering::Relaxed);
        });
        Ok(Self { opener, state })
    }

    /// Whether it can carry no stream any more, nor those that it has.
    pub(crate) fn is_closed(&self) -> bool {
        self.state.closed.load(Ordering::Relaxed)
    }

    /// Whether it carries nothing.
    pub(crate) fn is_idle(&self) -> bool {
        self.state.streams.load(Ordering::Relaxed) == 0
    }

    /// Whether it takes no further stream, now or ever.
    pub(crate) fn is_retired(&self) -> bool {
        self.is_closed() || self.state.retired.load(Ordering::Relaxed)
    }

    /// Whether another stream has room.
    pub(crate) fn has_room(&self) -> bool {
        let limit = self.opener.current_max_send_streams().min(STREAMS);
        self.state.streams.load(Ordering::Relaxed) < limit && !self.is_retired()
    }

    /// Leave for a stream; `None` where the connection has no room. After an error
    /// it takes no more, ever.
    pub(crate) async fn slot(&self) -> Result<Option<Slot>, h2::Error> {
        let mut slot = Slot {
            opener: self.opener.clone(),
            state: Arc::clone(&self.state),
        };
        if self.state.streams.fetch_add(1, Ordering::Relaxed) >= STREAMS {
            return Ok(None);
        }
        let ready = poll_fn(|cx| slot.opener.poll_ready(cx)).await;
        if ready.is_err() {
            // Whoever looks next sees the mark, and makes another connection.
            self.state.retired.store(true, Ordering::Relaxed);
        }
        ready.map(|()| Some(slot))
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.state.streams.fetch_sub(1, Ordering::Relaxed);
    }
}
