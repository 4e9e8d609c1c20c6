//! Tokens in tables: what is accepted, what is refused and for which flaw.

mod foreign;
mod requests;

use super::*;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use meridian_model::jwt::{ClaimRequirement, JwtAlgorithm, KeyMaterial, VerificationKey};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair};
use serde_json::json;
use std::time::{Duration, UNIX_EPOCH};

const NOW: u64 = 1_700_000_000;
const SKEW: u64 = 30;

fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(NOW)
}

fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn decode(text: &str) -> Vec<u8> {
    URL_SAFE_NO_PAD.decode(text).unwrap()
}

/// An issuer with an ES256 key.
struct Issuer {
    pair: EcdsaKeyPair,
}

impl Issuer {
    fn new() -> Self {
        let random = SystemRandom::new();
        let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let made = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
        let pair = EcdsaKeyPair::from_pkcs8(algorithm, made.as_ref(), &random).unwrap();
        Self { pair }
    }

    fn key(&self, id: Option<&str>) -> VerificationKey {
        let point = self.pair.public_key().as_ref();
        VerificationKey {
            id: id.map(str::to_owned),
            algorithm: None,
            material: KeyMaterial::P256 {
                x: point[1..33].to_vec(),
                y: point[33..].to_vec(),
            },
        }
    }

    fn sign(&self, header: &str, payload: &str) -> String {
        let signed = format!("{}.{}", encode(header), encode(payload));
        let signature = self.pair.sign(&SystemRandom::new(), signed.as_bytes());
        format!("{signed}.{}", encode(signature.unwrap()))
    }

