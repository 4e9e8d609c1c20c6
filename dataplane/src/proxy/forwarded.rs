//! Headers that tell an upstream who is calling: request ID, forwarding
//! headers, and the client certificate as Consul's Envoy sends it.

use crate::tls::PeerCertificate;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD as BASE64;
use http::{HeaderName, HeaderValue};
use meridian_model::SpiffeId;
use std::fmt::Write as _;

/// `x-forwarded-client-cert`, Envoy's XFCC.
pub(crate) const CLIENT_CERTIFICATE: HeaderName =
    HeaderName::from_static("x-forwarded-client-cert");
/// Addresses that a request came by, client first.
pub(crate) const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// Scheme that the client used.
pub(crate) const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
/// Host that the client named.
pub(crate) const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// Longest request ID that is taken over from a client.
const MAX_REQUEST_ID: usize = 128;

/// The element that this proxy adds to XFCC for a peer, in the order and the
/// encoding of Envoy: `By`, `Hash`, `Cert`, `Chain`, `Subject`, `URI`.
///
/// Some kilobytes long, so it is made once a connection.
pub(crate) fn client_certificate(own: &SpiffeId, peer: &PeerCertificate) -> Option<HeaderValue> {
    let mut chain = String::new();
    let mut leaf = String::new();
    for (position, certificate) in peer.chain.iter().enumerate() {
        let pem = percent_encoded_pem(certificate);
        if position == 0 {
            leaf.clone_from(&pem);
        }
        chain.push_str(&pem);
    }
    let mut element = String::with_capacity(chain.len() + leaf.len() + 256);
    // Writing to a string can't fail.
    let _ = write!(
        element,
        "By={own};Hash={};Cert=\"{leaf}\";Chain=\"{chain}\";Subject=\"\";URI={}",
        peer.hash, peer.spiffe
    );
    // SPIFFE IDs are printable; if one ever is not, nothing is claimed.
    HeaderValue::from_str(&element).ok()
}

/// The client's ID if it may stand, or a new one.
pub(crate) fn request_id(offered: Option<&HeaderValue>) -> HeaderValue {
    let legal = |value: &&HeaderValue| {
        let bytes = value.as_bytes();
        !bytes.is_empty()
            && bytes.len() <= MAX_REQUEST_ID
            && bytes
                .iter()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(byte))
    };
    offered
        .filter(legal)
        .cloned()
        .unwrap_or_else(new_request_id)
}

/// A random UUID, version 4 (RFC 9562, 5.4).
fn new_request_id() -> HeaderValue {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut random = fastrand::u128(..).to_be_bytes();
    random[6] = (random[6] & 0x0f) | 0x40;
    random[8] = (random[8] & 0x3f) | 0x80;
    let mut text = [b'-'; 36];
    let mut at = 0;
    for (index, byte) in random.iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            at += 1;
        }
        text[at] = DIGITS[usize::from(byte >> 4)];
        text[at + 1] = DIGITS[usize::from(byte & 15)];
        at += 2;
    }
    HeaderValue::from_bytes(&text).unwrap_or(HeaderValue::from_static("-"))
}

/// PEM, percent-encoded as Envoy does: everything that means something in XFCC or a header.
pub(crate) fn percent_encoded_pem(der: &[u8]) -> String {
    let text = BASE64.encode(der);
    let mut out = String::with_capacity(text.len() + text.len() / 8 + 80);
    out.push_str("-----BEGIN%20CERTIFICATE-----%0A");
    for (position, character) in text.chars().enumerate() {
        // A line of PEM holds 64 characters (RFC 7468, section 2).
        if position != 0 && position % 64 == 0 {
            out.push_str("%0A");
        }
        match character {
            '+' => out.push_str("%2B"),
            '/' => out.push_str("%2F"),
            '=' => out.push_str("%3D"),
            other => out.push(other),
        }
    }
    out.push_str("%0A-----END%20CERTIFICATE-----%0A");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_a_clients_id_only_if_it_is_harmless() {
        let keep = HeaderValue::from_static("abc-123_x.y");
        assert_eq!(request_id(Some(&keep)), keep);
        for bad in ["", "a b", "a\"b", "ä", &"x".repeat(129)] {
            let value = HeaderValue::from_bytes(bad.as_bytes()).unwrap();
            assert_ne!(request_id(Some(&value)), value, "{bad}");
        }
    }

    #[test]
    fn new_ids_are_uuids_and_differ() {
        let id = request_id(None);
        let text = id.to_str().unwrap();
        assert_eq!(text.len(), 36);
        assert_eq!(&text[14..15], "4");
        assert!("89ab".contains(&text[19..20]));
        assert_ne!(id, request_id(None));
    }

    #[test]
    fn pem_is_encoded_as_envoy_does() {
        let encoded = percent_encoded_pem(&[0xfb; 50]);
        assert!(encoded.starts_with("-----BEGIN%20CERTIFICATE-----%0A%2B"));
        assert!(encoded.ends_with("%3D%0A-----END%20CERTIFICATE-----%0A"));
        assert!(!encoded.contains([',', ';', '"', '=', '/', '+', ' ']));
    }
}
