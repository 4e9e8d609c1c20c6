//! Texts with Envoy's command operators in them, such as `%REQ(:METHOD)%`.
//!
//! Consul hands formats of access logs and values of headers to Envoy as they stand, so its users
//! write Envoy's words. Here a text is only taken apart: which operators mean something, and what
//! becomes of those that don't, is another matter in each place.

use std::fmt;

/// A piece of such a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece<'a> {
    /// Itself; `%%` has become one percent sign. Two of these are never neighbours.
    Text(String),
    /// To be replaced.
    Operator(Operator<'a>),
    /// What follows a percent sign that no other closes: the rest of the text.
    Unclosed(&'a str),
}

/// `%NAME%` or `%NAME(ARGUMENT)%`, either with `:LENGTH` at its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Operator<'a> {
    /// The whole of it, without its percent signs.
    written: &'a str,
    /// What is asked for.
    pub name: &'a str,
    /// Of what.
    pub argument: Option<&'a str>,
    /// After how many characters the value is cut.
    pub length: Option<usize>,
}

/// Takes a text apart.
pub fn pieces(text: &str) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('%') {
        push(&mut pieces, before);
        if let Some(after) = after.strip_prefix('%') {
            push(&mut pieces, "%");
            rest = after;
            continue;
        }
        let Some(end) = end(after) else {
            pieces.push(Piece::Unclosed(after));
            return pieces;
        };
        pieces.push(Piece::Operator(Operator::new(&after[..end])));
        rest = &after[end + 1..];
    }
    push(&mut pieces, rest);
    pieces
}

fn push(pieces: &mut Vec<Piece<'_>>, text: &str) {
    match pieces.last_mut() {
        _ if text.is_empty() => {}
        Some(Piece::Text(last)) => last.push_str(text),
        _ => pieces.push(Piece::Text(text.to_owned())),
    }
}

/// Where the closing `%` is. One within parentheses, as in `START_TIME(%Y)`, is not.
fn end(text: &str) -> Option<usize> {
    let mut depth = 0_usize;
    text.char_indices().find_map(|(index, c)| {
        match c {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            '%' if depth == 0 => return Some(index),
            _ => {}
        }
        None
    })
}

impl<'a> Operator<'a> {
    fn new(written: &'a str) -> Self {
        let cut = written
            .rsplit_once(':')
            .and_then(|(call, length)| Some((call, Some(length.parse().ok()?))));
        let (call, length) = cut.unwrap_or((written, None));
        let inner = call
            .strip_suffix(')')
            .and_then(|call| call.split_once('('))
            .map(|(name, argument)| (name, Some(argument)));
        let (name, argument) = inner.unwrap_or((call, None));
        Self {
            written,
            name,
            argument,
            length,
        }
    }

    /// The header of the request that is asked for, where this is `REQ`. Of two, `REQ(A?B)`, the
    /// second counts where the first is one that Envoy alone writes; others stand as written.
    pub fn request_header(&self) -> Option<&'a str> {
        let argument = self.argument.filter(|_| self.name == "REQ")?;
        Some(match argument.split_once('?') {
            Some((first, second)) if first.eq_ignore_ascii_case(ORIGINAL_PATH) => second,
            _ => argument,
        })
    }
}

/// Where Envoy keeps the path of a request whose path it has rewritten. What is known of a
/// request here is its path before that.
const ORIGINAL_PATH: &str = "x-envoy-original-path";

impl fmt::Display for Operator<'_> {
    /// As it was written.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "%{}%", self.written)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Piece<'_> {
        Piece::Text(text.to_owned())
    }

    fn operator(written: &str) -> Operator<'_> {
        match pieces(written).as_slice() {
            [Piece::Operator(operator)] => *operator,
            other => panic!("{written}: {other:?}"),
        }
    }

    #[test]
    fn a_text_without_operators_is_one_piece() {
        assert_eq!(pieces(""), []);
        assert_eq!(pieces("a b"), [text("a b")]);
        assert_eq!(pieces("100%% sure%%"), [text("100% sure%")]);
    }

    #[test]
    fn operators_stand_between_texts() {
        let taken = pieces("a %PROTOCOL%%DURATION%%% b");
        let (protocol, duration) = (operator("%PROTOCOL%"), operator("%DURATION%"));
        let expected = [
            text("a "),
            Piece::Operator(protocol),
            Piece::Operator(duration),
            text("% b"),
        ];
        assert_eq!(taken, expected);
        assert_eq!((protocol.name, duration.name), ("PROTOCOL", "DURATION"));
    }

    #[test]
    fn an_operator_has_argument_and_length_where_they_are_written() {
        let parts = |written| {
            let operator = operator(written);
            assert_eq!(operator.to_string(), written);
            (operator.name, operator.argument, operator.length)
        };
        assert_eq!(parts("%PROTOCOL%"), ("PROTOCOL", None, None));
        assert_eq!(parts("%PROTOCOL:3%"), ("PROTOCOL", None, Some(3)));
        assert_eq!(parts("%REQ(:PATH)%"), ("REQ", Some(":PATH"), None));
        assert_eq!(parts("%REQ(X-A):12%"), ("REQ", Some("X-A"), Some(12)));
        let metadata = ("DYNAMIC_METADATA", Some("a:5"), None);
        assert_eq!(parts("%DYNAMIC_METADATA(a:5)%"), metadata);
        assert_eq!(parts("%ODD:b%"), ("ODD:b", None, None));
    }

    #[test]
    fn a_percent_sign_in_parentheses_closes_nothing() {
        let operator = operator("%START_TIME(%Y/%m)%");
        assert_eq!(operator.argument, Some("%Y/%m"));
    }

    #[test]
    fn what_has_no_end_is_the_last_piece() {
        assert_eq!(pieces("7%"), [text("7"), Piece::Unclosed("")]);
        assert_eq!(pieces("%REQ(a% b"), [Piece::Unclosed("REQ(a% b")]);
    }

    #[test]
    fn what_envoy_alone_writes_gives_way_to_its_alternative() {
        let header = |written| operator(written).request_header();
        assert_eq!(header("%REQ(X-Envoy-Original-Path?:PATH)%"), Some(":PATH"));
        assert_eq!(header("%REQ(X-A?X-B)%"), Some("X-A?X-B"));
        assert_eq!(header("%RESP(X-A)%"), None);
        assert_eq!(header("%REQ%"), None);
    }
}
