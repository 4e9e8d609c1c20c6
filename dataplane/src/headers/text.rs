//! Header values that are put together for each message.

use http::{HeaderMap, HeaderValue, Version};
use meridian_model::header::{AddressPart, HeaderPart, HeaderText};
use std::borrow::Cow;
use std::fmt::Write as _;
use std::net::SocketAddr;

/// What a header's value may speak of: the request, and the connection it came by. Borrowed, so
/// that values without it cost nothing.
#[derive(Debug, Clone, Copy)]
pub struct MessageFacts<'a> {
    /// The client's end of the connection; `None` on a Unix socket.
    pub client: Option<SocketAddr>,
    /// Our end.
    pub local: Option<SocketAddr>,
    /// The SPIFFE ID in the client's certificate.
    pub identity: Option<&'a str>,
    /// The host name that the client asked for in its TLS handshake.
    pub server_name: Option<&'a str>,
    /// Whether the client came by TLS.
    pub secure: bool,
    /// The request's authority, port included.
    pub authority: Option<&'a str>,
    /// The request's method.
    pub method: &'a str,
    /// The request's path with its query.
    pub path: &'a str,
    /// The request's version.
    pub version: Version,
    /// The request's headers.
    pub headers: &'a HeaderMap,
}

/// The value for one message; `None` where nothing comes of it.
pub(super) fn value<'a>(
    text: &'a HeaderText,
    facts: &MessageFacts<'_>,
) -> Option<Cow<'a, HeaderValue>> {
    match text {
        HeaderText::Fixed(value) => Some(Cow::Borrowed(value)),
        HeaderText::Composed(parts) => {
            let mut composed = Vec::new();
            for part in parts {
                append(&mut composed, part, facts);
            }
            if composed.is_empty() {
                return None;
            }
            // All parts were header values or addresses before; what is none is not written.
            HeaderValue::from_bytes(&composed).ok().map(Cow::Owned)
        }
    }
}

fn append(composed: &mut Vec<u8>, part: &HeaderPart, facts: &MessageFacts<'_>) {
    let text = match part {
        HeaderPart::Text(text) => text.as_str(),
        HeaderPart::Client(part) => return append_address(composed, facts.client, *part),
        HeaderPart::Local(part) => return append_address(composed, facts.local, *part),
        HeaderPart::ClientIdentity => facts.identity.unwrap_or_default(),
        HeaderPart::ServerName => facts.server_name.unwrap_or_default(),
        HeaderPart::Protocol => protocol(facts.version),
        HeaderPart::Authority => facts.authority.unwrap_or_default(),
        HeaderPart::Method => facts.method,
        HeaderPart::Path => facts.path,
        HeaderPart::Scheme if facts.secure => "https",
        HeaderPart::Scheme => "http",
        HeaderPart::RequestHeader(name) => {
            if let Some(value) = facts.headers.get(name) {
                composed.extend_from_slice(value.as_bytes());
            }
            return;
        }
    };
    composed.extend_from_slice(text.as_bytes());
}

fn append_address(composed: &mut Vec<u8>, address: Option<SocketAddr>, part: AddressPart) {
    let Some(address) = address else {
        return;
    };
    let mut text = String::new();
    // Writing to a string can't fail.
    let _ = match part {
        AddressPart::Whole => write!(text, "{address}"),
        AddressPart::Ip => write!(text, "{}", address.ip()),
        AddressPart::Port => write!(text, "{}", address.port()),
    };
    composed.extend_from_slice(text.as_bytes());
}

/// As Envoy writes it.
fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_2 => "HTTP/2",
        _ => "HTTP/1.1",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderName;

    fn written(parts: Vec<HeaderPart>) -> Option<String> {
        let mut headers = HeaderMap::new();
        headers.append("x-a", HeaderValue::from_static("first"));
        headers.append("x-a", HeaderValue::from_static("second"));
        let facts = MessageFacts {
            client: Some(SocketAddr::from(([10, 0, 0, 1], 4000))),
            local: Some(SocketAddr::from(([10, 0, 0, 2], 80))),
            identity: None,
            server_name: Some("a.test"),
            secure: true,
            authority: Some("a.test:80"),
            method: "PUT",
            path: "/x?y=1",
            version: Version::HTTP_2,
            headers: &headers,
        };
        let text = HeaderText::Composed(parts);
        let value = value(&text, &facts)?;
        Some(value.to_str().unwrap().to_owned())
    }

    #[test]
    fn parts_stand_one_after_the_other() {
        let parts = vec![
            HeaderPart::Text("from ".to_owned()),
            HeaderPart::Client(AddressPart::Whole),
            HeaderPart::Text(" ".to_owned()),
            HeaderPart::Local(AddressPart::Port),
            HeaderPart::Text(" ".to_owned()),
            HeaderPart::RequestHeader(HeaderName::from_static("x-a")),
        ];
        assert_eq!(
            written(parts).as_deref(),
            Some("from 10.0.0.1:4000 80 first")
        );
        let request = vec![
            HeaderPart::Protocol,
            HeaderPart::Method,
            HeaderPart::Path,
            HeaderPart::Scheme,
            HeaderPart::Authority,
            HeaderPart::ServerName,
            HeaderPart::Client(AddressPart::Ip),
        ];
        assert_eq!(
            written(request).as_deref(),
            Some("HTTP/2PUT/x?y=1httpsa.test:80a.test10.0.0.1")
        );
    }

    #[test]
    fn nothing_is_written_where_nothing_is_known() {
        assert_eq!(written(vec![HeaderPart::ClientIdentity]), None);
        let absent = HeaderName::from_static("x-b");
        assert_eq!(written(vec![HeaderPart::RequestHeader(absent)]), None);
    }
}
