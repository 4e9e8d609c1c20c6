//! Takes frames that say nothing out of what an HTTP/2 peer sends.
//!
//! A server that ends a body before it knows the trailers sends an empty DATA frame
//! between them. The codec counts those over a connection's whole life, and closes
//! it at the hundredth, with all that is under way on it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, ReadBuf};

/// Bytes of a frame's head (RFC 9113, 4.1).
const HEAD: usize = 9;

/// By how many such frames may outnumber all others. Beyond that somebody wastes our time,
/// and the codec's count takes its course.
const TOLERATED: u32 = 1000;

/// How far a peer's frames have been read.
#[derive(Debug, Default)]
pub(super) struct Frames {
    /// Bytes that pass before the next head.
    pass: usize,
    /// What is there of a head that came in pieces.
    head: [u8; HEAD],
    have: usize,
    /// How much of it is still to be handed over, from its end.
    due: usize,
    surplus: u32,
}

impl Frames {
    /// Frames behind so many bytes of a preface.
    pub(super) fn behind(preface: usize) -> Self {
        Self {
            pass: preface,
            ..Self::default()
        }
    }

    /// Reads from `stream` what is not empty.
    pub(super) fn poll_read(
        &mut self,
        stream: &mut (impl AsyncRead + Unpin),
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            if self.due > 0 {
                self.hand_over(out);
                return Poll::Ready(Ok(()));
            }
            if self.have > 0 {
                ready!(self.poll_head(stream, cx))?;
                continue;
            }
            let before = out.filled().len();
            ready!(Pin::new(&mut *stream).poll_read(cx, out))?;
            let read = out.filled().len() - before;
            let kept = self.filter(&mut out.filled_mut()[before..]);
            out.set_filled(before + kept);
            if kept > 0 || read == 0 {
                return Poll::Ready(Ok(()));
            }
        }
    }

    fn hand_over(&mut self, out: &mut ReadBuf<'_>) {
        let rest = &self.head[self.have - self.due..self.have];
        let taken = rest.len().min(out.remaining());
        out.put_slice(&rest[..taken]);
        self.due -= taken;
        if self.due == 0 {
            self.have = 0;
        }
    }

    /// Reads on in a head of which the first bytes came before.
    fn poll_head(
        &mut self,
        stream: &mut (impl AsyncRead + Unpin),
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        let mut rest = ReadBuf::new(&mut self.head[self.have..]);
        ready!(Pin::new(stream).poll_read(cx, &mut rest))?;
        let read = rest.filled().len();
        self.have += read;
        if self.have == HEAD {
            let head = self.head;
            match self.is_unwanted(&head) {
                true => self.have = 0,
                false => self.due = HEAD,
            }
        } else if read == 0 {
            // Cut off in the middle, which the codec must see.
            self.due = self.have;
        }
        Poll::Ready(Ok(()))
    }

    /// Moves what is kept to the front; how much that is. A head that is not complete is held
    /// back.
    fn filter(&mut self, bytes: &mut [u8]) -> usize {
        let (mut at, mut kept) = (0, 0);
        while at < bytes.len() {
            let rest = bytes.len() - at;
            let taken = match self.pass {
                0 => {
                    let Some(head) = bytes[at..].first_chunk::<HEAD>().copied() else {
                        self.head[..rest].copy_from_slice(&bytes[at..]);
                        self.have = rest;
                        break;
                    };
                    if self.is_unwanted(&head) {
                        at += HEAD;
                        continue;
                    }
                    HEAD
                }
                pass => {
                    self.pass -= pass.min(rest);
                    pass.min(rest)
                }
            };
            if kept < at {
                bytes.copy_within(at..at + taken, kept);
            }
            at += taken;
            kept += taken;
        }
        kept
    }

    /// Whether a frame is left out; if it is not, its payload passes.
    fn is_unwanted(&mut self, head: &[u8; HEAD]) -> bool {
        const DATA: u8 = 0;
        const END_STREAM: u8 = 1;
        let [high, middle, low, kind, flags, ..] = *head;
        self.pass = u32::from_be_bytes([0, high, middle, low]) as usize;
        let empty = self.pass == 0 && kind == DATA && flags & END_STREAM == 0;
        if empty {
            self.surplus = self.surplus.saturating_add(1);
        } else {
            self.surplus = self.surplus.saturating_sub(1);
        }
        empty && self.surplus <= TOLERATED
    }
}

#[cfg(test)]
mod tests {
    use super::{Frames, HEAD, TOLERATED};
    use std::pin::Pin;
    use std::task::{Context, Poll, Waker};
    use tokio::io::{AsyncRead, ReadBuf};

    /// Gives the bytes in pieces of at most one size, and then the end.
    struct Pieces<'a> {
        bytes: &'a [u8],
        piece: usize,
    }

    impl AsyncRead for Pieces<'_> {
        fn poll_read(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            out: &mut ReadBuf<'_>,
        ) -> Poll<std::io::Result<()>> {
            let most = self.piece.min(out.remaining()).min(self.bytes.len());
            let (piece, rest) = self.bytes.split_at(most);
            out.put_slice(piece);
            self.bytes = rest;
            Poll::Ready(Ok(()))
        }
    }

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let length = u8::try_from(payload.len()).unwrap();
        [&[0, 0, length, kind, flags, 0, 0, 0, 1], payload].concat()
    }

    fn read(bytes: &[u8], piece: usize, preface: usize) -> Vec<u8> {
        let mut frames = Frames::behind(preface);
        let mut stream = Pieces { bytes, piece };
        let mut context = Context::from_waker(Waker::noop());
        let mut all = Vec::new();
        loop {
            let mut room = [0; 4096];
            let mut out = ReadBuf::new(&mut room);
            let read = frames.poll_read(&mut stream, &mut context, &mut out);
            assert!(matches!(read, Poll::Ready(Ok(()))));
            if out.filled().is_empty() {
                return all;
            }
            all.extend_from_slice(out.filled());
        }
    }

    #[test]
    fn empty_data_is_left_out_and_all_else_passes() {
        let kept = [frame(1, 4, b"head"), frame(0, 0, b"body"), frame(1, 5, b"")];
        let sent = [
            b"preface".to_vec(),
            frame(0, 0, b""),
            kept[0].clone(),
            kept[1].clone(),
            frame(0, 0, b""),
            kept[2].clone(),
            // The end of a stream.
            frame(0, 1, b""),
        ];
        let expected = [&b"preface"[..], &kept.concat(), &frame(0, 1, b"")].concat();
        for piece in [1, 2, 1000] {
            assert_eq!(read(&sent.concat(), piece, 7), expected, "{piece}");
        }
    }

    #[test]
    fn a_frame_that_is_cut_off_is_seen_as_that() {
        for length in 1..HEAD {
            let sent = &frame(1, 4, b"")[..length];
            assert_eq!(read(sent, 1000, 0), sent);
        }
    }

    #[test]
    fn a_flood_reaches_the_codec() {
        let flood = frame(0, 0, b"").repeat(TOLERATED as usize + 150);
        assert_eq!(read(&flood, 1000, 0).len(), 150 * HEAD);
    }
}
