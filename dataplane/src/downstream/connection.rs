//! What is known of one client's connection, shared by all that serve it.

use super::violation::Violation;
use crate::listener::ListenerHandle;
use crate::tls::PeerCertificate;
use futures::task::AtomicWaker;
use http::HeaderValue;
use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::Waker;
use tokio::sync::Notify;
use tokio::time::Instant;

/// One client's connection.
pub struct Connection<A> {
    /// The listener it came through, with its newest state.
    pub listener: Arc<ListenerHandle<A>>,
    /// The client's address; `None` on a Unix socket.
    pub peer_address: Option<SocketAddr>,
    /// The address that the client connected to; `None` on a Unix socket.
    pub local_address: Option<SocketAddr>,
    /// The name that chose what the connection is served with, in lower case, on listeners
    /// that choose by it.
    pub chosen_by: Option<Arc<str>>,
    /// What TLS agreed on; `None` in plain text.
    pub tls: Option<TlsFacts>,
    /// When it was accepted.
    pub accepted: Instant,
    /// Our element of `x-forwarded-client-cert`, made at the first request that needs it.
    pub xfcc: OnceLock<HeaderValue>,
    forwarded_for: OnceLock<Option<HeaderValue>>,
    flow: Flow,
}

/// What TLS agreed on.
#[derive(Debug, Clone)]
pub struct TlsFacts {
    /// `TLSv1_3`, as rustls names it.
    pub version: &'static str,
    /// The cipher suite, as rustls names it.
    pub cipher: &'static str,
    /// The name that the client asked for.
    pub sni: Option<Arc<str>>,
    /// Whether ALPN chose HTTP/2; `None` without ALPN.
    pub http2: Option<bool>,
    /// Who the client is, on mesh listeners.
    pub peer: Option<PeerCertificate>,
}

/// Signals between the stream, the application and the control side.
#[derive(Debug)]
struct Flow {
    violation: OnceLock<Violation>,
    request_open: AtomicBool,
    upgraded: AtomicBool,
    draining: AtomicBool,
    /// The task that reads, where it waits for the next request.
    reader: AtomicWaker,
    closing: AtomicBool,
    close: Notify,
}

impl<A> Connection<A> {
    pub(crate) fn new(
        listener: Arc<ListenerHandle<A>>,
        addresses: [Option<SocketAddr>; 2],
        accepted: Instant,
        chosen_by: Option<Arc<str>>,
        tls: Option<TlsFacts>,
    ) -> Self {
        let [peer_address, local_address] = addresses;
        Self {
            listener,
            peer_address,
            local_address,
            chosen_by,
            tls,
            accepted,
            xfcc: OnceLock::new(),
            forwarded_for: OnceLock::new(),
            flow: Flow {
                violation: OnceLock::new(),
                request_open: AtomicBool::new(false),
                upgraded: AtomicBool::new(false),
                draining: AtomicBool::new(false),
                reader: AtomicWaker::new(),
                closing: AtomicBool::new(false),
                close: Notify::new(),
            },
        }
    }

    /// The client's address alone, as `x-forwarded-for` has it; made at the first request that
    /// needs it. `None` on a Unix socket.
    pub fn forwarded_for(&self) -> Option<&HeaderValue> {
        let made = || HeaderValue::from_str(&self.peer_address?.ip().to_string()).ok();
        self.forwarded_for.get_or_init(made).as_ref()
    }

    /// Who the client is, on mesh listeners.
    pub fn peer(&self) -> Option<&PeerCertificate> {
        self.tls.as_ref()?.peer.as_ref()
    }

    /// What the client did wrong. A request that has one is answered with its
    /// status, without looking at the request: its head is a stand-in.
    pub fn violation(&self) -> Option<Violation> {
        self.flow.violation.get().copied()
    }

    /// Tells the stream that the HTTP/1 response has been written: the next
    /// head may be read, and the idle deadline runs. The application must call
    /// it before it gives a session back for reuse.
    pub fn request_finished(&self) {
        self.flow.request_open.store(false, Ordering::Relaxed);
    }

    /// Tells the stream that the bytes behind this request are of another
    /// protocol, after a 101: no rule of HTTP/1 holds for them.
    pub fn upgraded(&self) {
        self.flow.upgraded.store(true, Ordering::Relaxed);
    }

    /// Closes the connection now, requests under way or not. For peers that
    /// have lost their permission.
    pub fn close(&self) {
        self.flow.closing.store(true, Ordering::Release);
        self.flow.close.notify_waiters();
    }

    /// Returns once [`Connection::close`] has been called.
    pub async fn closed(&self) {
        // Made before the look: a close in between still wakes it.
        let told = self.flow.close.notified();
        if !self.flow.closing.load(Ordering::Acquire) {
            told.await;
        }
    }

    pub(super) fn record(&self, violation: Violation) {
        // The first violation counts; none follows on a connection.
        let _ = self.flow.violation.set(violation);
    }

    pub(super) fn request_started(&self) {
        self.flow.request_open.store(true, Ordering::Relaxed);
    }

    pub(super) fn request_is_open(&self) -> bool {
        self.flow.request_open.load(Ordering::Relaxed)
    }

    pub(super) fn is_upgraded(&self) -> bool {
        self.flow.upgraded.load(Ordering::Relaxed)
    }

    /// Ends the connection where it next waits for a request.
    pub(crate) fn drain(&self) {
        self.flow.draining.store(true, Ordering::Release);
        self.flow.reader.wake();
    }

    /// Whether the connection should end after the request under way.
    pub(crate) fn is_draining(&self) -> bool {
        self.flow.draining.load(Ordering::Acquire)
    }

    /// Whether the connection should end, or else wakes `waker` when it should.
    pub(super) fn is_draining_or_wake(&self, waker: &Waker) -> bool {
        self.flow.reader.register(waker);
        self.flow.draining.load(Ordering::Acquire)
    }
}

impl<A> fmt::Debug for Connection<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("listener", self.listener.name())
            .field("peer_address", &self.peer_address)
            .field("tls", &self.tls)
            .finish_non_exhaustive()
    }
}
