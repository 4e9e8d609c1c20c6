//! What Pingora asks of a stream besides its bytes.

use super::Downstream;
use super::reader::Phase;
use async_trait::async_trait;
use pingora_core::protocols::raw_connect::ProxyDigest;
use pingora_core::protocols::{
    GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl,
    TimingDigest, UniqueID, UniqueIDType,
};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// How long unread bytes of a client are thrown away before the socket is
/// closed. Closing over unread bytes sends a reset, which can overtake the
/// response that says why (RFC 9112, 9.6).
const LINGER: Duration = Duration::from_secs(1);

/// How many of them: more than a head that is too large by far.
const LINGER_BYTES: usize = 1024 * 1024;

#[async_trait]
impl<A: Send + Sync + 'static> Shutdown for Downstream<A> {
    async fn shutdown(&mut self) {
        // A client that is gone needs no farewell.
        if AsyncWriteExt::shutdown(self).await.is_ok() && self.may_have_unread() {
            // Whether it ends by the client's close or by the deadline is the same to us.
            let _ = tokio::time::timeout(LINGER, self.discard()).await;
        }
    }
}

impl<A> Downstream<A> {
    /// Whether bytes of the client may lie in the socket: the rest of a head or
    /// a body that was answered without it.
    fn may_have_unread(&self) -> bool {
        let within_body = self.phase == Phase::Http1 && !self.guard.expects_head();
        within_body || self.connection.violation().is_some()
    }

    async fn discard(&mut self) {
        let mut scratch = [0; 4096];
        let mut left = LINGER_BYTES;
        while let Ok(read) = self.wire.read(&mut scratch).await
            && read > 0
            && left > read
        {
            left -= read;
        }
    }
}

impl<A> UniqueID for Downstream<A> {
    fn id(&self) -> UniqueIDType {
        self.wire.as_raw_fd()
    }
}

// Nobody asks: what the proxy wants to know of a connection is in its `Connection`.
impl<A> Ssl for Downstream<A> {}

#[async_trait]
impl<A: Send + Sync + 'static> Peek for Downstream<A> {}

impl<A> GetTimingDigest for Downstream<A> {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        Vec::new()
    }
}

impl<A> GetProxyDigest for Downstream<A> {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        None
    }
}

impl<A> GetSocketDigest for Downstream<A> {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        None
    }
}
