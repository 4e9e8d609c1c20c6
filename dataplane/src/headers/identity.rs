//! Headers by which a stranger could pretend to be someone, or somewhere, else.

use crate::headers::RequestHeader;
use http::HeaderName;

/// A set of header names, with prefixes. `_` and `.` count as `-`, because
/// application servers fold them together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeaderNames {
    exact: Vec<Box<str>>,
    prefixes: Vec<Box<str>>,
    /// The first letters of all of them, one bit each: most names have none of these.
    initials: u32,
}

impl HeaderNames {
    /// What is removed from requests that enter at the edge: where the client
    /// is, who it is, which certificate it showed, and which URL or method
    /// another proxy saw.
    pub fn edge() -> Self {
        Self::new(&EDGE, &EDGE_PREFIXES)
    }

    /// A set of names and of prefixes.
    pub fn new(exact: &[&str], prefixes: &[&str]) -> Self {
        let canonical = |name: &&str| {
            let bytes = name.bytes().map(canonical_byte).map(char::from);
            bytes.collect::<String>().into_boxed_str()
        };
        let initials = exact
            .iter()
            .chain(prefixes)
            .map(|name| initial(name.as_bytes()));
        Self {
            exact: exact.iter().map(canonical).collect(),
            prefixes: prefixes.iter().map(canonical).collect(),
            initials: initials.fold(0, std::ops::BitOr::bitor),
        }
    }

    /// Adds the name of a header that one of our filters writes.
    #[must_use]
    pub fn and(mut self, name: &HeaderName) -> Self {
        let added = Self::new(&[name.as_str()], &[]);
        self.exact.extend(added.exact);
        self.initials |= added.initials;
        self
    }

    /// Whether `name` or the name it is an alias of is in the set.
    pub fn contains(&self, name: &HeaderName) -> bool {
        let name = name.as_str().as_bytes();
        if self.initials & initial(name) == 0 {
            return false;
        }
        let starts_with = |listed: &str| {
            name.get(..listed.len()).is_some_and(|start| {
                let folded = start.iter().map(|byte| canonical_byte(*byte));
                folded.eq(listed.bytes())
            })
        };
        self.exact
            .iter()
            .any(|listed| listed.len() == name.len() && starts_with(listed))
            || self.prefixes.iter().any(|listed| starts_with(listed))
    }
}

/// Removes every header of the set; says how many names that were. Allocates
/// only for what it removes.
pub fn strip_headers(names: &HeaderNames, request: &mut RequestHeader) -> usize {
    let found: Vec<HeaderName> = request
        .headers
        .keys()
        .filter(|name| names.contains(name))
        .cloned()
        .collect();
    for name in &found {
        request.remove_header(name);
    }
    found.len()
}

const EDGE: [&str; 14] = [
    "cf-connecting-ip",
    "fastly-client-ip",
    "forwarded",
    "true-client-ip",
    "x-client-ip",
    "x-cluster-client-ip",
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
    "x-original-host",
    "x-original-url",
    "x-real-ip",
    "x-rewrite-url",
    "x-user",
];
const EDGE_PREFIXES: [&str; 6] = [
    "x-client-cert",
    "x-consul-",
    "x-consumer-",
    "x-envoy-",
    // For, Proto, Host, Port, Prefix, Server, Client-Cert and whatever comes next.
    "x-forwarded-",
    "x-jwt-",
];

/// The bit of a name's first letter; one for all that begin with something else.
fn initial(name: &[u8]) -> u32 {
    match name.first() {
        Some(byte) if byte.is_ascii_alphabetic() => 1 << (byte.to_ascii_lowercase() - b'a'),
        _ => 1 << 31,
    }
}

fn canonical_byte(byte: u8) -> u8 {
    match byte {
        b'_' | b'.' => b'-',
        byte => byte.to_ascii_lowercase(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strangers_lose_identity_headers_and_their_aliases() {
        let spoofed = [
            "X-Forwarded-For",
            "X-Forwarded-Proto",
            "X-Forwarded-Prefix",
            "X-Forwarded-Client-Cert",
            "X_Forwarded_For",
            "X.Forwarded.For",
            "x-forwarded_client.cert",
            "Forwarded",
            "X-Real-IP",
            "X_Real.IP",
            "X-Envoy-Original-Path",
            "X-Consul-Token",
            "X-Client-Cert-Dn",
            "X-HTTP-Method-Override",
            "X-User",
            "X_User",
            "X-Consumer-Id",
            "X-Authenticated.User",
        ];
        let harmless = [
            "X-Users",
            "Accept",
            "X-Request-Id",
            "Forwarded-To",
            "X-Forwarded",
        ];
        let mut request = RequestHeader::build("GET", b"/", None).unwrap();
        for name in spoofed.iter().chain(&harmless) {
            request.append_header(*name, "1").unwrap();
            request.append_header(*name, "2").unwrap();
        }
        let names = HeaderNames::edge().and(&HeaderName::from_static("x-authenticated-user"));
        assert_eq!(strip_headers(&names, &mut request), spoofed.len());
        let mut left: Vec<_> = request.headers.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        let mut expected = harmless.map(str::to_ascii_lowercase);
        expected.sort_unstable();
        assert_eq!(left, expected);
    }
}
