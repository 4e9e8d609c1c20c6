//! Headers that are meant for the next hop alone (RFC 9110, 7.6.1).

use crate::headers::{RequestHeader, ResponseHeader};
use http::header::{CONNECTION, TE, UPGRADE};
use http::{HeaderMap, HeaderName, HeaderValue};

/// A request wants a header removed that its sender has no say over. Answer 400.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("connection header nominates {name}, which is not for the next hop alone")]
pub struct NominatedHeader {
    /// The nominated header.
    pub name: HeaderName,
}

/// What happens to `upgrade`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UpgradeHeaders {
    /// Removed: the request goes on as an ordinary one.
    Strip,
    /// Kept, with a `connection` header of our own, because the caller allows
    /// this upgrade.
    Keep,
}

/// The protocol a request wants to change to: the value of `upgrade`, where
/// `connection` nominates it too. Only `websocket` is commonly allowed.
pub fn requested_upgrade(headers: &HeaderMap) -> Option<&str> {
    let nominated =
        connection_options(headers).any(|option| option.eq_ignore_ascii_case(b"upgrade"));
    let protocol = headers.get(UPGRADE)?.to_str().ok()?.trim();
    (nominated && !protocol.is_empty()).then_some(protocol)
}

/// Removes everything that is not for the next server: what `connection`
/// nominates and the headers known to be hop-by-hop. `te: trailers` survives,
/// since gRPC asks for it. `transfer-encoding` stays: it frames the body, and
/// the codec that writes the request rewrites it.
///
/// # Errors
/// When a protected header is nominated: removing it would let a client delete
/// what the gateway or the application relies on.
pub fn strip_hop_by_hop(
    request: &mut RequestHeader,
    upgrade: UpgradeHeaders,
) -> Result<(), NominatedHeader> {
    if !any_for_one_hop(&request.headers) {
        return Ok(());
    }
    let nominated = nominated_headers(&request.headers);
    if let Some(name) = nominated.iter().find(|name| is_protected(name)) {
        return Err(NominatedHeader { name: name.clone() });
    }
    let wants_trailers = wants_trailers(&request.headers);
    let kept = kept_upgrade(&request.headers, upgrade);
    for name in nominated.iter().chain(&HOP_BY_HOP) {
        request.remove_header(name);
    }
    // The map just lost at least as many entries, so these inserts cannot
    // reach its limit.
    if wants_trailers {
        let _ = request.insert_header(TE, HeaderValue::from_static("trailers"));
    }
    if let Some(protocol) = kept {
        let _ = request.insert_header(UPGRADE, protocol);
        let _ = request.insert_header(CONNECTION, HeaderValue::from_static("upgrade"));
    }
    Ok(())
}

/// As [`strip_hop_by_hop`], for a response. Nominated protected headers stay:
/// a server's mistake is no reason to lose its answer.
pub fn strip_hop_by_hop_response(response: &mut ResponseHeader, upgrade: UpgradeHeaders) {
    if !any_for_one_hop(&response.headers) {
        return;
    }
    let nominated = nominated_headers(&response.headers);
    let kept = kept_upgrade(&response.headers, upgrade);
    let removable = nominated.iter().filter(|name| !is_protected(name));
    for name in removable.chain(&HOP_BY_HOP) {
        response.remove_header(name);
    }
    if let Some(protocol) = kept {
        // As above: the map lost these two entries before.
        let _ = response.insert_header(UPGRADE, protocol);
        let _ = response.insert_header(CONNECTION, HeaderValue::from_static("upgrade"));
    }
}

const HOP_BY_HOP: [HeaderName; 6] = [
    CONNECTION,
    HeaderName::from_static("proxy-connection"),
    HeaderName::from_static("keep-alive"),
    TE,
    UPGRADE,
    // Sent by HTTP/1.1 clients that ask for h2c; meaningless past this hop.
    HeaderName::from_static("http2-settings"),
];

/// Whether there is anything to remove: mostly there is not, and each name costs a look-up.
/// What `connection` nominates needs a `connection`.
fn any_for_one_hop(headers: &HeaderMap) -> bool {
    headers.keys().any(|name| {
        matches!(name.as_str().len(), 2 | 7 | 10 | 14 | 16) && HOP_BY_HOP.contains(name)
    })
}

/// Headers that no `connection` option may remove: framing, routing, identity,
/// and what other proxies wrote for the application.
const PROTECTED: [&str; 18] = [
    "authorization",
    "cache-control",
    "content-encoding",
    "content-length",
    "content-type",
    "cookie",
    "date",
    "expect",
    "forwarded",
    "host",
    "origin",
    "set-cookie",
    "trailer",
    "traceparent",
    "tracestate",
    "transfer-encoding",
    "via",
    "x-request-id",
];
const PROTECTED_PREFIXES: [&str; 7] = [
    "x-forwarded-",
    "x-real-",
    "x-envoy-",
    "x-consul-",
    "x-user",
    "x-consumer-",
    "x-jwt-",
];

