//! One line of text, appended to a buffer: words with a space between them, quoted where a
//! reader could take them for more than one.

use std::time::Duration;

use super::digits::{put_number, put_seconds};
use crate::text::Text;

/// A line in the making.
pub(super) struct Words<'b> {
    out: &'b mut Vec<u8>,
    has_word: bool,
}

impl<'b> Words<'b> {
    /// Begins it at the end of `out`.
    pub(super) fn begin(out: &'b mut Vec<u8>) -> Self {
        Self {
            out,
            has_word: false,
        }
    }

    /// A word that needs no quotes.
    pub(super) fn word(&mut self, word: &str) {
        self.space();
        self.out.extend_from_slice(word.as_bytes());
    }

    /// A string, or a dash where there is none.
    pub(super) fn text(&mut self, text: Option<&Text>) {
        match text {
            Some(text) => {
                self.space();
                put_text(self.out, text);
            }
            None => self.word("-"),
        }
    }

    /// A whole number, or a dash where there is none.
    pub(super) fn number(&mut self, number: Option<impl itoa::Integer>) {
        match number {
            Some(number) => {
                self.space();
                put_number(self.out, number);
            }
            None => self.word("-"),
        }
    }

    /// Seconds to the microsecond.
    pub(super) fn seconds(&mut self, duration: Duration) {
        self.space();
        put_seconds(self.out, duration, "");
    }

    /// `"METHOD path?query protocol"`, without what is absent.
    pub(super) fn request(
        &mut self,
        method: Option<&str>,
        path: Option<&Text>,
        query: Option<&Text>,
        protocol: &str,
    ) {
        self.space();
        self.out.push(b'"');
        if let Some(method) = method {
            put_escaped(self.out, method);
            self.out.push(b' ');
        }
        if let Some(path) = path {
            put_escaped(self.out, &path.render());
            if let Some(query) = query {
                self.out.push(b'?');
                put_escaped(self.out, &query.render());
            }
            self.out.push(b' ');
        }
        put_escaped(self.out, protocol);
        self.out.push(b'"');
    }

    /// `key=value`, if there is a value. `key` needs no quotes.
    pub(super) fn pair(&mut self, key: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.key(key);
            put_value(self.out, value);
        }
    }

    /// The same of a string that is yet to be rendered.
    pub(super) fn text_pair(&mut self, key: &str, value: Option<&Text>) {
        if let Some(value) = value {
            self.key(key);
            put_text(self.out, value);
        }
    }

    /// The same of a number.
    pub(super) fn number_pair(&mut self, key: &str, value: impl itoa::Integer) {
        self.key(key);
        put_number(self.out, value);
    }

    /// The same of seconds.
    pub(super) fn seconds_pair(&mut self, key: &str, value: Option<Duration>) {
        if let Some(value) = value {
            self.key(key);
            put_seconds(self.out, value, "");
        }
    }

    fn key(&mut self, key: &str) {
        self.word(key);
        self.out.push(b'=');
    }

    fn space(&mut self) {
        if self.has_word {
            self.out.push(b' ');
        }
        self.has_word = true;
    }
}

fn put_text(out: &mut Vec<u8>, text: &Text) {
    match text {
        // ASCII needs no look at its encoding.
        Text::Short(value) if is_plain(value.as_bytes()) => {
            out.extend_from_slice(value.as_bytes());
        }
        text => put_value(out, &text.render()),
    }
}

fn put_value(out: &mut Vec<u8>, value: &str) {
    if is_plain(value.as_bytes()) {
        out.extend_from_slice(value.as_bytes());
        return;
    }
    out.push(b'"');
    put_escaped(out, value);
    out.push(b'"');
}

/// Whether a value reads as one word without quotes. Looks at all of it, instead of stopping at
/// the first byte that is in the way.
fn is_plain(value: &[u8]) -> bool {
    let plain = |plain, byte: &u8| plain & PLAIN[usize::from(*byte)];
    !value.is_empty() && value.iter().fold(true, plain)
}

/// Letters, digits and what stands in addresses and names.
const PLAIN: [bool; 256] = {
    let mut plain = [false; 256];
    let mut byte = 0;
    while byte < 128 {
        plain[byte] = (byte as u8).is_ascii_alphanumeric();
        byte += 1;
    }
    let others = b"-._~:/@[]+%";
    let mut at = 0;
    while at < others.len() {
        plain[others[at] as usize] = true;
        at += 1;
    }
    plain
};

/// Appends what stands between quotes, which ends neither them nor the line.
fn put_escaped(out: &mut Vec<u8>, text: &str) {
    if is_plain(text.as_bytes()) {
        out.extend_from_slice(text.as_bytes());
        return;
    }
    for character in text.chars() {
        let mut bytes = [0; 4];
        match character {
            '"' | '\\' => out.extend_from_slice(&[b'\\', character as u8]),
            // U+2028 and U+2029 end a line too, for some readers.
            '\u{2028}' | '\u{2029}' => put_code(out, character),
            _ if character.is_control() => put_code(out, character),
            _ => out.extend_from_slice(character.encode_utf8(&mut bytes).as_bytes()),
        }
    }
}

fn put_code(out: &mut Vec<u8>, character: char) {
    out.extend(character.escape_unicode().map(|ascii| ascii as u8));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(write: impl FnOnce(&mut Words<'_>)) -> String {
        let mut out = Vec::new();
        write(&mut Words::begin(&mut out));
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn values_are_quoted_where_they_could_read_as_more_than_one() {
        for (value, shown) in [
            ("", "\"\""),
            ("plain-1.2_~:/@[]+%", "plain-1.2_~:/@[]+%"),
            ("two words", "\"two words\""),
            ("a=b", "\"a=b\""),
            ("a\"b\\c", r#""a\"b\\c""#),
            ("a\nb", r#""a\u{a}b""#),
            ("\u{2028}", r#""\u{2028}""#),
            ("h\u{e4}", "\"h\u{e4}\""),
        ] {
            let expected = format!("k={shown}");
            assert_eq!(line(|words| words.pair("k", Some(value))), expected);
            let text = Text::copied(value.as_bytes());
            assert_eq!(line(|words| words.text_pair("k", Some(&text))), expected);
        }
    }

    #[test]
    fn what_is_absent_is_a_dash_or_left_out() {
        let shown = line(|words| {
            words.text(None);
            words.number(None::<u16>);
            words.request(None, None, None, "TCP");
            words.pair("k", None);
            words.seconds_pair("s", None);
            words.seconds(Duration::from_millis(1500));
        });
        assert_eq!(shown, "- - \"TCP\" 1.5");
    }

    #[test]
    fn a_request_ends_neither_its_quotes_nor_the_line() {
        let path = Text::Static("/a\" b\r\n");
        let shown = line(|words| {
            words.request(Some("GET"), Some(&path), Some(&Text::Static("q")), "HTTP/2");
        });
        assert_eq!(shown, r#""GET /a\" b\u{d}\u{a}?q HTTP/2""#);
    }
}
