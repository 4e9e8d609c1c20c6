//! A socket of which bytes were read ahead: to choose by them, or to spare calls.

use super::wire::Socket;
use bytes::{Buf, Bytes};
use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// How much is read at once where bytes come in bulk.
const BULK: usize = 64 * 1024;

thread_local! {
    /// Where bulk arrives, before what was asked for is known; one for all
    /// connections of a thread, as each leaves it empty.
    static ARRIVAL: RefCell<Box<[u8]>> = RefCell::new(vec![0; BULK].into());
}

/// A socket that gives what was read of it once more, before it goes on.
#[derive(Debug)]
pub struct Rewound<S = Socket> {
    ahead: Bytes,
    socket: S,
    reads: Reads,
}

/// How far the socket is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reads {
    /// As far as it is asked for.
    Exactly,
    /// As far as it is asked for, so far; the last read left nothing over.
    Further,
    /// The last read took all that it was offered room for: more will be there.
    Bulk,
}

impl<S> Rewound<S> {
    /// A socket with the bytes that came out of it already.
    pub fn new(socket: S, ahead: Bytes) -> Self {
        Self {
            ahead,
            socket,
            reads: Reads::Exactly,
        }
    }

    /// Reads further than it is asked to where bytes come in bulk. For TLS: rustls asks
    /// for 4 KiB at a time, a quarter of a record.
    #[must_use]
    pub fn reading_ahead(self) -> Self {
        Self {
            reads: Reads::Further,
            ..self
        }
    }

    /// The socket itself.
    pub(crate) fn socket(&self) -> &S {
        &self.socket
    }

    pub(crate) fn socket_mut(&mut self) -> &mut S {
        &mut self.socket
    }

    fn give(&mut self, buf: &mut ReadBuf<'_>) {
        let count = self.ahead.len().min(buf.remaining());
        buf.put_slice(&self.ahead[..count]);
        self.ahead.advance(count);
        if self.ahead.is_empty() {
            // Its memory would stay for as long as the connection.
            self.ahead = Bytes::new();
        }
    }
}

/// Nothing was read yet.
impl<S> From<S> for Rewound<S> {
    fn from(socket: S) -> Self {
        Self::new(socket, Bytes::new())
    }
}

impl Rewound {
    /// Ready where a read would be, or may be.
    pub(super) fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.ahead.is_empty() {
            self.socket.poll_readable(cx)
        } else {
            Poll::Ready(())
        }
    }
}

impl<S: AsyncRead + Unpin> Rewound<S> {
    fn poll_bulk(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        ARRIVAL.with_borrow_mut(|arrival| {
            let mut arrived = ReadBuf::new(arrival);
            ready!(Pin::new(&mut self.socket).poll_read(cx, &mut arrived))?;
            let arrived = arrived.filled();
            let (asked, rest) = arrived.split_at(arrived.len().min(buf.remaining()));
            buf.put_slice(asked);
            if rest.is_empty() {
                self.reads = Reads::Further;
            } else {
                self.ahead = Bytes::copy_from_slice(rest);
            }
            Poll::Ready(Ok(()))
        })
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Rewound<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.ahead.is_empty() {
            self.give(buf);
            return Poll::Ready(Ok(()));
        }
        if self.reads == Reads::Bulk {
            return self.poll_bulk(cx, buf);
        }
        ready!(Pin::new(&mut self.socket).poll_read(cx, buf))?;
        if self.reads == Reads::Further && buf.remaining() == 0 {
            self.reads = Reads::Bulk;
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Rewound<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::{BULK, Bytes, Rewound};
    use std::cell::RefCell;
    use std::io;
    use std::pin::Pin;
    use std::rc::Rc;
    use std::task::{Context, Poll};
    use tokio::io::{AsyncRead, AsyncReadExt, ReadBuf};

    /// Gives as many bytes as it is asked for until `left` are gone, and notes
    /// how many were asked for.
    struct Source {
        left: usize,
        asked: Rc<RefCell<Vec<usize>>>,
    }

    impl AsyncRead for Source {
        fn poll_read(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            buf: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            self.asked.borrow_mut().push(buf.remaining());
            let count = buf.remaining().min(self.left);
            let from = self.left;
            // Each byte says how far it is from the end.
            let bytes: Vec<u8> = (0..count).map(|at| ((from - at) % 251) as u8).collect();
            buf.put_slice(&bytes);
            self.left -= count;
            Poll::Ready(Ok(()))
        }
    }

    /// Reads all in pieces of at most `piece`; also what the socket was asked for.
    async fn all(length: usize, piece: usize, ahead: bool) -> (Vec<u8>, Vec<usize>) {
        let asked = Rc::default();
        let source = Source {
            left: length,
            asked: Rc::clone(&asked),
        };
        let mut stream = Rewound::from(source);
        if ahead {
            stream = stream.reading_ahead();
        }
        let mut read = Vec::new();
        let mut room = vec![0; piece];
        loop {
            match stream.read(&mut room).await.unwrap() {
                0 => break,
                count => read.extend_from_slice(&room[..count]),
            }
        }
        let asked = asked.borrow().clone();
        (read, asked)
    }

    #[tokio::test]
    async fn bulk_comes_in_few_reads_and_unchanged() {
        let length = 3 * BULK + 1000;
        let (plain, asked) = all(length, 4096, false).await;
        assert!(asked.iter().all(|asked| *asked == 4096));
        let (ahead, asked) = all(length, 4096, true).await;
        assert!(ahead == plain && plain.len() == length);
        // One as asked for, three and a rest in bulk, and the end.
        assert!(asked.len() <= 6, "{asked:?}");
    }

    #[tokio::test]
    async fn short_reads_stay_as_they_are_asked_for() {
        let (read, asked) = all(4000, 4096, true).await;
        assert_eq!(read.len(), 4000);
        assert_eq!(asked, [4096, 4096]);
    }

    #[tokio::test]
    async fn what_was_read_before_comes_first() {
        let source = Source {
            left: 3,
            asked: Rc::default(),
        };
        let mut stream = Rewound::new(source, Bytes::from_static(b"ab")).reading_ahead();
        let mut read = Vec::new();
        stream.read_to_end(&mut read).await.unwrap();
        assert_eq!(read, [b'a', b'b', 3, 2, 1]);
    }
}