fn is_protected(name: &HeaderName) -> bool {
    PROTECTED.contains(&name.as_str())
        || PROTECTED_PREFIXES
            .iter()
            .any(|prefix| name.as_str().starts_with(prefix))
}

/// Options of all `connection` headers, as they were written.
fn connection_options(headers: &HeaderMap) -> impl Iterator<Item = &[u8]> {
    headers
        .get_all(CONNECTION)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii)
}

/// Headers that `connection` nominates. `close` and `keep-alive` are no
/// headers, and `upgrade` and `te` are handled by name.
fn nominated_headers(headers: &HeaderMap) -> Vec<HeaderName> {
    connection_options(headers)
        // An option that is no header name nominates nothing.
        .filter_map(|option| HeaderName::from_bytes(option).ok())
        .filter(|name| name != "close" && name != "keep-alive")
        .collect()
}

fn wants_trailers(headers: &HeaderMap) -> bool {
    headers
        .get_all(TE)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .any(|coding| coding.trim_ascii().eq_ignore_ascii_case(b"trailers"))
}

fn kept_upgrade(headers: &HeaderMap, upgrade: UpgradeHeaders) -> Option<HeaderValue> {
    match upgrade {
        UpgradeHeaders::Strip => None,
        UpgradeHeaders::Keep => headers.get(UPGRADE).cloned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(headers: &[(&'static str, &'static str)]) -> RequestHeader {
        let mut request = RequestHeader::build("GET", b"/", None).unwrap();
        for (name, value) in headers {
            request.append_header(*name, *value).unwrap();
        }
        request
    }

    fn left(request: &RequestHeader) -> Vec<&str> {
        let mut names: Vec<_> = request.headers.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn what_is_for_one_hop_goes_no_further() {
        let mut request = request(&[
            ("Connection", "close, X-Hop"),
            ("Connection", "keep-alive, , te"),
            ("Keep-Alive", "timeout=5"),
            ("Proxy-Connection", "keep-alive"),
            ("TE", "gzip, trailers"),
            ("Upgrade", "h2c"),
            ("HTTP2-Settings", "AAMAAABkAAQAAP__"),
            ("X-Hop", "1"),
            ("X-Stays", "1"),
        ]);
        strip_hop_by_hop(&mut request, UpgradeHeaders::Strip).unwrap();
        assert_eq!(left(&request), ["te", "x-stays"]);
        assert_eq!(request.headers[TE], "trailers");
    }

    #[test]
    fn each_of_them_alone_is_removed() {
        for name in &HOP_BY_HOP {
            let mut request = request(&[("X-Stays", "1")]);
            request.insert_header(name, "gzip").unwrap();
            strip_hop_by_hop(&mut request, UpgradeHeaders::Strip).unwrap();
            assert_eq!(left(&request), ["x-stays"]);
        }
    }

    #[test]
    fn a_client_cannot_remove_what_others_rely_on() {
        for option in [
            "X-Forwarded-For",
            "x-user",
            "authorization",
            "content-length",
            "transfer-encoding",
            "Host",
            "cookie",
            "x-forwarded-client-cert",
        ] {
            let mut request = RequestHeader::build("GET", b"/", None).unwrap();
            let value = format!("close, {option}");
            request.insert_header("Connection", value).unwrap();
            let refused = strip_hop_by_hop(&mut request, UpgradeHeaders::Strip).unwrap_err();
            assert!(refused.name.as_str().eq_ignore_ascii_case(option));
        }
    }

    #[test]
    fn an_allowed_upgrade_survives_alone() {
        let headers = [
            ("Connection", "Upgrade, X-Hop"),
            ("Upgrade", "websocket"),
            ("X-Hop", "1"),
        ];
        let mut kept = request(&headers);
        assert_eq!(requested_upgrade(&kept.headers), Some("websocket"));
        strip_hop_by_hop(&mut kept, UpgradeHeaders::Keep).unwrap();
        assert_eq!(left(&kept), ["connection", "upgrade"]);
        assert_eq!(kept.headers[CONNECTION], "upgrade");

        let mut stripped = request(&headers);
        strip_hop_by_hop(&mut stripped, UpgradeHeaders::Strip).unwrap();
        assert!(left(&stripped).is_empty());
    }

    #[test]
    fn an_upgrade_needs_both_headers() {
        for headers in [
            &[("Upgrade", "websocket")][..],
            &[("Connection", "upgrade")][..],
            &[("Connection", "close"), ("Upgrade", "websocket")][..],
        ] {
            assert_eq!(requested_upgrade(&request(headers).headers), None);
        }
    }

    #[test]
    fn responses_keep_what_is_protected() {
        let mut response = ResponseHeader::build(200, None).unwrap();
        for (name, value) in [
            ("Connection", "content-length, x-hop"),
            ("Content-Length", "3"),
            ("X-Hop", "1"),
            ("Keep-Alive", "timeout=5"),
        ] {
            response.append_header(name, value).unwrap();
        }
        strip_hop_by_hop_response(&mut response, UpgradeHeaders::Strip);
        let names: Vec<_> = response.headers.keys().map(HeaderName::as_str).collect();
        assert_eq!(names, ["content-length"]);
    }
}
