//! The part of a request's body that was already sent, kept in case it must be
//! sent again. Bounded: beyond the bound the request can't be tried again.

use bytes::Bytes;
use http::HeaderMap;

/// Most that is kept of one body. Envoy's per-request buffer is of that order,
/// and 10,000 uploads at once then hold at most 640 MiB.
const LIMIT: usize = 64 * 1024;

/// What was read of a body so far.
#[derive(Default)]
pub(crate) struct Replay {
    pieces: Vec<Bytes>,
    size: usize,
    enabled: bool,
    truncated: bool,
    ended: bool,
    /// With what it ended. Bounded as a head is.
    trailers: Option<HeaderMap>,
}

impl Replay {
    /// `enabled` where another try may come.
    pub(crate) fn new(enabled: bool) -> Self {
        Self {
            enabled,
            ..Self::default()
        }
    }

    /// What was read before the first try. It is kept whatever its size, which its reader has
    /// bounded.
    pub(crate) fn begun(bytes: Bytes, ended: bool, trailers: Option<HeaderMap>) -> Self {
        Self {
            size: bytes.len(),
            pieces: Vec::from_iter(Some(bytes).filter(|bytes| !bytes.is_empty())),
            enabled: true,
            truncated: false,
            ended,
            trailers,
        }
    }

    /// Remembers a piece that was read from the client.
    pub(crate) fn push(&mut self, piece: &Bytes) {
        if !self.enabled || piece.is_empty() {
            self.truncated |= !self.enabled && !piece.is_empty();
            return;
        }
        self.size += piece.len();
        if self.size > LIMIT {
            self.truncated = true;
            self.enabled = false;
            self.pieces = Vec::new();
        } else {
            self.pieces.push(piece.clone());
        }
    }

    /// Remembers that the client's body ended.
    pub(crate) fn end(&mut self) {
        self.ended = true;
    }

    /// Remembers that it ended with trailers.
    pub(crate) fn end_with(&mut self, trailers: HeaderMap) {
        self.ended = true;
        self.trailers = Some(trailers);
    }

    /// The client sends again, after an upgrade: nothing of that is ever replayed.
    pub(crate) fn reopen(&mut self) {
        *self = Self::new(false);
    }

    /// Whether the client's body ended.
    pub(crate) fn is_ended(&self) -> bool {
        self.ended
    }

    /// The trailers that it ended with.
    pub(crate) fn trailers(&self) -> Option<&HeaderMap> {
        self.trailers.as_ref()
    }

    /// The pieces to send again, or `None` where some are gone.
    pub(crate) fn pieces(&self) -> Option<&[Bytes]> {
        (!self.truncated).then_some(self.pieces.as_slice())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_pieces_up_to_the_limit() {
        let mut replay = Replay::new(true);
        replay.push(&Bytes::from_static(b"ab"));
        replay.push(&Bytes::from_static(b"c"));
        assert_eq!(replay.pieces().unwrap().concat(), b"abc");
        replay.push(&Bytes::from(vec![0; LIMIT]));
        assert_eq!(replay.pieces(), None);
    }

    #[test]
    fn keeps_nothing_where_no_second_try_may_come() {
        let mut replay = Replay::new(false);
        assert_eq!(replay.pieces().map(<[_]>::len), Some(0));
        replay.push(&Bytes::from_static(b"a"));
        assert_eq!(replay.pieces(), None);
    }
}
