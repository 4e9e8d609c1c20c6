//! The byte stream to an endpoint: TCP or unix socket, with or without TLS,
//! in the shape that HTTP sessions and the TCP relay both take.

use super::unsent::{Unsent, poll_slices};
use crate::downstream::Rewound;
use std::io;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::client::TlsStream;

/// An established connection to an endpoint.
#[derive(Debug)]
pub(crate) struct UpstreamIo {
    transport: Transport,
    /// There where writing must not wait.
    unsent: Option<Unsent>,
}

#[derive(Debug)]
enum Transport {
    Tcp(TcpStream),
    Unix(UnixStream),
    Tls(Box<TlsStream<Rewound<TcpStream>>>),
    TlsUnix(Box<TlsStream<Rewound<UnixStream>>>),
}

impl UpstreamIo {
    pub(crate) fn tcp(stream: TcpStream) -> Self {
        Self::new(Transport::Tcp(stream))
    }

    pub(crate) fn unix(stream: UnixStream) -> Self {
        Self::new(Transport::Unix(stream))
    }

    pub(crate) fn tls(stream: TlsStream<Rewound<TcpStream>>) -> Self {
        Self::new(Transport::Tls(Box::new(stream)))
    }

    pub(crate) fn tls_unix(stream: TlsStream<Rewound<UnixStream>>) -> Self {
        Self::new(Transport::TlsUnix(Box::new(stream)))
    }

    fn new(transport: Transport) -> Self {
        Self {
            transport,
            unsent: None,
        }
    }

    /// Makes writing never wait: what the socket does not take goes out while
    /// the connection is read from. For HTTP/1.1; HTTP/2 needs the back pressure.
    pub(crate) fn unwaiting(self) -> Self {
        Self {
            unsent: Some(Unsent::default()),
            ..self
        }
    }

    /// Moves the connection to the runtime of the worker that calls. Where that fails it stays
    /// with the one that it was on, which serves it as well, only slower.
    pub(crate) fn settle_here(&mut self) {
        let settled = match &mut self.transport {
            Transport::Tcp(stream) => settle_tcp(stream),
            Transport::Unix(stream) => settle_unix(stream),
            Transport::Tls(stream) => settle_tcp(stream.get_mut().0.socket_mut()),
            Transport::TlsUnix(stream) => settle_unix(stream.get_mut().0.socket_mut()),
        };
        if let Err(error) = settled {
            tracing::debug!(%error, "a connection stays with the worker that made it");
        }
    }

    /// Whether something is left to be taken, where writing never waits.
    pub(crate) fn is_blocked(&self) -> bool {
        self.unsent
            .as_ref()
            .is_some_and(|unsent| !unsent.is_empty())
    }

    /// The TCP socket underneath, for options such as `SO_LINGER`.
    pub(crate) fn tcp_socket(&self) -> Option<&TcpStream> {
        match &self.transport {
            Transport::Tcp(stream) => Some(stream),
            Transport::Tls(stream) => Some(stream.get_ref().0.socket()),
            Transport::Unix(_) | Transport::TlsUnix(_) => None,
        }
    }
}

fn settle_tcp(stream: &mut TcpStream) -> io::Result<()> {
    let socket = std::net::TcpStream::from(stream.as_fd().try_clone_to_owned()?);
    *stream = TcpStream::from_std(socket)?;
    Ok(())
}

fn settle_unix(stream: &mut UnixStream) -> io::Result<()> {
    let socket = std::os::unix::net::UnixStream::from(stream.as_fd().try_clone_to_owned()?);
    *stream = UnixStream::from_std(socket)?;
    Ok(())
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
    ($transport:expr, $stream:ident => $call:expr) => {
        match $transport {
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
        let this = self.get_mut();
        if let Some(unsent) = &mut this.unsent {
            delegate!(&mut this.transport, stream => unsent.push(stream, cx));
        }
        delegate!(&mut this.transport, stream => Pin::new(stream).poll_read(cx, buf))
    }
}

impl AsyncWrite for UpstreamIo {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[io::IoSlice::new(bytes)])
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        delegate!(&mut this.transport, stream => match &mut this.unsent {
            Some(unsent) => unsent.poll_flush(stream, cx),
            None => Pin::new(stream).poll_flush(cx),
        })
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // What is left unsent belongs to a request that was given up.
        delegate!(&mut self.get_mut().transport, stream => Pin::new(stream).poll_shutdown(cx))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        delegate!(&mut this.transport, stream => match &mut this.unsent {
            Some(unsent) => unsent.poll_write(stream, cx, slices),
            None => poll_slices(stream, cx, slices),
        })
    }

    fn is_write_vectored(&self) -> bool {
        true
    }
}
