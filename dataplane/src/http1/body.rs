//! Bodies as they are framed: what is read of one, and how one is written.

use super::chunks::{ChunkStep, Chunks};
use bytes::{Bytes, BytesMut};
use std::fmt::Write as _;

/// Most that is read of a body at a time.
pub(crate) const PIECE: usize = 64 * 1024;

/// Room for a head, or for the first bytes of a body of unknown length.
const SMALL: usize = 4 * 1024;

/// A body that is being read, by how its end is told.
#[derive(Debug)]
pub(crate) enum BodyReader {
    /// So many bytes are still to come.
    Length(u64),
    /// Chunked.
    Chunked(Chunks),
    /// By the end of the connection.
    UntilClose,
    /// Nothing is left.
    Done,
}

/// A chunk's size, extension, end or trailer is malformed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Broken;

impl BodyReader {
    /// A body of known length.
    pub(crate) fn of_length(length: u64) -> Self {
        match length {
            0 => Self::Done,
            length => Self::Length(length),
        }
    }

    /// Whether it was read to its end.
    pub(crate) fn is_done(&self) -> bool {
        matches!(self, Self::Done)
    }

    /// Takes the next piece out of what was read; `None` when more must be read, and when the
    /// body is done, which an empty piece tells of where its end is told by itself.
    pub(crate) fn take(&mut self, read: &mut BytesMut) -> Result<Option<Bytes>, Broken> {
        match self {
            Self::Done => Ok(None),
            _ if read.is_empty() => Ok(None),
            Self::UntilClose => Ok(Some(read.split().freeze())),
            Self::Length(left) => {
                let here = read.len();
                let count = usize::try_from(*left).map_or(here, |left| left.min(here));
                *left -= count as u64;
                if *left == 0 {
                    *self = Self::Done;
                }
                Ok(Some(read.split_to(count).freeze()))
            }
            Self::Chunked(chunks) => match chunks.next(read) {
                ChunkStep::Framing => {
                    read.clear();
                    Ok(None)
                }
                ChunkStep::Data { framing, data } => {
                    let mut piece = read.split_to(framing + data);
                    if Self::ends(chunks, read) {
                        *self = Self::Done;
                    }
                    Ok(Some(piece.split_off(framing).freeze()))
                }
                ChunkStep::End(behind) => {
                    // What is behind is no part of the body.
                    let _ = read.split_to(behind);
                    *self = Self::Done;
                    Ok(Some(Bytes::new()))
                }
                ChunkStep::Broken(_) => Err(Broken),
            },
        }
    }

    /// Whether the last chunk lies at the start of `read`: then the piece before it is the last,
    /// and both go out in one write.
    fn ends(chunks: &mut Chunks, read: &mut BytesMut) -> bool {
        const LAST: &[u8] = b"\r\n0\r\n\r\n";
        if chunks.left() > 0 || !read.starts_with(LAST) {
            return false;
        }
        let _ = read.split_to(LAST.len());
        true
    }

    /// How much room the next read should have.
    pub(crate) fn room(&self) -> usize {
        let left = match self {
            Self::Length(left) => *left,
            Self::Chunked(chunks) => chunks.left(),
            Self::UntilClose | Self::Done => 0,
        };
        usize::try_from(left).map_or(PIECE, |left| left.clamp(SMALL, PIECE))
    }
}

/// A body that is being written, by how its end is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BodyWriter {
    /// So many bytes may still go out.
    Length(u64),
    /// Chunked.
    Chunked,
    /// As they come, until the connection ends.
    Raw,
}

impl BodyWriter {
    /// Frames a piece, the last one where `end`: what goes before it and behind it, and how much
    /// of it goes out. More than the length that was announced does not.
    pub(crate) fn frame(&mut self, piece: &[u8], end: bool) -> Framed {
        let all = piece.len();
        match self {
            Self::Raw => Framed::bare(all),
            Self::Length(left) => {
                let count = usize::try_from(*left).map_or(all, |left| left.min(all));
                *left -= count as u64;
                Framed::bare(count)
            }
            Self::Chunked => {
                let mut before = String::new();
                if all > 0 {
                    // Writing to a string can't fail.
                    let _ = write!(before, "{all:x}\r\n");
                }
                let behind: &[u8] = match (all > 0, end) {
                    (true, true) => b"\r\n0\r\n\r\n",
                    (true, false) => b"\r\n",
                    (false, true) => b"0\r\n\r\n",
                    (false, false) => b"",
                };
                Framed {
                    before,
                    count: all,
                    behind,
                }
            }
        }
    }

