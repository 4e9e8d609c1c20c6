//! The byte stream to an endpoint: TCP or unix socket, with or without TLS,
//! in the shape that pingora's HTTP sessions and the TCP relay both take.

use async_trait::async_trait;
use pingora_core::protocols::raw_connect::ProxyDigest;
use pingora_core::protocols::{
    GetProxyDigest, GetSocketDigest, GetTimingDigest, Peek, Shutdown, SocketDigest, Ssl,
    TimingDigest, UniqueID, UniqueIDType,
};
use std::io;
use std::os::fd::AsRawFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::client::TlsStream;

/// An established connection to an endpoint.
#[derive(Debug)]
pub(crate) struct UpstreamIo {
    transport: Transport,
    id: UniqueIDType,
}

#[derive(Debug)]
enum Transport {
    Tcp(TcpStream),
    Unix(UnixStream),
    Tls(Box<TlsStream<TcpStream>>),
    TlsUnix(Box<TlsStream<UnixStream>>),
}

impl UpstreamIo {
    pub(crate) fn tcp(stream: TcpStream) -> Self {
        let id = stream.as_raw_fd();
        Self {
            transport: Transport::Tcp(stream),
            id,
        }
    }

    pub(crate) fn unix(stream: UnixStream) -> Self {
        let id = stream.as_raw_fd();
        Self {
            transport: Transport::Unix(stream),
            id,
        }
    }

    pub(crate) fn tls(stream: TlsStream<TcpStream>) -> Self {
        let id = stream.get_ref().0.as_raw_fd();
        Self {
            transport: Transport::Tls(Box::new(stream)),
            id,
        }
    }

    pub(crate) fn tls_unix(stream: TlsStream<UnixStream>) -> Self {
        let id = stream.get_ref().0.as_raw_fd();
        Self {
            transport: Transport::TlsUnix(Box::new(stream)),
            id,
        }
    }

    /// The TCP socket underneath, for options such as `SO_LINGER`.
    pub(crate) fn tcp_socket(&self) -> Option<&TcpStream> {
        match &self.transport {
            Transport::Tcp(stream) => Some(stream),
            Transport::Tls(stream) => Some(stream.get_ref().0),
            Transport::Unix(_) | Transport::TlsUnix(_) => None,
        }
    }
}

/// Whether an idle connection is still good: nothing to read, and not closed.
/// A byte that nobody asked for is a reason to give it up, too.
pub(crate) fn is_quiet(stream: &mut (impl AsyncRead + Unpin + ?Sized)) -> bool {
    let mut byte = [0];
    let mut buffer = ReadBuf::new(&mut byte);
    let mut context = Context::from_waker(Waker::noop());
    Pin::new(stream)
        .poll_read(&mut context, &mut buffer)
        .is_pending()
}

macro_rules! delegate {
    ($self:ident, $stream:ident => $call:expr) => {
        match &mut $self.get_mut().transport {
            Transport::Tcp($stream) => $call,
            Transport::Unix($stream) => $call,
            Transport::Tls($stream) => $call,
            Transport::TlsUnix($stream) => $call,
        }
    };
}

impl AsyncRead for UpstreamIo {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        delegate!(self, stream => Pin::new(stream).poll_read(cx, buf))
    }
}

impl AsyncWrite for UpstreamIo {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        delegate!(self, stream => Pin::new(stream).poll_write(cx, bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        delegate!(self, stream => Pin::new(stream).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        delegate!(self, stream => Pin::new(stream).poll_shutdown(cx))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        delegate!(self, stream => Pin::new(stream).poll_write_vectored(cx, slices))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }
}

#[async_trait]
impl Shutdown for UpstreamIo {
    async fn shutdown(&mut self) {
        // The connection is given up; that the peer was faster is no news.
        let _ = AsyncWriteExt::shutdown(self).await;
    }
}

impl UniqueID for UpstreamIo {
    fn id(&self) -> UniqueIDType {
        self.id
    }
}

// Pingora's digests are not used upstream: what the proxy wants to know of a
// connection it keeps itself.
impl Ssl for UpstreamIo {}

#[async_trait]
impl Peek for UpstreamIo {}

impl GetTimingDigest for UpstreamIo {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        Vec::new()
    }
}

impl GetProxyDigest for UpstreamIo {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        None
    }
}

impl GetSocketDigest for UpstreamIo {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        None
    }
}
