//! The characters of RFC 9110 and RFC 3986 that the guard tells apart.

use std::net::Ipv6Addr;

/// A character of a token: method, header name (RFC 9110, 5.6.2).
pub(super) fn is_token(byte: u8) -> bool {
    const TOKEN: [bool; 256] = table(b"!#$%&'*+-.^_`|~");
    TOKEN[usize::from(byte)]
}

/// A character of a host name or IPv4 address: unreserved, escapes and
/// sub-delimiters (RFC 3986, 3.2.2).
fn is_host(byte: u8) -> bool {
    const HOST: [bool; 256] = table(b"-._~%!$&'()*+,;=");
    HOST[usize::from(byte)]
}

/// Letters, digits and `others`.
const fn table(others: &[u8]) -> [bool; 256] {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = (byte as u8).is_ascii_alphanumeric();
        byte += 1;
    }
    let mut index = 0;
    while index < others.len() {
        table[others[index] as usize] = true;
        index += 1;
    }
    table
}

/// Whether a value may stand in a header: visible, space, tab, or beyond ASCII.
pub(super) fn is_value(value: &[u8]) -> bool {
    value
        .iter()
        .all(|byte| *byte >= b' ' && *byte != 0x7f || *byte == b'\t')
}

/// Cuts spaces and tabs off both ends (OWS of RFC 9110, 5.6.3).
pub(super) fn trim(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = value {
        value = rest;
    }
    while let [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

/// Whether this is `host [":" port]`, without user information.
pub(super) fn is_authority(authority: &[u8]) -> bool {
    let (host, port) = split_port(authority);
    let host_is_sound = match host {
        [b'[', address @ .., b']'] => {
            std::str::from_utf8(address).is_ok_and(|address| address.parse::<Ipv6Addr>().is_ok())
        }
        [] => false,
        name => name.iter().all(|byte| is_host(*byte)),
    };
    let port_is_sound = port.is_none_or(|port| {
        port.iter().all(u8::is_ascii_digit)
            && std::str::from_utf8(port)
                .is_ok_and(|port| port.is_empty() || port.parse::<u16>().is_ok())
    });
    host_is_sound && port_is_sound
}

/// Whether two sound authorities are the same under a scheme whose port is `default_port`.
pub(super) fn same_authority(one: &[u8], other: &[u8], default_port: &[u8]) -> bool {
    let normal = |authority| {
        let (host, port) = split_port(authority);
        (
            host,
            port.filter(|port| !port.is_empty()).unwrap_or(default_port),
        )
    };
    let (host, port) = normal(one);
    let (other_host, other_port) = normal(other);
    host.eq_ignore_ascii_case(other_host) && port == other_port
}

/// Host and port; the colons inside an IPv6 address divide nothing.
fn split_port(authority: &[u8]) -> (&[u8], Option<&[u8]>) {
    let start = memchr::memrchr(b']', authority).map_or(0, |bracket| bracket + 1);
    match memchr::memchr(b':', &authority[start..]) {
        Some(colon) => (
            &authority[..start + colon],
            Some(&authority[start + colon + 1..]),
        ),
        None => (authority, None),
    }
}

#[cfg(test)]
mod tests {
    use super::{is_authority, same_authority};

    #[test]
    fn authorities_are_host_and_port() {
        for sound in [
            "a",
            "a.b:80",
            "a:",
            "127.0.0.1:1",
            "[::1]",
            "[::1]:443",
            "x_y",
        ] {
            assert!(is_authority(sound.as_bytes()), "{sound}");
        }
        for broken in [
            "", ":80", "a:b", "a:1:2", "a@b", "a/b", "a b", "[::1", "::1", "[x]", "a:65536",
            "[::1]x",
        ] {
            assert!(!is_authority(broken.as_bytes()), "{broken}");
        }
    }

    #[test]
    fn the_default_port_changes_nothing() {
        assert!(same_authority(b"A.b", b"a.B:80", b"80"));
        assert!(same_authority(b"a:", b"a", b"80"));
        assert!(!same_authority(b"a:8080", b"a", b"80"));
        assert!(!same_authority(b"[::1]:80", b"[::2]", b"80"));
    }
}
