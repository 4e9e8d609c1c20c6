//! The host that a request is for, from `:authority` or `Host`.

use crate::headers::RequestHeader;
use http::HeaderValue;
use http::header::HOST;

/// The authority as the client wrote it, port included. `None` where there is
/// none, or more than one.
pub(crate) fn of(head: &RequestHeader) -> Option<&str> {
    if let Some(authority) = head.uri.authority() {
        return Some(authority.as_str()).filter(|text| is_valid(text));
    }
    let mut hosts = head.headers.get_all(HOST).iter();
    let host = hosts.next()?;
    if hosts.next().is_some() {
        return None;
    }
    host.to_str().ok().filter(|text| is_valid(text))
}

/// As [`of`], of a request that was admitted: its authority is valid.
pub(crate) fn admitted(head: &RequestHeader) -> Option<&str> {
    match head.uri.authority() {
        Some(authority) => Some(authority.as_str()),
        None => head.headers.get(HOST)?.to_str().ok(),
    }
}

/// As [`admitted`], for a header.
pub(crate) fn value(head: &RequestHeader) -> Option<HeaderValue> {
    match head.uri.authority() {
        Some(authority) => HeaderValue::from_str(authority.as_str()).ok(),
        None => head.headers.get(HOST).cloned(),
    }
}

/// A `uri-host` with an optional port (RFC 9110, 7.2): no userinfo, no path,
/// nothing that a second parser could cut elsewhere.
fn is_valid(authority: &str) -> bool {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((address, port)) if address.parse::<std::net::Ipv6Addr>().is_ok() => (None, port),
            _ => return false,
        },
        None => match authority.split_once(':') {
            Some((host, _)) => (Some(host), &authority[host.len()..]),
            None => (Some(authority), ""),
        },
    };
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=%".contains(&byte);
    let host_is_valid = host.is_none_or(|host| !host.is_empty() && host.bytes().all(legal));
    let port_is_valid = match port.strip_prefix(':') {
        Some(digits) => digits.is_empty() || digits.parse::<u16>().is_ok(),
        None => port.is_empty(),
    };
    host_is_valid && port_is_valid
}

#[cfg(test)]
mod tests {
    use super::is_valid;

    #[test]
    fn takes_hosts_with_and_without_port() {
        for good in [
            "a",
            "a.b:80",
            "127.0.0.1:1",
            "[::1]",
            "[::1]:443",
            "xn--a.example",
            "a_b:",
        ] {
            assert!(is_valid(good), "{good}");
        }
    }

    #[test]
    fn refuses_what_could_be_cut_elsewhere() {
        for bad in [
            "", ":80", "a/b", "u@a", "a b", "a:b", "a:80:80", "[::1", "[x]", "a:99999", "a#b",
            "a?b", "a\\b",
        ] {
            assert!(!is_valid(bad), "{bad}");
        }
    }
}
