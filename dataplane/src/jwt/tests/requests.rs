//! Requests in tables: where their tokens are looked for, and what becomes of them.

use super::*;
use meridian_model::jwt::{KeyRefresh, PayloadHeader, TokenLocation};
use std::sync::atomic::{AtomicU32, Ordering};

fn request(target: &str, headers: &[(&'static str, &str)]) -> RequestHeader {
    let mut head = RequestHeader::build("GET", target.as_bytes(), None).unwrap();
    for (name, value) in headers {
        head.append_header(*name, *value).unwrap();
    }
    head
}

fn requirement(provider: &str) -> JwtRequirement {
    JwtRequirement {
        provider: provider.into(),
        claims: Vec::new(),
    }
}

fn prepared(providers: impl IntoIterator<Item = JwtProvider>) -> Providers {
    let providers: Vec<_> = providers.into_iter().map(Arc::new).collect();
    Providers::prepare(&providers).unwrap()
}

#[test]
fn one_of_several_providers_is_enough() {
    let (one, two) = (Issuer::new(), Issuer::new());
    let providers = prepared([
        provider("one", &[one.key(None)]),
        provider("two", &[two.key(None)]),
    ]);
    let value = format!("Bearer {}", two.token(&claims()));
    let mut head = request("/", &[("authorization", &value)]);
    let tokens = providers.take_in(&mut head, now());
    let judge = |names: &[&str]| {
        let wanted: Vec<_> = names.iter().map(|name| requirement(name)).collect();
        tokens.judge(&wanted)
    };
    assert_eq!(judge(&[]), Judgement::Met);
    assert_eq!(judge(&["one"]), Judgement::Unmet);
    assert_eq!(judge(&["two"]), Judgement::Met);
    assert_eq!(judge(&["one", "two"]), Judgement::Met);
    assert_eq!(judge(&["three"]), Judgement::Unknown);
    assert!(!head.headers.contains_key("authorization"));
}

#[test]
fn nobody_can_say_without_keys() {
    let issuer = Issuer::new();
    let mut keyless = provider("one", &[]);
    keyless.keys = KeySet::Unavailable {
        reason: "not fetched yet".into(),
    };
    let providers = prepared([keyless]);
    let value = format!("Bearer {}", issuer.token(&claims()));
    let mut head = request("/", &[("authorization", &value)]);
    let judged = providers
        .take_in(&mut head, now())
        .judge(&[requirement("one")]);
    assert_eq!(judged, Judgement::Unknown);
    let judged = providers
        .take_in(&mut request("/", &[]), now())
        .judge(&[requirement("one")]);
    assert_eq!(judged, Judgement::Unmet);
}

#[test]
fn a_valid_token_goes_and_its_payload_comes() {
    let issuer = Issuer::new();
    let mut model = provider("one", &[issuer.key(None)]);
    model.payload = Some(PayloadHeader {
        name: "x-payload".into(),
        pad: false,
    });
    let token = issuer.token(&with("sub", "x".into()));
    let payload = token.split('.').nth(1).unwrap();
    let query = format!("/a?b=1&access_token={token}&c");
    let mut head = request(
        &query,
        &[("authorization", "Bearer bad"), ("x-payload", "spoofed")],
    );
    let tokens = prepared([model.clone()]).take_in(&mut head, now()).target;
    assert_eq!(tokens.as_deref(), Some("/a?b=1&c"));
    assert_eq!(head.headers["x-payload"], payload);
    assert_eq!(
        head.headers["authorization"], "Bearer bad",
        "it was not verified"
    );

    let mut spoofed = request("/", &[("x-payload", "spoofed"), ("X-Payload", "again")]);
    prepared([model.clone()]).take_in(&mut spoofed, now());
    assert!(!spoofed.headers.contains_key("x-payload"));

    model.forward_token = true;
    model.payload = Some(PayloadHeader {
        name: "x-payload".into(),
        pad: true,
    });
    let value = format!("Bearer {token}");
    let mut head = request("/", &[("authorization", &value)]);
    let target = prepared([model]).take_in(&mut head, now()).target;
    assert_eq!(target, None);
    assert_eq!(head.headers["authorization"], value.as_str());
    let padded = head.headers["x-payload"].to_str().unwrap();
    assert_eq!(padded.trim_end_matches('='), payload);
    assert_eq!(padded.len() % 4, 0);
}

#[test]
fn providers_may_share_a_place() {
    let issuer = Issuer::new();
    let other = JwtProvider {
        issuer: "https://other".into(),
        ..provider("other", &[issuer.key(None)])
    };
    let both = [
        provider("one", &[issuer.key(None)]),
        other,
        JwtProvider {
            locations: vec![TokenLocation::Cookie("tok".into())],
            ..provider("two", &[issuer.key(None)])
        },
    ];
    let token = issuer.token(&claims());
    let mut head = request(
        "/",
        &[
            ("authorization", &format!("Bearer {token}")),
            ("cookie", &format!("a=1; tok={token}")),
        ],
    );
    let providers = prepared(both);
    let tokens = providers.take_in(&mut head, now());
    assert_eq!(tokens.judge(&[requirement("one")]), Judgement::Met);
    assert_eq!(tokens.judge(&[requirement("other")]), Judgement::Unmet);
    assert_eq!(tokens.judge(&[requirement("two")]), Judgement::Met);
    assert!(head.headers.contains_key("cookie"), "cookies stay");
}

#[test]
fn an_unknown_key_asks_for_newer_ones_once() {
    let issuer = Issuer::new();
    let count = Arc::new(AtomicU32::new(0));
    let heard = Arc::clone(&count);
    let mut model = provider("one", &[issuer.key(Some("old"))]);
    model.refresh = Some(Arc::new(KeyRefresh::new(move || {
        heard.fetch_add(1, Ordering::Relaxed);
    })));
    let known = issuer.sign(r#"{"alg":"ES256","kid":"old"}"#, "[]");
    assert_eq!(verify(&model, &known), Err(Flaw::Malformed));
    assert_eq!(count.load(Ordering::Relaxed), 0);
    for number in 0..100 {
        let header = json!({"alg": "ES256", "kid": number.to_string()}).to_string();
        let token = issuer.sign(&header, &claims().to_string());
        assert_eq!(verify(&model, &token), Err(Flaw::UnknownKey));
    }
    assert_eq!(count.load(Ordering::Relaxed), 1);
}
