//! One flat JSON object, appended to a buffer.
//!
//! A line a request is most of what a log costs, and serde_json spent five times as many
//! instructions on it: it looks at every byte of every string by itself.

use std::time::Duration;

use super::digits::{put_number, put_seconds};
use crate::text::Text;

/// An object in the making.
pub(super) struct Object<'b> {
    out: &'b mut Vec<u8>,
    has_member: bool,
}

impl<'b> Object<'b> {
    /// Opens it at the end of `out`.
    pub(super) fn begin(out: &'b mut Vec<u8>) -> Self {
        out.push(b'{');
        Self {
            out,
            has_member: false,
        }
    }

    /// Closes it.
    pub(super) fn end(self) {
        self.out.push(b'}');
    }

    /// A member that is a string, if there is a value. `name` needs no escape.
    pub(super) fn string(&mut self, name: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.name(name);
            quote(self.out, value);
        }
    }

    /// A member that is a string, if there is a value.
    pub(super) fn text(&mut self, name: &str, value: Option<&Text>) {
        match value {
            None => {}
            // ASCII needs no look at its encoding.
            Some(Text::Short(value)) if is_plain(value.as_bytes()) => {
                self.name(name);
                put_plain(self.out, value.as_bytes());
            }
            Some(value) => self.string(name, Some(&value.render())),
        }
    }

    /// A member that is a whole number, if there is a value.
    pub(super) fn number(&mut self, name: &str, value: Option<impl itoa::Integer>) {
        if let Some(value) = value {
            self.name(name);
            put_number(self.out, value);
        }
    }

    /// A member that is a number of seconds, to the microsecond, if there is a value.
    pub(super) fn seconds(&mut self, name: &str, value: Option<Duration>) {
        if let Some(value) = value {
            self.name(name);
            put_seconds(self.out, value, ".0");
        }
    }

    fn name(&mut self, name: &str) {
        if self.has_member {
            self.out.push(b',');
        }
        self.has_member = true;
        self.out.push(b'"');
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(b"\":");
    }
}

/// Whether every byte is ASCII that stands for itself. Looks at all of them, many at a time,
/// instead of stopping at the first that does not.
fn is_plain(text: &[u8]) -> bool {
    let special = |found, byte: &u8| found | needs_escape(*byte) | (*byte >= 0x7f);
    !text.iter().fold(false, special)
}

fn put_plain(out: &mut Vec<u8>, text: &[u8]) {
    out.reserve(text.len() + 2);
    out.push(b'"');
    out.extend_from_slice(text);
    out.push(b'"');
}

/// Appends a string with its quotes (RFC 8259, section 7).
fn quote(out: &mut Vec<u8>, text: &str) {
    if is_plain(text.as_bytes()) {
        return put_plain(out, text.as_bytes());
    }
    out.push(b'"');
    let mut rest = text.as_bytes();
    while let Some(at) = rest.iter().position(|byte| needs_escape(*byte)) {
        let (plain, special) = rest.split_at(at);
        out.extend_from_slice(plain);
        escape(out, special[0]);
        rest = &special[1..];
    }
    out.extend_from_slice(rest);
    out.push(b'"');
}

fn needs_escape(byte: u8) -> bool {
    byte < 0x20 || byte == b'"' || byte == b'\\'
}

fn escape(out: &mut Vec<u8>, byte: u8) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    match byte {
        b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
        _ => {
            let digits = [byte >> 4, byte & 15].map(|digit| DIGITS[usize::from(digit)]);
            out.extend_from_slice(b"\\u00");
            out.extend_from_slice(&digits);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn every_string_is_read_as_it_was_written() {
        let all: String = (0..=0x2100).filter_map(char::from_u32).collect();
        for text in ["", "plain", "\"", "\\", "a\"b\\c\n", "\u{0}", &all] {
            let mut out = Vec::new();
            let mut object = Object::begin(&mut out);
            object.string("value", Some(text));
            object.string("absent", None);
            object.end();
            let read: Value = serde_json::from_slice(&out).unwrap();
            assert_eq!(read, json!({ "value": text }));
        }
    }

    #[test]
    fn texts_are_written_as_they_render() {
        for text in [
            Text::copied(b"plain"),
            Text::copied(b"a \"quote\" and a \\"),
            Text::copied("h\u{e4}".as_bytes()),
            Text::copied(b"a\xffb"),
            Text::Address("255.255.255.255:65535".parse().unwrap()),
            Text::Address("[::1]:80".parse().unwrap()),
            Text::Static("name"),
        ] {
            let mut out = Vec::new();
            let mut object = Object::begin(&mut out);
            object.text("value", Some(&text));
            object.end();
            let read: Value = serde_json::from_slice(&out).unwrap();
            assert_eq!(read, json!({ "value": text.render() }));
        }
    }

    #[test]
    fn numbers_are_whole_or_seconds_to_the_microsecond() {
        let cases = [(0, "0.0"), (1_234_567, "0.001235")];
        for (nanoseconds, shown) in cases {
            let mut out = Vec::new();
            let mut object = Object::begin(&mut out);
            object.number("count", Some(u64::MAX));
            object.seconds("took", Some(Duration::from_nanos(nanoseconds)));
            object.end();
            let expected = format!("{{\"count\":18446744073709551615,\"took\":{shown}}}");
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        }
    }
}
