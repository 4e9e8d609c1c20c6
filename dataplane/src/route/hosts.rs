//! From a host name to the routes that may serve it.
//!
//! The most specific host wins, and there is no falling back to a less
//! specific one when none of its routes matches: that is how Envoy picks a
//! virtual host, and a route written for `*` can't reach into a host whose
//! owner did not write it.

use meridian_model::route::HostPorts;
use std::collections::HashMap;

/// The host of an authority (`example.com:8080`, `[::1]:80`): without its
/// port and without the trailing dot of a rooted name.
pub fn host_of_authority(authority: &str) -> &str {
    let host = match authority.rfind(':') {
        // A colon inside brackets belongs to an IPv6 address.
        Some(colon) if !authority[colon..].contains(']') => &authority[..colon],
        _ => authority,
    };
    host.strip_suffix('.').unwrap_or(host)
}

/// What of an authority is looked up: all of it where hosts are written with their ports.
pub(super) fn host_on(authority: &str, ports: HostPorts) -> &str {
    match ports {
        HostPorts::Any => host_of_authority(authority),
        HostPorts::Written => authority.strip_suffix('.').unwrap_or(authority),
    }
}

/// Values by host: exact before `*.` before `.*`, the longer wildcard before the shorter, `*` last.
#[derive(Debug, Clone)]
pub(super) struct HostMap<T> {
    exact: HashMap<Box<str>, T>,
    /// Keyed by what follows the star: `.example.com`.
    suffixes: HashMap<Box<str>, T>,
    /// Keyed by what precedes the star: `web.ingress.`.
    prefixes: HashMap<Box<str>, T>,
    any: Option<T>,
}

impl<T> HostMap<T> {
    pub(super) fn new() -> Self {
        Self {
            exact: HashMap::new(),
            suffixes: HashMap::new(),
            prefixes: HashMap::new(),
            any: None,
        }
    }

    /// Sets the value of a host as the model writes it.
    pub(super) fn insert(&mut self, host: &str, value: T) {
        let host = host.to_ascii_lowercase();
        match (host.strip_prefix('*'), host.strip_suffix('*')) {
            (Some(""), _) => self.any = Some(value),
            (Some(suffix), _) if suffix.starts_with('.') => {
                self.suffixes.insert(suffix.into(), value);
            }
            (_, Some(prefix)) if prefix.ends_with('.') => {
                self.prefixes.insert(prefix.into(), value);
            }
            _ => {
                self.exact.insert(host.into(), value);
            }
        }
    }

    /// The value of the most specific host that covers `host`, in any case.
    pub(super) fn find(&self, host: &str) -> Option<&T> {
        self.find_named(host).or(self.any.as_ref())
    }

    fn find_named(&self, host: &str) -> Option<&T> {
        if self.exact.is_empty() && self.suffixes.is_empty() && self.prefixes.is_empty() {
            return None;
        }
        let mut buffer = [0; MAX_HOST_BYTES];
        let lower = buffer.get_mut(..host.len())?;
        lower.copy_from_slice(host.as_bytes());
        lower.make_ascii_lowercase();
        let lower = std::str::from_utf8(lower).ok()?;
        if let Some(value) = self.exact.get(lower) {
            return Some(value);
        }
        // From the longest suffix to the shortest. The first byte is skipped:
        // a star stands for at least one label.
        let dots = || lower.match_indices('.').map(|(dot, _)| dot);
        dots()
            .filter(|dot| *dot > 0)
            .find_map(|dot| self.suffixes.get(&lower[dot..]))
            .or_else(|| {
                // From the longest prefix to the shortest, each with something behind it.
                dots()
                    .rev()
                    .filter(|dot| dot + 1 < lower.len())
                    .find_map(|dot| self.prefixes.get(&lower[..=dot]))
            })
    }
}

/// Longest DNS name (RFC 1035, 2.3.4), and a port. A longer host has no name in any table.
const MAX_HOST_BYTES: usize = 253 + ":65535".len();

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn authorities_lose_port_and_root() {
        let cases = [
            ("example.com", "example.com"),
            ("example.com:443", "example.com"),
            ("example.com.", "example.com"),
            ("example.com.:80", "example.com"),
            ("[::1]:80", "[::1]"),
            ("[::1]", "[::1]"),
            ("", ""),
        ];
        for (authority, host) in cases {
            assert_eq!(host_of_authority(authority), host, "{authority}");
        }
    }

    #[test]
    fn the_most_specific_host_wins() {
        let mut hosts = HostMap::new();
        for host in ["*", "*.example.com", "*.a.example.com", "b.example.com"] {
            hosts.insert(host, host);
        }
        let long = "x".repeat(300);
        let cases = [
            ("b.example.com", "b.example.com"),
            ("B.Example.COM", "b.example.com"),
            ("c.example.com", "*.example.com"),
            ("c.b.example.com", "*.example.com"),
            ("x.a.example.com", "*.a.example.com"),
            ("a.example.com", "*.example.com"),
            ("example.com", "*"),
            (".example.com", "*"),
            ("notexample.com", "*"),
            (long.as_str(), "*"),
        ];
        for (host, expected) in cases {
            assert_eq!(hosts.find(host), Some(&expected), "{host}");
        }
    }

    #[test]
    fn a_star_at_the_end_stands_for_any_labels() {
        let mut hosts = HostMap::new();
        for host in ["web.ingress.*", "web.*", "*.consul", "web.ingress.exact"] {
            hosts.insert(host, host);
        }
        let cases = [
            ("web.ingress.test", Some("web.ingress.*")),
            ("WEB.ingress.a.test:80", Some("web.ingress.*")),
            ("web.test", Some("web.*")),
            ("web.ingress.consul", Some("*.consul")),
            ("web.ingress.exact", Some("web.ingress.exact")),
            ("web.", None),
            ("other.ingress.test", None),
        ];
        for (host, expected) in cases {
            assert_eq!(hosts.find(host).copied(), expected, "{host}");
        }
    }

    #[test]
    fn another_port_is_another_host_where_ports_are_written() {
        let mut hosts = HostMap::new();
        for host in [
            "a.test",
            "b.test:9",
            "*.c.test:9",
            "web.ingress.*",
            "[::1]:9",
        ] {
            hosts.insert(host, host);
        }
        let cases = [
            ("a.test", Some("a.test")),
            ("A.test.", Some("a.test")),
            ("a.test:9", None),
            ("b.test:9", Some("b.test:9")),
            ("b.test:80", None),
            ("b.test:", None),
            ("b.test", None),
            ("x.c.test:9", Some("*.c.test:9")),
            ("x.c.test", None),
            ("web.ingress.test:80", Some("web.ingress.*")),
            ("[::1]:9", Some("[::1]:9")),
            ("[::1]", None),
        ];
        for (authority, expected) in cases {
            let host = host_on(authority, HostPorts::Written);
            assert_eq!(hosts.find(host).copied(), expected, "{authority}");
        }
        assert_eq!(host_on("a.test:80", HostPorts::Any), "a.test");
    }

    #[test]
    fn an_unknown_host_has_no_routes() {
        let mut hosts = HostMap::new();
        hosts.insert("a", 1);
        assert_eq!(hosts.find("b"), None);
    }
}
