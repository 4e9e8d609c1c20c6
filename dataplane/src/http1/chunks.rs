//! Chunked bodies, byte by byte outside the data (RFC 9112, 7.1).

/// Extensions and trailers of one body together: who needs more than a few
/// names is filling memory, not describing chunks.
const MAX_DECORATION: usize = 4096;

/// Where in a chunked body the next byte stands.
#[derive(Debug, Default)]
pub(crate) struct Chunks {
    at: At,
    /// Bytes of extensions and trailers so far.
    decoration: usize,
}

/// What comes next in a chunked body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ChunkStep {
    /// Nothing but framing so far.
    Framing,
    /// So many bytes of framing, and behind them so many of data.
    Data { framing: usize, data: usize },
    /// The body ends behind so many bytes.
    End(usize),
    /// So many bytes are sound; the next one may not stand where it does.
    Broken(usize),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    /// In the size; `digits` have come.
    Size { size: u64, digits: u8 },
    /// In the extension behind the size.
    Extension { size: u64 },
    /// Behind the CR of the size's line.
    SizeEnd { size: u64 },
    /// In the data.
    Data { left: u64 },
    /// Behind the data.
    DataEnd,
    /// Behind the CR behind the data.
    DataEndLine,
    /// At the start of a trailer line.
    Trailer,
    /// In a trailer line.
    TrailerLine,
    /// Behind the CR of a trailer line.
    TrailerEnd,
    /// Behind the CR of the last, empty line.
    End,
}

impl Default for At {
    fn default() -> Self {
        Self::Size { size: 0, digits: 0 }
    }
}

impl Chunks {
    /// Goes on behind what the last call has told of.
    pub(crate) fn next(&mut self, bytes: &[u8]) -> ChunkStep {
        for (index, byte) in bytes.iter().enumerate() {
            if let At::Data { left } = self.at {
                let here = bytes.len() - index;
                let data = usize::try_from(left).map_or(here, |left| left.min(here));
                let left = left - data as u64;
                self.at = if left > 0 {
                    At::Data { left }
                } else {
                    At::DataEnd
                };
                return ChunkStep::Data {
                    framing: index,
                    data,
                };
            }
            let Some(next) = self.behind(*byte) else {
                return ChunkStep::Broken(index);
            };
            if self.at == At::End && next == At::default() {
                self.at = next;
                return ChunkStep::End(index + 1);
            }
            self.at = next;
        }
        ChunkStep::Framing
    }

    /// How many bytes of the chunk that has begun are still to come.
    pub(crate) fn left(&self) -> u64 {
        match self.at {
            At::Data { left } => left,
            _ => 0,
        }
    }

    /// The place behind `byte`, unless it may not stand here. The empty line
    /// at the end leads back to the start.
    fn behind(&mut self, byte: u8) -> Option<At> {
        match (self.at, byte) {
            (At::Size { size, digits }, _) if byte.is_ascii_hexdigit() && digits < 16 => {
                let digit = (byte as char).to_digit(16)?;
                Some(At::Size {
                    size: size << 4 | u64::from(digit),
                    digits: digits + 1,
                })
            }
            (At::Size { digits: 0, .. }, _) => None,
            (At::Size { size, .. } | At::Extension { size }, b'\r') => Some(At::SizeEnd { size }),
            (At::Size { size, .. }, b';')
            | (At::Extension { size }, b'\t' | b' '..=b'~' | 0x80..) => {
                self.decorated(At::Extension { size })
            }
            (At::SizeEnd { size: 0 }, b'\n') => Some(At::Trailer),
            (At::SizeEnd { size }, b'\n') => Some(At::Data { left: size }),
            (At::DataEnd, b'\r') => Some(At::DataEndLine),
            (At::DataEndLine, b'\n') => Some(At::default()),
            (At::Trailer, b'\r') => Some(At::End),
            (At::Trailer, b' ' | b'\t' | b':') => None,
            (At::TrailerLine, b'\r') => Some(At::TrailerEnd),
            (At::Trailer | At::TrailerLine, b'\t' | b' '..=b'~' | 0x80..) => {
                self.decorated(At::TrailerLine)
            }
            (At::TrailerEnd, b'\n') => Some(At::Trailer),
            (At::End, b'\n') => Some(At::default()),
            _ => None,
        }
    }

    fn decorated(&mut self, next: At) -> Option<At> {
        self.decoration += 1;
        (self.decoration <= MAX_DECORATION).then_some(next)
    }
}
