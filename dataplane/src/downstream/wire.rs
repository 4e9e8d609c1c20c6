//! The bytes of a client's connection: TCP or a Unix socket, plain or under TLS.

use super::rewound::Rewound;
use std::io::{self, IoSlice};
use std::os::fd::{AsRawFd, RawFd};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncBufRead, AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::server::TlsStream;

/// An accepted socket.
#[derive(Debug)]
pub enum Socket {
    /// TCP.
    Tcp(TcpStream),
    /// A Unix socket.
    Unix(UnixStream),
}

impl Socket {
    pub(super) fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()> {
        match self {
            Self::Tcp(stream) => stream.poll_read_ready(cx).map(drop),
            Self::Unix(stream) => stream.poll_read_ready(cx).map(drop),
        }
    }
}

/// A client's connection behind the handshake: what TCP services copy.
#[derive(Debug)]
pub enum Wire {
    /// As it comes.
    Plain(Rewound),
    /// Under TLS; boxed, as its state is a kilobyte.
    Tls(Box<TlsStream<Rewound>>),
}

impl Wire {
    fn socket(&self) -> &Socket {
        match self {
            Self::Plain(stream) => stream.socket(),
            Self::Tls(stream) => stream.get_ref().0.socket(),
        }
    }

    /// Ready where a read would be, or may be.
    pub(super) fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match self {
            Self::Plain(stream) => stream.poll_readable(cx),
            // Only the next record tells whether there is anything in it to be read.
            Self::Tls(stream) => Pin::new(stream).poll_fill_buf(cx).map(drop),
        }
    }

    /// Makes the coming close a reset, also under TLS, where no `close_notify`
    /// is sent then. Unix sockets know no reset and close as ever.
    pub fn reset_on_close(&self) -> io::Result<()> {
        match self.socket() {
            Socket::Tcp(stream) => socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO)),
            Socket::Unix(_) => Ok(()),
        }
    }
}

impl AsRawFd for Wire {
    fn as_raw_fd(&self) -> RawFd {
        match self.socket() {
            Socket::Tcp(stream) => stream.as_raw_fd(),
            Socket::Unix(stream) => stream.as_raw_fd(),
        }
    }
}

/// Calls the same method of whatever the variants hold.
macro_rules! each {
    ($type:ident { $($variant:ident),+ }, $self:expr, $stream:ident => $call:expr) => {
        match $self {
            $($type::$variant($stream) => $call,)+
        }
    };
}

macro_rules! forward_io {
    ($type:ident { $($variant:ident),+ }) => {
        impl AsyncRead for $type {
            fn poll_read(
                self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                buf: &mut ReadBuf<'_>,
            ) -> Poll<io::Result<()>> {
                each!($type { $($variant),+ }, self.get_mut(), s => Pin::new(s).poll_read(cx, buf))
            }
        }

        impl AsyncWrite for $type {
            fn poll_write(
                self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                buf: &[u8],
            ) -> Poll<io::Result<usize>> {
                each!($type { $($variant),+ }, self.get_mut(), s => Pin::new(s).poll_write(cx, buf))
            }

            fn poll_write_vectored(
                self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                bufs: &[IoSlice<'_>],
            ) -> Poll<io::Result<usize>> {
                each!($type { $($variant),+ }, self.get_mut(), s => {
                    Pin::new(s).poll_write_vectored(cx, bufs)
                })
            }

            fn is_write_vectored(&self) -> bool {
                true
            }

            fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                each!($type { $($variant),+ }, self.get_mut(), s => Pin::new(s).poll_flush(cx))
            }

            fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                each!($type { $($variant),+ }, self.get_mut(), s => Pin::new(s).poll_shutdown(cx))
            }
        }
    };
}

forward_io!(Socket { Tcp, Unix });
forward_io!(Wire { Plain, Tls });
