//! Entrances for fuzzers: bytes as a peer might send them, through the decoders
//! that see them first. Each function panics where a promise is broken, and only
//! there.
//!
//! Compiled for tests and with the feature `fuzzing`, which `fuzz/` turns on.

use crate::headers::RequestHeader;
use crate::listener::take_in;
use crate::normalize::{Normalized, normalize};
use crate::proxy::append_element;
use http::HeaderValue;
use meridian_model::SpiffeId;
use meridian_model::listener::{EscapedSlashes, HeaderUnderscores, PathNormalization};
use rustls::server::Acceptor;

const XFCC: &str = "x-forwarded-client-cert";

/// Our own element, as every request of a connection gets it.
const ELEMENT: &str = "By=spiffe://td/ns/default/dc/dc1/svc/api;Hash=00;URI=spiffe://td/x";

/// The target of a request. The first byte chooses the rules.
///
/// What came through once comes through again unchanged, holds no dot segment,
/// and keeps its query.
pub fn path_normalization(bytes: &[u8]) {
    let Some((choice, target)) = bytes.split_first() else {
        return;
    };
    let rules = PathNormalization {
        enabled: choice & 1 == 0,
        merge_slashes: choice & 2 != 0,
        escaped_slashes: match choice >> 2 & 3 {
            0 => EscapedSlashes::Keep,
            1 => EscapedSlashes::Reject,
            2 => EscapedSlashes::UnescapeAndForward,
            _ => EscapedSlashes::UnescapeAndRedirect,
        },
        underscores: HeaderUnderscores::Allow,
    };
    let normal = match normalize(target, &rules) {
        Normalized::Reject(_) => return,
        Normalized::Unchanged => target.to_vec(),
        Normalized::Changed(text) | Normalized::Redirect(text) => text.into_bytes(),
    };
    assert_eq!(query_of(&normal), query_of(target), "the query was touched");
    if rules.enabled && target != b"*" {
        let path = normal
            .split(|byte| *byte == b'?')
            .next()
            .unwrap_or_default();
        assert_eq!(path.first(), Some(&b'/'), "no path");
        let mut segments = path.split(|byte| *byte == b'/');
        assert!(
            !segments.any(|segment| segment == b"." || segment == b".."),
            "a dot segment"
        );
        assert!(!path.contains(&b'\\'), "a backslash");
    }
    if rules.enabled && rules.escaped_slashes != EscapedSlashes::UnescapeAndForward {
        let again = normalize(&normal, &rules);
        assert_eq!(again, Normalized::Unchanged, "not the same twice");
    }
}

fn query_of(target: &[u8]) -> &[u8] {
    let start = target.iter().position(|byte| *byte == b'?');
    &target[start.unwrap_or(target.len())..]
}

/// A request over HTTP/1, as a client sends it: see `downstream/fuzzing.rs`.
pub fn http1_request(bytes: &[u8]) {
    crate::downstream::fuzzing::request(bytes);
}

/// A response over HTTP/1.1, as an upstream sends it: see `upstream/session/http1/fuzzing.rs`.
pub fn http1_response(bytes: &[u8]) {
    crate::upstream::session::fuzzing::response(bytes);
}

/// The first message of a handshake. The first byte says in pieces of which size
/// it comes, which makes no difference.
pub fn client_hello(bytes: &[u8]) {
    let Some((size, hello)) = bytes.split_first() else {
        return;
    };
    let size = usize::from(*size).max(1);
    let whole = peek(hello, hello.len().max(1));
    assert_eq!(peek(hello, size), whole, "pieces of {size}");
    if let Some(name) = whole {
        assert_eq!(name, name.to_ascii_lowercase());
    }
}

fn peek(hello: &[u8], size: usize) -> Option<String> {
    let mut acceptor = Acceptor::default();
    for piece in hello.chunks(size) {
        match take_in(&mut acceptor, piece) {
            Ok(None) => {}
            Ok(Some(name)) => return Some(name.to_string()),
            Err(_) => return None,
        }
    }
    None
}

/// A SPIFFE ID from a certificate. What is read is read the same way again, and a
/// service written anew is the same service.
pub fn spiffe_id(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let Ok(id) = SpiffeId::parse(text) else {
        return;
    };
    assert_eq!(id.as_str(), text);
    let Some(service) = id.service() else {
        return;
    };
    let written = SpiffeId::service_of(id.trust_domain(), service);
    if written.as_str().len() <= 2048 {
        let again = SpiffeId::parse(written.as_str()).expect("what was written can be read");
        assert_eq!(again.service(), Some(service));
        assert_eq!(again.trust_domain(), id.trust_domain());
    }
}

/// Lines of `x-forwarded-client-cert` from a mesh peer. They stay, in their order,
/// and our element is the last.
pub fn forwarded_certificate(bytes: &[u8]) {
    let lines: Vec<_> = bytes
        .split(|byte| *byte == b'\n')
        .filter_map(|line| HeaderValue::from_bytes(line).ok())
        .collect();
    let mut head = RequestHeader::build("GET", b"/", None).expect("a plain head");
    for line in &lines {
        if head.append_header(XFCC, line).is_err() {
            return;
        }
    }
    let element = HeaderValue::from_static(ELEMENT);
    append_element(&mut head, &element).expect("room for one header");
    let mut after = head.headers.get_all(XFCC).iter();
    let joined = after.next().expect("our element").as_bytes();
    assert!(after.next().is_none(), "one line");
    let mut expected = Vec::new();
    for line in &lines {
        expected.extend_from_slice(line.as_bytes());
        expected.push(b',');
    }
    expected.extend_from_slice(ELEMENT.as_bytes());
    assert_eq!(joined, expected);
}

#[cfg(test)]
mod tests {
    use super::*;
    use meridian_tests::corpus::{Corpus, ROUNDS};

    #[test]
    fn paths_of_the_corpus_and_their_mutations() {
        Corpus::read("path_normalization").mutated(ROUNDS, path_normalization);
    }

    #[test]
    fn requests_of_the_corpus_and_their_mutations() {
        Corpus::read("http1_request").mutated(ROUNDS, http1_request);
    }

    #[test]
    fn responses_of_the_corpus_and_their_mutations() {
        Corpus::read("http1_response").mutated(ROUNDS, http1_response);
    }

    #[test]
    fn first_messages_of_the_corpus_and_their_mutations() {
        Corpus::read("client_hello").mutated(ROUNDS, client_hello);
    }

    #[test]
    fn identities_of_the_corpus_and_their_mutations() {
        Corpus::read("spiffe_id").mutated(ROUNDS, spiffe_id);
    }

    #[test]
    fn certificate_headers_of_the_corpus_and_their_mutations() {
        Corpus::read("forwarded_certificate").mutated(ROUNDS, forwarded_certificate);
    }
}
