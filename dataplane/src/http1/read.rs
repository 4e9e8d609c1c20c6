//! Heads as they come in: where one ends, and its header lines.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};

/// Why header lines are none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BadHead {
    /// A line ends in LF without CR.
    LineEnd,
    /// A line without a colon, with a name that is no token, a continued one, or a control
    /// character.
    Syntax,
    /// More lines than are taken.
    Count,
}

/// How long the head at the start of `bytes` is; `None` when its end is not among them.
/// `searched` is where the line begins that was not complete last time.
pub(crate) fn end_of_head(bytes: &[u8], searched: &mut usize) -> Result<Option<usize>, BadHead> {
    while let Some(found) = memchr::memchr(b'\n', &bytes[*searched..]) {
        let line = &bytes[*searched..*searched + found];
        if !line.ends_with(b"\r") {
            return Err(BadHead::LineEnd);
        }
        *searched += found + 1;
        if line.len() == 1 {
            return Ok(Some(*searched));
        }
    }
    Ok(None)
}

/// Reads the header lines of a whole head from the byte `at` on. Values share its memory.
pub(crate) fn header_lines(head: &Bytes, at: usize, most: usize) -> Result<HeaderMap, BadHead> {
    let mut headers = HeaderMap::with_capacity(ROOM);
    let mut start = at;
    let mut count = 0;
    while let Some(found) = memchr::memchr(b'\n', &head[start..]) {
        let end = start + found;
        let line = head[start..end].strip_suffix(b"\r");
        let line = line.ok_or(BadHead::LineEnd)?;
        if line.is_empty() {
            break;
        }
        count += 1;
        if count > most {
            return Err(BadHead::Count);
        }
        let colon = memchr::memchr(b':', line).ok_or(BadHead::Syntax)?;
        let name = HeaderName::from_bytes(&line[..colon]).map_err(|_| BadHead::Syntax)?;
        let (from, to) = trimmed(line, colon + 1);
        let value = HeaderValue::from_maybe_shared(head.slice(start + from..start + to));
        let value = value.map_err(|_| BadHead::Syntax)?;
        headers
            .try_append(name, value)
            .map_err(|_| BadHead::Count)?;
        start = end + 1;
    }
    Ok(headers)
}

/// Room for an ordinary head with what is added to it: the map's steps are powers of two.
const ROOM: usize = 12;

/// Where a value lies that begins at `from`, without spaces and tabs around it (OWS of RFC 9110,
/// 5.6.3).
fn trimmed(line: &[u8], mut from: usize) -> (usize, usize) {
    let mut to = line.len();
    while from < to && matches!(line[from], b' ' | b'\t') {
        from += 1;
    }
    while to > from && matches!(line[to - 1], b' ' | b'\t') {
        to -= 1;
    }
    (from, to)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str, most: usize) -> Result<Vec<(String, String)>, BadHead> {
        let head = Bytes::from(format!("{text}\r\n\r\n"));
        let headers = header_lines(&head, 0, most)?;
        let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        let all = headers.iter();
        Ok(all
            .map(|(name, value)| (name.to_string(), text(value)))
            .collect())
    }

    #[test]
    fn the_end_is_found_in_whatever_pieces_it_comes() {
        let head = b"HTTP/1.1 200 OK\r\nA: b\r\n\r\nbody\n";
        for size in 1..head.len() {
            let mut searched = 0;
            let ends = (size..=head.len()).step_by(size).chain([head.len()]);
            let found: Vec<_> = ends
                .map(|end| end_of_head(&head[..end], &mut searched))
                .find(|found| found != &Ok(None))
                .into_iter()
                .collect();
            assert_eq!(found, [Ok(Some(25))], "{size}");
        }
        assert_eq!(end_of_head(b"A: b\n\r\n", &mut 0), Err(BadHead::LineEnd));
    }

    #[test]
    fn lines_are_read_without_the_spaces_around_values() {
        let read = lines("A:b\r\nX-Y: \t c d \r\nempty:\r\na: second", 4).unwrap();
        let expected = [("a", "b"), ("a", "second"), ("x-y", "c d"), ("empty", "")];
        let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(read, expected);
        assert_eq!(lines("a: 1\r\nb: 2", 1), Err(BadHead::Count));
    }

    #[test]
    fn what_two_readers_could_read_two_ways_is_refused() {
        for text in [
            "a",
            ": b",
            "a : b",
            " a: b",
            "a: b\r\n c",
            "a\0: b",
            "a: b\0",
            "a: b\rc: d",
            "a(: b",
            "a: \x7f",
        ] {
            assert_eq!(lines(text, 9), Err(BadHead::Syntax), "{text:?}");
        }
        assert_eq!(lines("a: b\nc: d", 9), Err(BadHead::LineEnd));
    }
}
