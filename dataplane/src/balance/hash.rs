//! The hash of a request, for ring hash and Maglev.

use super::cookie::{GeneratedCookie, cookie_value};
use crate::route::{RequestFacts, query_value};
use fastrand::Rng;
use meridian_model::policy::{HashOn, HashPolicy};
use std::net::IpAddr;
use twox_hash::XxHash64;

/// A request's hash and what follows from making it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RequestHash {
    /// The hash; `None` where no policy found anything, then chance decides.
    pub hash: Option<u64>,
    /// Cookies that the response has to set.
    pub cookies: Vec<GeneratedCookie>,
}

/// Hashes a request by policies in order. Hashes are made and combined as
/// Envoy does (xxHash64; rotated by one bit, then exclusive or), and a terminal
/// policy that finds something ends the list. Allocates only for a cookie
/// that it generates, and for the text of an address.
pub fn request_hash(
    policies: &[HashPolicy],
    request: &RequestFacts<'_>,
    source: Option<IpAddr>,
    rng: &mut Rng,
) -> RequestHash {
    let mut result = RequestHash::default();
    for policy in policies {
        if let Some(hash) = hash_of(&policy.on, request, source, rng, &mut result.cookies) {
            let earlier = result.hash.map_or(0, |earlier| earlier.rotate_left(1));
            result.hash = Some(earlier ^ hash);
        }
        if policy.terminal && result.hash.is_some() {
            break;
        }
    }
    result
}

fn hash_of(
    on: &HashOn,
    request: &RequestFacts<'_>,
    source: Option<IpAddr>,
    rng: &mut Rng,
    cookies: &mut Vec<GeneratedCookie>,
) -> Option<u64> {
    match on {
        HashOn::Header(name) => {
            let values = request.headers.get_all(name).iter();
            values.fold(None, |seed, value| {
                Some(XxHash64::oneshot(seed.unwrap_or(0), value.as_bytes()))
            })
        }
        HashOn::Cookie { name, ttl, path } => {
            if let Some(value) = cookie_value(request.headers, name).filter(|v| !v.is_empty()) {
                return Some(text_hash(value));
            }
            let cookie = GeneratedCookie::new(name, (*ttl)?, path, rng);
            let hash = text_hash(cookie.value.as_bytes());
            cookies.push(cookie);
            Some(hash)
        }
        HashOn::Query(name) => {
            let value = query_value(request.query?, name)?;
            Some(text_hash(value.as_bytes()))
        }
        HashOn::SourceIp => Some(text_hash(source?.to_string().as_bytes())),
    }
}

fn text_hash(text: &[u8]) -> u64 {
    XxHash64::oneshot(0, text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::header::COOKIE;
    use http::{HeaderMap, HeaderName, HeaderValue, Method};
    use std::time::Duration;

    fn policy(on: HashOn) -> HashPolicy {
        HashPolicy {
            on,
            terminal: false,
        }
    }

    fn header() -> HashOn {
        HashOn::Header(HeaderName::from_static("x-user-id"))
    }

    fn cookie(ttl: Option<Duration>) -> HashOn {
        HashOn::Cookie {
            name: "c".into(),
            ttl,
            path: "/".into(),
        }
    }

    fn hashed(policies: &[HashPolicy], headers: &HeaderMap, source: Option<&str>) -> RequestHash {
        let request = RequestFacts {
            host: "h",
            path: "/",
            query: Some("q=query"),
            method: &Method::GET,
            headers,
        };
        let source = source.map(|source| source.parse().unwrap());
        request_hash(policies, &request, source, &mut Rng::with_seed(1))
    }

    fn headers() -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert("x-user-id", HeaderValue::from_static("user"));
        headers.insert(COOKIE, HeaderValue::from_static("c=crumb"));
        headers
    }

    #[test]
    fn every_source_gives_the_hash_of_its_text() {
        let cases = [
            (header(), "user"),
            (cookie(None), "crumb"),
            (HashOn::Query("q".into()), "query"),
            (HashOn::SourceIp, "10.0.0.1"),
        ];
        for (on, text) in cases {
            let result = hashed(&[policy(on)], &headers(), Some("10.0.0.1"));
            assert_eq!(result.hash, Some(text_hash(text.as_bytes())), "{text}");
            assert!(result.cookies.is_empty());
        }
    }

    #[test]
    fn nothing_found_gives_no_hash() {
        for on in [
            header(),
            cookie(None),
            HashOn::Query("x".into()),
            HashOn::SourceIp,
        ] {
            assert_eq!(hashed(&[policy(on)], &HeaderMap::new(), None).hash, None);
        }
    }

    #[test]
    fn hashes_combine_until_a_terminal_one() {
        let source = policy(HashOn::SourceIp);
        let both = hashed(&[policy(header()), source.clone()], &headers(), Some("::1"));
        let expected = text_hash(b"user").rotate_left(1) ^ text_hash(b"::1");
        assert_eq!(both.hash, Some(expected));

        let terminal = HashPolicy {
            on: header(),
            terminal: true,
        };
        let policies = [terminal, source];
        let stopped = hashed(&policies, &headers(), Some("::1"));
        assert_eq!(stopped.hash, Some(text_hash(b"user")));
        let passed = hashed(&policies, &HeaderMap::new(), Some("::1"));
        assert_eq!(passed.hash, Some(text_hash(b"::1")));
    }

    #[test]
    fn a_missing_cookie_is_generated_and_hashed_alike_next_time() {
        let policies = [policy(cookie(Some(Duration::from_secs(60))))];
        let first = hashed(&policies, &HeaderMap::new(), None);
        let [generated] = first.cookies.as_slice() else {
            panic!("one cookie is generated");
        };
        let mut headers = HeaderMap::new();
        let line = format!("c=\"{}\"", generated.value);
        headers.insert(COOKIE, HeaderValue::try_from(line).unwrap());
        let second = hashed(&policies, &headers, None);
        assert_eq!(first.hash, second.hash);
        assert!(second.cookies.is_empty());
    }
}
