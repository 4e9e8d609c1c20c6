//! `tracestate`: what other tracing systems attached to a trace, passed on unread.

use std::sync::Arc;

use http::HeaderValue;

/// Members a list may have (W3C Trace Context 3.3.1.1). A longer one is dropped.
const MAX_MEMBERS: usize = 32;

/// Characters that are passed on; the specification asks for at least as many (3.3.1.5).
const MAX_LENGTH: usize = 512;

/// A member longer than this is the first to go when the list is too long (3.3.1.5).
const LONG_MEMBER: usize = 128;

/// The list of a `tracestate` header. Cheap to clone, mostly empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TraceState(Option<Arc<str>>);

impl TraceState {
    /// Joins the values of all `tracestate` headers, in order.
    ///
    /// A list with a malformed member or with more than 32 of them is dropped as
    /// a whole. One above 512 characters loses whole members: those above 128
    /// characters first, then those at the end.
    pub fn parse<'a>(values: impl Iterator<Item = &'a [u8]>) -> Self {
        let mut members = Vec::new();
        for value in values {
            let Ok(value) = std::str::from_utf8(value) else {
                return Self::default();
            };
            for member in value.split(',').map(|m| m.trim_matches([' ', '\t'])) {
                // Empty members are allowed, and mean nothing (3.3.1.2).
                if member.is_empty() {
                    continue;
                }
                if members.len() == MAX_MEMBERS || !is_member(member) {
                    return Self::default();
                }
                members.push(member);
            }
        }
        if joined_length(&members) > MAX_LENGTH {
            members.retain(|member| member.len() <= LONG_MEMBER);
        }
        while joined_length(&members) > MAX_LENGTH {
            members.pop();
        }
        Self((!members.is_empty()).then(|| members.join(",").into()))
    }

    /// The list as it goes out, or nothing when it is empty.
    pub fn as_str(&self) -> Option<&str> {
        self.0.as_deref()
    }

    /// The header's value, or nothing when the list is empty.
    pub fn header_value(&self) -> Option<HeaderValue> {
        // Members hold printable ASCII only, so this conversion succeeds.
        HeaderValue::from_str(self.as_str()?).ok()
    }
}

fn joined_length(members: &[&str]) -> usize {
    members
        .iter()
        .map(|member| member.len() + 1)
        .sum::<usize>()
        .saturating_sub(1)
}

/// Whether this is `key=value` by the grammar of 3.3.1.3.
fn is_member(member: &str) -> bool {
    member
        .split_once('=')
        .is_some_and(|(key, value)| is_key(key) && is_value(value))
}

fn is_key(key: &str) -> bool {
    let part = |part: &str, length: usize, digit_first: bool| {
        let first = part.bytes().next();
        (1..=length).contains(&part.len())
            && first.is_some_and(|b| b.is_ascii_lowercase() || digit_first && b.is_ascii_digit())
            && part
                .bytes()
                .all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-' | b'*' | b'/'))
    };
    match key.split_once('@') {
        None => part(key, 256, false),
        Some((tenant, system)) => part(tenant, 241, true) && part(system, 14, false),
    }
}

fn is_value(value: &str) -> bool {
    (1..=256).contains(&value.len())
        && value.bytes().all(|b| matches!(b, b' '..=b'~') && b != b'=')
        && !value.ends_with(' ')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(values: &[&str]) -> Option<String> {
        TraceState::parse(values.iter().map(|value| value.as_bytes()))
            .as_str()
            .map(str::to_owned)
    }

    #[test]
    fn joins_headers_in_order() {
        let joined = parse(&["rojo=00f067aa0ba902b7, congo=t61", "fw529a3039@dt=1"]);
        assert_eq!(
            joined.as_deref(),
            Some("rojo=00f067aa0ba902b7,congo=t61,fw529a3039@dt=1")
        );
    }

    #[test]
    fn skips_empty_members() {
        assert_eq!(parse(&["", " ,a=1,,\t"]).as_deref(), Some("a=1"));
        assert_eq!(parse(&["", ","]), None);
    }

    #[test]
    fn drops_a_list_with_a_malformed_member() {
        for bad in [
            "a", "=1", "A=1", "a=", "a=b=c", "1a=1", "a=\u{e9}", "a@1b=1", "a@b@c=1",
        ] {
            assert_eq!(parse(&["good=1", bad]), None, "{bad}");
        }
    }

    #[test]
    fn drops_a_list_with_too_many_members() {
        let members: Vec<String> = (0..33).map(|n| format!("k{n}=1")).collect();
        assert_eq!(parse(&[&members.join(",")]), None);
        assert!(parse(&[&members[..32].join(",")]).is_some());
    }

    #[test]
    fn shortens_by_whole_members_the_long_ones_first() {
        let long = format!("long={}", "x".repeat(200));
        let short: Vec<String> = (0..30).map(|n| format!("key{n:02}=0123456789")).collect();
        let list = parse(&[&long, &short.join(",")]).unwrap();
        assert!(list.len() <= MAX_LENGTH);
        assert!(list.starts_with("key00=0123456789,key01="), "{list}");
        assert!(list.split(',').all(|member| member.ends_with("0123456789")));
    }

    #[test]
    fn keeps_a_long_member_that_fits() {
        let long = format!("long={}", "x".repeat(200));
        assert_eq!(parse(&[&long]), Some(long.clone()));
    }
}