    /// Whether as much went out as was announced.
    pub(crate) fn is_whole(self) -> bool {
        !matches!(self, Self::Length(1..))
    }
}

/// What surrounds a piece on the wire.
#[derive(Debug)]
pub(crate) struct Framed {
    /// Goes before it.
    pub(crate) before: String,
    /// So many bytes of it go out.
    pub(crate) count: usize,
    /// Goes behind it.
    pub(crate) behind: &'static [u8],
}

impl Framed {
    fn bare(count: usize) -> Self {
        Self {
            before: String::new(),
            count,
            behind: b"",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads a body that comes in pieces of `size` bytes; its bytes, and what is behind it.
    fn read(mut body: BodyReader, wire: &[u8], size: usize) -> Result<(Vec<u8>, Vec<u8>), Broken> {
        let mut buffer = BytesMut::new();
        let mut got = Vec::new();
        for piece in wire.chunks(size) {
            buffer.extend_from_slice(piece);
            while let Some(bytes) = body.take(&mut buffer)? {
                got.extend_from_slice(&bytes);
            }
        }
        Ok((got, buffer.to_vec()))
    }

    #[test]
    fn bodies_are_cut_where_they_end_in_whatever_pieces_they_come() {
        let wire = b"3;x=\"y\"\r\nabc\r\nA\r\n0123456789\r\n0\r\nTrailer: 1\r\n\r\nrest";
        let plain = b"3\r\nabc\r\n0\r\n\r\nrest";
        for size in 1..wire.len() {
            let chunked = || BodyReader::Chunked(Chunks::default());
            let expected = (b"abc0123456789".to_vec(), b"rest".to_vec());
            assert_eq!(read(chunked(), wire, size), Ok(expected), "{size}");
            let expected = (b"abc".to_vec(), b"rest".to_vec());
            assert_eq!(read(chunked(), plain, size), Ok(expected), "{size}");
            let expected = (b"abc".to_vec(), b"rest".to_vec());
            let of_length = read(BodyReader::of_length(3), b"abcrest", size);
            assert_eq!(of_length, Ok(expected));
            let expected = (b"abcrest".to_vec(), Vec::new());
            assert_eq!(read(BodyReader::UntilClose, b"abcrest", size), Ok(expected));
        }
    }

    #[test]
    fn malformed_chunks_break_a_body_off() {
        for wire in [
            "x\r\n",
            "3\r\nabcd",
            "3 \r\n",
            "3\nabc",
            "0\r\n bad: 1\r\n\r\n",
        ] {
            let body = BodyReader::Chunked(Chunks::default());
            assert_eq!(read(body, wire.as_bytes(), 100), Err(Broken), "{wire:?}");
        }
    }

    #[test]
    fn a_piece_that_comes_with_the_end_is_the_last() {
        let mut buffer = BytesMut::from(&b"3\r\nabc\r\n0\r\n\r\n"[..]);
        let mut body = BodyReader::Chunked(Chunks::default());
        let piece = body.take(&mut buffer).unwrap();
        assert_eq!(piece.as_deref(), Some(&b"abc"[..]));
        assert!(body.is_done() && buffer.is_empty());
    }

    fn written(mut body: BodyWriter, pieces: &[(&str, bool)]) -> String {
        let mut wire = String::new();
        for (piece, end) in pieces {
            let framed = body.frame(piece.as_bytes(), *end);
            wire.push_str(&framed.before);
            wire.push_str(&piece[..framed.count]);
            wire.push_str(std::str::from_utf8(framed.behind).unwrap());
        }
        wire
    }

    #[test]
    fn bodies_are_framed_as_they_were_announced() {
        let pieces = [("abc", false), ("", false), ("0123456789", true)];
        let chunked = written(BodyWriter::Chunked, &pieces);
        assert_eq!(chunked, "3\r\nabc\r\na\r\n0123456789\r\n0\r\n\r\n");
        let alone = written(BodyWriter::Chunked, &[("abc", false), ("", true)]);
        assert_eq!(alone, "3\r\nabc\r\n0\r\n\r\n");
        assert_eq!(written(BodyWriter::Raw, &pieces), "abc0123456789");
        assert_eq!(written(BodyWriter::Length(5), &pieces), "abc01");
    }

    #[test]
    fn a_body_that_falls_short_of_its_length_is_known() {
        let mut body = BodyWriter::Length(3);
        body.frame(b"ab", true);
        assert!(!body.is_whole());
        body.frame(b"c", true);
        assert!(body.is_whole());
    }
}
