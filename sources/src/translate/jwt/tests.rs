//! From entries to providers, and from intentions to what they ask for.

use super::*;
use crate::knowledge::{Fact, News};
use crate::translate::intention::authorization;
use meridian_model::jwt::KeyRefresh;
use meridian_model::{Decision, TrustDomain, Verdict};
use serde_json::{Value, json};
use std::time::SystemTime;

fn jwks() -> String {
    let x = "A".repeat(43);
    STANDARD.encode(json!({"keys": [{"kty": "OKP", "crv": "Ed25519", "x": x}]}).to_string())
}

fn entry(mut written: Value) -> JwtProviderEntry {
    written["Name"] = json!("okta");
    for (name, value) in [
        ("Issuer", json!("https://okta")),
        ("JSONWebKeySet", json!({"Local": {"JWKS": jwks()}})),
    ] {
        if written[name].is_null() {
            written[name] = value;
        }
    }
    serde_json::from_value(written).unwrap()
}

fn intentions() -> Vec<Intention> {
    let written = json!([{"SourceName": "web", "SourceNS": "default", "Action": "allow",
        "JWT": {"Providers": [{"Name": "okta",
            "VerifyClaims": [{"Path": ["a", "b"], "Value": "c"}]}]}}]);
    serde_json::from_value(written).unwrap()
}

fn learn(knowledge: &mut Knowledge, topic: Topic, fact: Fact) {
    knowledge.take(topic, News::Learned(fact), SystemTime::UNIX_EPOCH);
}

fn knowing(entry: Option<JwtProviderEntry>) -> Knowledge {
    let mut knowledge = Knowledge::default();
    let topic = Topic::JwtProvider("okta".to_owned());
    learn(&mut knowledge, topic, Fact::JwtProvider(Arc::new(entry)));
    knowledge
}

fn translated(written: Value) -> Result<Arc<JwtProvider>, String> {
    let (providers, waits) = providers(&intentions(), &knowing(Some(entry(written))));
    assert!(!waits);
    providers.0["okta"].clone()
}

#[test]
fn a_cache_of_tokens_changes_nothing() {
    let cached = translated(json!({"CacheConfig": {"Size": 5}}));
    assert!(cached.is_ok(), "{cached:?}");
    assert_eq!(cached, translated(json!({})));
}

#[test]
fn an_entry_becomes_a_provider() {
    let provider = translated(json!({
        "Audiences": ["api"], "ClockSkewSeconds": 12,
        "Locations": [
            {"Header": {"Name": "X-Token", "ValuePrefix": "Tok ", "Forward": true}},
            {"QueryParam": {"Name": "q"}}, {"Cookie": {"Name": "c"}}],
        "Forwarding": {"HeaderName": "X-Payload", "PadForwardPayloadHeader": true},
    }))
    .unwrap();
    assert_eq!(provider.issuer, "https://okta");
    assert_eq!(provider.audiences, ["api"]);
    assert_eq!(provider.clock_skew, Duration::from_secs(12));
    assert!(provider.forward_token);
    let token = TokenLocation::Header {
        name: "x-token".into(),
        value_prefix: "Tok ".into(),
    };
    let places = [
        token,
        TokenLocation::Query("q".into()),
        TokenLocation::Cookie("c".into()),
    ];
    assert_eq!(provider.locations, places);
    let payload = provider.payload.clone().unwrap();
    assert_eq!((payload.name.as_str(), payload.pad), ("x-payload", true));
    assert!(matches!(&provider.keys, KeySet::Known(keys) if keys.len() == 1));
    assert_eq!(provider.refresh, None);

    let plain = translated(json!({})).unwrap();
    assert_eq!(plain.locations, JwtProvider::default_locations());
    assert!(!plain.forward_token);
}

#[test]
fn an_entry_that_is_not_understood_is_no_provider() {
    for written in [
        json!({"Issuer": ""}),
        json!({"MaxAge": 5}),
        json!({"Locations": [{}]}),
        json!({"Locations": [{"Header": {"Name": "a b"}}]}),
        json!({"Locations": [{"Header": {"Name": "a"}, "Cookie": {"Name": "a"}}]}),
        json!({"Forwarding": {"HeaderName": ""}}),
    ] {
        assert!(translated(written.clone()).is_err(), "{written}");
    }
}

