//! The HTTP/1 guard: reads along where a connection's bytes enter, and refuses
//! what two parsers could read two ways.
//!
//! The strict rules of RFC 9112 are kept here, before anything of a head is
//! interpreted. The guard must know where a body ends to find the next head. It
//! never changes a byte, but says where a target must be written otherwise
//! because no URI of ours can hold it.
//!
//! A pure state machine: bytes in, verdicts out. [`super::Downstream`] does the
//! reading and the waiting.

mod head;
mod mending;
mod syntax;
#[cfg(test)]
mod tests;

use super::violation::Violation;
use crate::http1::{ChunkStep, Chunks};
use head::HeadScan;
pub(crate) use mending::Mending;

/// What one request's head may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct HeadLimits {
    /// Bytes, with the request line and the empty line.
    pub(crate) bytes: usize,
    /// Header lines.
    pub(crate) headers: usize,
}

/// Follows the requests of one connection.
#[derive(Debug)]
pub(crate) struct Guard {
    limits: HeadLimits,
    state: State,
    mending: Option<Box<Mending>>,
}

#[derive(Debug)]
enum State {
    Head(HeadScan),
    Length(u64),
    Chunked(Chunks),
}

/// How far a head has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HeadStep {
    /// Its end is not among the bytes.
    Incomplete,
    /// It is sound and this many bytes long.
    Complete(usize),
    /// It breaks a rule.
    Refused(Violation),
}

/// What is left of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BodyStep {
    /// All bytes belong to it, and more will.
    Open,
    /// This many bytes belong to it, and it is complete.
    Done(usize),
    /// This many bytes are sound; what follows breaks a rule.
    Refused(usize, Violation),
}

/// How the body behind a head is framed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Framing {
    Length(u64),
    Chunked,
}

impl Guard {
    pub(crate) fn new(limits: HeadLimits) -> Self {
        Self {
            limits,
            state: State::Head(HeadScan::default()),
            mending: None,
        }
    }

    /// Whether the next byte belongs to a head.
    pub(crate) fn expects_head(&self) -> bool {
        matches!(self.state, State::Head(_))
    }

    /// Looks at a head. `bytes` begins where the head does and holds all that
    /// has come; what was seen in an earlier call is not looked at again.
    pub(crate) fn head(&mut self, bytes: &[u8]) -> HeadStep {
        let State::Head(scan) = &mut self.state else {
            return HeadStep::Complete(0);
        };
        match scan.advance(bytes, self.limits) {
            Ok(None) => HeadStep::Incomplete,
            Ok(Some(sound)) => {
                self.mending = sound.mending;
                self.state = match sound.framing {
                    Framing::Length(0) => State::Head(HeadScan::default()),
                    Framing::Length(length) => State::Length(length),
                    Framing::Chunked => State::Chunked(Chunks::default()),
                };
                HeadStep::Complete(sound.length)
            }
            Err(violation) => HeadStep::Refused(violation),
        }
    }

    /// How the head that was just complete must be written.
    pub(crate) fn take_mending(&mut self) -> Option<Box<Mending>> {
        self.mending.take()
    }

    /// Looks at bytes behind the head, each exactly once.
    pub(crate) fn body(&mut self, bytes: &[u8]) -> BodyStep {
        let step = match &mut self.state {
            State::Head(_) => return BodyStep::Done(0),
            State::Length(left) => {
                let taken =
                    usize::try_from(*left).map_or(bytes.len(), |left| left.min(bytes.len()));
                *left -= taken as u64;
                if *left > 0 {
                    BodyStep::Open
                } else {
                    BodyStep::Done(taken)
                }
            }
            State::Chunked(chunks) => follow(chunks, bytes),
        };
        if matches!(step, BodyStep::Done(_)) {
            self.state = State::Head(HeadScan::default());
        }
        step
    }
}

/// Reads along in a chunked body.
fn follow(chunks: &mut Chunks, bytes: &[u8]) -> BodyStep {
    let mut at = 0;
    loop {
        match chunks.next(&bytes[at..]) {
            ChunkStep::Framing => return BodyStep::Open,
            ChunkStep::Data { framing, data } => at += framing + data,
            ChunkStep::End(behind) => return BodyStep::Done(at + behind),
            ChunkStep::Broken(behind) => {
                return BodyStep::Refused(at + behind, Violation::ChunkFraming);
            }
        }
    }
}