    fn token(&self, claims: &Value) -> String {
        self.sign(r#"{"alg":"ES256","kid":"one"}"#, &claims.to_string())
    }
}

fn key(material: KeyMaterial) -> VerificationKey {
    VerificationKey {
        id: Some("rsa".into()),
        algorithm: None,
        material,
    }
}

fn rsa(modulus: &str) -> VerificationKey {
    key(KeyMaterial::Rsa {
        modulus: decode(modulus),
        exponent: vec![1, 0, 1],
    })
}

fn provider(name: &str, keys: &[VerificationKey]) -> JwtProvider {
    JwtProvider {
        name: name.into(),
        issuer: "https://issuer".into(),
        audiences: Vec::new(),
        locations: JwtProvider::default_locations(),
        forward_token: false,
        payload: None,
        clock_skew: Duration::from_secs(SKEW),
        keys: KeySet::Known(keys.into()),
        refresh: None,
    }
}

fn verify(model: &JwtProvider, token: &str) -> Result<Value, Flaw> {
    let provider = Provider::prepare(&Arc::new(model.clone()));
    let keys = provider.keys.as_deref().unwrap();
    provider
        .verify(token, keys, now())
        .map(|(claims, _)| claims)
}

fn claims() -> Value {
    json!({"iss": "https://issuer"})
}

fn with(name: &str, value: Value) -> Value {
    let mut claims = claims();
    claims[name] = value;
    claims
}

#[test]
fn accepts_what_another_library_signed() {
    let p384 = key(KeyMaterial::P384 {
        x: decode(foreign::P384.0),
        y: decode(foreign::P384.1),
    });
    let provider = provider("one", &[p384, rsa(foreign::MODULUS)]);
    for token in [
        foreign::RS256,
        foreign::RS384,
        foreign::RS512,
        foreign::PS256,
        foreign::ES384,
    ] {
        assert_eq!(verify(&provider, token), Ok(claims()), "{token}");
    }
}

#[test]
fn accepts_ed25519_and_refuses_a_touched_signature() {
    let made = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
    let pair = Ed25519KeyPair::from_pkcs8(made.as_ref()).unwrap();
    let point = KeyMaterial::Ed25519(pair.public_key().as_ref().to_vec());
    let provider = provider("one", &[key(point)]);
    let payload = encode(claims().to_string());
    let signed = format!("{}.{payload}", encode(r#"{"alg":"EdDSA"}"#));
    let mut signature = pair.sign(signed.as_bytes()).as_ref().to_vec();
    let token = |signature: &[u8]| format!("{signed}.{}", encode(signature));
    assert!(verify(&provider, &token(&signature)).is_ok());
    // S plus the group's order is another form of the same number (RFC 8032, 5.1.7).
    signature[63] |= 0x10;
    assert_eq!(verify(&provider, &token(&signature)), Err(Flaw::Signature));
}

#[test]
fn a_public_key_is_no_shared_secret() {
    let provider = provider("one", &[rsa(foreign::MODULUS)]);
    for token in [foreign::PEM_AS_SECRET, foreign::MODULUS_AS_SECRET] {
        assert_eq!(verify(&provider, token), Err(Flaw::Algorithm));
    }
}

#[test]
fn refuses_short_rsa_keys() {
    let provider = provider("one", &[rsa(foreign::SHORT_MODULUS)]);
    assert_eq!(
        verify(&provider, foreign::SHORT_RS256),
        Err(Flaw::Signature)
    );
}

#[test]
fn the_key_decides_on_the_algorithm() {
    let issuer = Issuer::new();
    let provider = provider("one", &[issuer.key(Some("one"))]);
    for alg in [
        "none", "None", "nOnE", "", "HS256", "RS256", "PS256", "ES384", "EdDSA", "es256",
    ] {
        let header = json!({"alg": alg, "kid": "one"}).to_string();
        let signed = issuer.sign(&header, &claims().to_string());
        assert_eq!(verify(&provider, &signed), Err(Flaw::Algorithm), "{alg}");
    }
    for header in [
        r#"{"kid":"one"}"#,
        r#"{"alg":["ES256"]}"#,
        r#"{"alg":1}"#,
        r#"{"alg":"none","alg":"ES256"}"#,
        "[]",
    ] {
        let signed = issuer.sign(header, &claims().to_string());
        assert_eq!(verify(&provider, &signed), Err(Flaw::Malformed), "{header}");
    }
}

#[test]
fn a_key_for_one_algorithm_verifies_no_other() {
    let mut restricted = rsa(foreign::MODULUS);
    restricted.algorithm = Some(JwtAlgorithm::Rs256);
    let provider = provider("one", &[restricted]);
    assert!(verify(&provider, foreign::RS256).is_ok());
    for token in [foreign::RS512, foreign::PS256] {
        assert_eq!(verify(&provider, token), Err(Flaw::Algorithm));
    }
}

#[test]
fn refuses_every_other_structure() {
    let issuer = Issuer::new();
    let provider = provider("one", &[issuer.key(None)]);
    let good = issuer.token(&claims());
    let parts: Vec<&str> = good.split('.').collect();
    let [header, payload, signature] = parts[..] else {
        panic!("{good}")
    };
    assert!(verify(&provider, &good).is_ok());
    let broken = [
        String::new(),
        "..".to_owned(),
        header.to_owned(),
        format!("{header}.{payload}"),
        format!("{header}.{payload}."),
        format!("{good}."),
        format!("{good}.{signature}"),
        format!("{good}.a.b.c"),
        format!("{good}="),
        format!("{good}\n"),
        format!(" {good}"),
        format!("{header}=.{payload}.{signature}"),
        format!("{header}.{payload}.+{}", &signature[1..]),
        json!({"protected": header, "payload": payload, "signature": signature}).to_string(),
    ];
    for token in broken {
        assert_eq!(verify(&provider, &token), Err(Flaw::Malformed), "{token}");
    }
    // A signature of 64 bytes leaves four bits of the last letter unused (wycheproof's
    // ModifiedPadding).
    let last = signature.as_bytes()[signature.len() - 1] as char;
    let sibling = ('A'..='z').find(|c| c.is_ascii_alphanumeric() && *c > last);
    let touched = format!("{}{}", &good[..good.len() - 1], sibling.unwrap());
    assert!(verify(&provider, &touched).is_err());
    let long = issuer.token(&with("long", "x".repeat(17 * 1024).into()));
    assert_eq!(verify(&provider, &long), Err(Flaw::TooLong));
}

#[test]
fn refuses_extensions_and_ignores_keys_that_a_token_brings() {
    let issuer = Issuer::new();
    let provider = provider("one", &[issuer.key(Some("one"))]);
    let sign = |header: Value| issuer.sign(&header.to_string(), &claims().to_string());
    for (name, value) in [
        ("crit", json!(["exp"])),
        ("crit", json!([])),
        ("b64", json!(false)),
        ("zip", json!("DEF")),
        ("enc", json!("A256GCM")),
    ] {
        let token = sign(json!({"alg": "ES256", "kid": "one", name: value}));
        assert_eq!(verify(&provider, &token), Err(Flaw::Unsupported), "{name}");
    }
    let stranger = Issuer::new();
    for name in ["jku", "x5u", "jwk", "x5c"] {
        let header = json!({"alg": "ES256", "kid": "one", name: "https://evil"}).to_string();
        let ours = issuer.sign(&header, &claims().to_string());
        assert!(verify(&provider, &ours).is_ok(), "{name} is not read");
        let theirs = stranger.sign(&header, &claims().to_string());
        assert_eq!(verify(&provider, &theirs), Err(Flaw::Signature), "{name}");
    }
}

#[test]
fn the_key_is_found_by_its_id() {
    let (one, two) = (Issuer::new(), Issuer::new());
    let both = provider("one", &[one.key(Some("one")), two.key(Some("two"))]);
    let header = |kid: Value| json!({"alg": "ES256", "kid": kid}).to_string();
    let payload = claims().to_string();
    assert!(verify(&both, &one.sign(&header("one".into()), &payload)).is_ok());
    assert!(verify(&both, &two.sign(&header("two".into()), &payload)).is_ok());
    assert_eq!(
        verify(&both, &two.sign(&header("one".into()), &payload)),
        Err(Flaw::Signature)
    );
    for kid in ["../../dev/null", "/etc/passwd", "' OR 1=1", "|cmd", ""] {
        let token = one.sign(&header(kid.into()), &payload);
        assert_eq!(verify(&both, &token), Err(Flaw::UnknownKey), "{kid}");
    }
    // Without a kid each key that fits is tried, as Envoy does.
    assert!(verify(&both, &two.sign(r#"{"alg":"ES256"}"#, &payload)).is_ok());
    let ambiguous = provider("one", &[one.key(Some("same")), two.key(Some("same"))]);
    assert!(verify(&ambiguous, &two.sign(&header("same".into()), &payload)).is_ok());
    let numbered = one.sign(&header(json!(1)), &payload);
    assert_eq!(verify(&both, &numbered), Err(Flaw::Malformed));
}

#[test]
fn times_count_with_the_skew() {
    let issuer = Issuer::new();
    let provider = provider("one", &[issuer.key(Some("one"))]);
    let at = |name, value: Value| verify(&provider, &issuer.token(&with(name, value))).err();
    let cases = [
        ("exp", json!(NOW + 60), None),
        ("exp", json!(NOW - SKEW + 1), None),
        ("exp", json!(NOW - SKEW - 1), Some(Flaw::Expired)),
        ("exp", json!(0), Some(Flaw::Expired)),
        ("exp", json!(NOW as f64 + 0.5), None),
        ("exp", json!((NOW + 60).to_string()), Some(Flaw::Malformed)),
        ("exp", json!(-5), Some(Flaw::Malformed)),
        ("exp", json!(1_u64 << 63), Some(Flaw::Malformed)),
        ("exp", json!(null), Some(Flaw::Malformed)),
        ("nbf", json!(NOW - 1), None),
        ("nbf", json!(NOW + SKEW - 1), None),
        ("nbf", json!(NOW + SKEW + 1), Some(Flaw::NotYet)),
        ("iat", json!(NOW + 1000), None),
    ];
    for (name, value, flaw) in cases {
        assert_eq!(at(name, value.clone()), flaw, "{name} {value}");
    }
    let twice = format!(r#"{{"iss":"https://issuer","exp":1,"exp":{}}}"#, NOW + 60);
    let token = issuer.sign(r#"{"alg":"ES256"}"#, &twice);
    assert_eq!(verify(&provider, &token), Err(Flaw::Malformed));
}

#[test]
fn issuer_and_audience_are_compared_to_the_letter() {
    let issuer = Issuer::new();
    let mut provider = provider("one", &[issuer.key(Some("one"))]);
    for iss in [
        json!("https://issuer/"),
        json!("https://Issuer"),
        json!(null),
    ] {
        let token = issuer.token(&with("iss", iss.clone()));
        assert_eq!(verify(&provider, &token), Err(Flaw::Issuer), "{iss}");
    }
    let missing = issuer.token(&json!({"sub": "me"}));
    assert_eq!(verify(&provider, &missing), Err(Flaw::Issuer));
    provider.audiences = vec!["api".into(), "web".into()];
    let cases = [
        (json!("api"), None),
        (json!(["x", "web"]), None),
        (json!("api.evil"), Some(Flaw::Audience)),
        (json!("ap"), Some(Flaw::Audience)),
        (json!([]), Some(Flaw::Audience)),
        (json!(["x"]), Some(Flaw::Audience)),
        (json!(5), Some(Flaw::Malformed)),
    ];
    for (aud, flaw) in cases {
        let token = issuer.token(&with("aud", aud.clone()));
        assert_eq!(verify(&provider, &token).err(), flaw, "{aud}");
    }
    assert_eq!(
        verify(&provider, &issuer.token(&claims())),
        Err(Flaw::Audience)
    );
}

#[test]
fn payloads_that_are_no_objects_are_refused() {
    let issuer = Issuer::new();
    let provider = provider("one", &[issuer.key(None)]);
    let deep = format!(
        r#"{{"iss":"https://issuer","a":{}1{}}}"#,
        "[".repeat(500),
        "]".repeat(500)
    );
    let nested = issuer.token(&claims());
    for payload in ["[]", "1", "", "{", &deep, &nested] {
        let token = issuer.sign(r#"{"alg":"ES256"}"#, payload);
        assert_eq!(
            verify(&provider, &token),
            Err(Flaw::Malformed),
            "{payload:.40}"
        );
    }
}

#[test]
fn claims_hold_as_strings_to_the_letter() {
    let claims = json!({"role": "admin", "groups": ["a", "b"], "n": 5, "yes": true,
        "a": {"b": {"c": "deep"}}, "a.b": "dotted"});
    let cases: [(&[&str], &str, bool); 11] = [
        (&["role"], "admin", true),
        (&["role"], "admi", false),
        (&["role"], "Admin", false),
        (&["a", "b", "c"], "deep", true),
        (&["a", "b"], "deep", false),
        (&["a.b"], "dotted", true),
        // Envoy compares with strings alone, whatever Consul's documentation says of lists.
        (&["groups"], "a", false),
        (&["groups", "0"], "a", false),
        (&["n"], "5", false),
        (&["yes"], "true", false),
        (&["none"], "", false),
    ];
    for (path, value, expected) in cases {
        let wanted = ClaimRequirement {
            path: path.iter().map(ToString::to_string).collect(),
            value: value.to_owned(),
        };
        assert_eq!(claims::hold(&claims, &[wanted]), expected, "{path:?}");
    }
}