#[test]
fn keys_that_cannot_be_had_let_nobody_pass() {
    for (set, reason) in [
        (json!({}), "exactly one"),
        (json!({"Local": {"JWKS": "%"}}), "base64"),
        (
            json!({"Local": {"JWKS": STANDARD.encode("{}")}}),
            "no key set",
        ),
        (json!({"Local": {}}), "neither"),
        (json!({"Remote": {"URI": "ftp://x"}}), "http"),
        (
            json!({"Remote": {"URI": "https://x", "JWKSCluster": {"TLSCertificates":
                {"CaCertificateProviderInstance": {"InstanceName": "x"}}}}}),
            "TrustedCA",
        ),
    ] {
        let provider = translated(json!({"JSONWebKeySet": set})).unwrap();
        match &provider.keys {
            KeySet::Unavailable { reason: given } => assert!(given.contains(reason), "{given}"),
            known => panic!("{set}: {known:?}"),
        }
    }
}

#[test]
fn keys_elsewhere_are_followed_and_waited_for() {
    let remote = |asynchronous: bool| {
        entry(
            json!({"JSONWebKeySet": {"Remote": {"URI": "https://okta/jwks",
            "CacheDuration": 90_000_000_000_u64, "FetchAsynchronously": asynchronous,
            "RetryPolicy": {"RetryPolicyBackOff": {"BaseInterval": 2_000_000_000_u64}}}}}),
        )
    };
    let nothing = Knowledge::default();
    let named = Topic::JwtProvider("okta".to_owned());
    assert_eq!(
        wanted(&intentions(), &nothing),
        BTreeSet::from([named.clone()])
    );
    assert!(providers(&intentions(), &nothing).1, "the entry is awaited");

    assert!(!providers(&intentions(), &knowing(Some(remote(true)))).1);
    let mut knowledge = knowing(Some(remote(false)));
    let (unfetched, waits) = providers(&intentions(), &knowledge);
    assert!(waits, "the keys are awaited");
    let provider = unfetched.0["okta"].clone().unwrap();
    assert!(matches!(provider.keys, KeySet::Unavailable { .. }));

    let mut topics = wanted(&intentions(), &knowledge);
    assert!(topics.remove(&named));
    let keys = topics.pop_first().expect("the keys");
    let Topic::Keys(KeyOrigin::Remote(found)) = &keys else {
        panic!("{keys:?}")
    };
    assert_eq!(found.cache, Duration::from_secs(90));
    assert_eq!(found.first_pause, Duration::from_secs(2));
    assert_eq!(found.longest_pause, Duration::from_secs(20));

    let fetched = Keys {
        set: KeySet::Known(Arc::new([])),
        refresh: Arc::new(KeyRefresh::new(|| ())),
    };
    learn(&mut knowledge, keys, Fact::Keys(Arc::new(fetched.clone())));
    let (fetching, waits) = providers(&intentions(), &knowledge);
    assert!(!waits);
    let provider = fetching.0["okta"].clone().unwrap();
    assert_eq!(provider.keys, fetched.set);
    assert_eq!(provider.refresh, Some(fetched.refresh));
}

#[test]
fn an_intention_asks_for_its_tokens_or_denies() {
    let translate = |knowledge: &Knowledge| {
        let intentions = intentions();
        let (providers, _) = providers(&intentions, knowledge);
        authorization(
            &intentions,
            &TrustDomain::new("td"),
            Verdict::Allow,
            &providers,
        )
    };
    let (rules, rejected) = translate(&knowing(Some(entry(json!({})))));
    assert_eq!(rejected, []);
    assert_eq!(rules.intentions[0].decision, Decision::Allow);
    let wanted = &rules.intentions[0].jwt[0];
    assert_eq!(&*wanted.provider, "okta");
    assert_eq!(wanted.claims[0].path, ["a", "b"]);
    assert_eq!(rules.providers.len(), 1);

    let unreachable = entry(json!({"JSONWebKeySet": {"Local": {"JWKS": "%"}}}));
    let (rules, rejected) = translate(&knowing(Some(unreachable)));
    assert_eq!(rules.intentions[0].jwt.len(), 1);
    assert_eq!(rejected[0].resource, "jwt-provider okta");

    for knowledge in [Knowledge::default(), knowing(None)] {
        let (rules, rejected) = translate(&knowledge);
        assert_eq!(rules.intentions[0].decision, Decision::Deny);
        assert_eq!(rules.intentions[0].jwt, []);
        assert_eq!(rejected.len(), 1);
    }
}
