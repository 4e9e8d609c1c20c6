//! A key set (RFC 7517), as plain keys.
//!
//! A key that is not served is left out by itself. Left out on purpose are shared secrets (`oct`)
//! and private keys: whoever publishes one has no secret any more.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use meridian_model::jwt::{JwtAlgorithm, KeyMaterial, VerificationKey};
use serde_json::{Value, json};

/// Issuers have a handful of keys; each may be tried for a token without `kid`.
const MOST: usize = 100;

/// Shorter RSA keys are refused wherever signatures are verified (RFC 7518, 3.3).
const LEAST_RSA_BITS: usize = 2048;

/// Why there are no keys.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BadKeySet {
    #[error("it is not JSON")]
    Json(#[source] serde_json::Error),
    #[error("it has no list `keys`")]
    NoList,
    #[error("it has more than 100 keys")]
    TooMany,
    #[error("it has no key that can be used ({})", .0.first().map_or("it is empty", String::as_str))]
    NoKey(Vec<String>),
}

/// The keys of a set.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Parsed {
    /// At least one.
    pub(crate) keys: Vec<VerificationKey>,
    /// Those that were left out, and why.
    pub(crate) refused: Vec<String>,
}

/// Reads a key set.
pub(crate) fn parse(text: &[u8]) -> Result<Parsed, BadKeySet> {
    let document: Value = serde_json::from_slice(text).map_err(BadKeySet::Json)?;
    let list = document["keys"].as_array().ok_or(BadKeySet::NoList)?;
    if list.len() > MOST {
        return Err(BadKeySet::TooMany);
    }
    let (mut keys, mut refused) = (Vec::new(), Vec::new());
    for (index, written) in list.iter().enumerate() {
        match key(written) {
            Ok(key) => keys.push(key),
            Err(reason) => {
                let id = written["kid"].as_str().unwrap_or("without kid");
                refused.push(format!("key {index} ({id}): {reason}"));
            }
        }
    }
    if keys.is_empty() {
        return Err(BadKeySet::NoKey(refused));
    }
    Ok(Parsed { keys, refused })
}

/// The same set without the keys that are not served, to be kept; what can't be read is empty.
pub(super) fn accepted(text: &[u8]) -> Vec<u8> {
    let document: Value = serde_json::from_slice(text).unwrap_or_default();
    let list = document["keys"].as_array().into_iter().flatten();
    let served: Vec<_> = list.filter(|written| key(written).is_ok()).collect();
    json!({ "keys": served }).to_string().into_bytes()
}

fn key(written: &Value) -> Result<VerificationKey, &'static str> {
    let id = match &written["kid"] {
        Value::Null => None,
        Value::String(id) => Some(id.clone()),
        _ => return Err("its `kid` is no text"),
    };
    if !matches!(written["use"].as_str(), None | Some("sig")) {
        return Err("its `use` is not `sig`");
    }
    if let Some(operations) = written["key_ops"].as_array()
        && !operations.iter().any(|operation| operation == "verify")
    {
        return Err("its `key_ops` lack `verify`");
    }
    if !written["d"].is_null() {
        return Err("it is a private key");
    }
    let material = material(written)?;
    let algorithm = match &written["alg"] {
        Value::Null => None,
        name => {
            let parsed = name.as_str().and_then(JwtAlgorithm::parse);
            Some(parsed.ok_or("its `alg` is not served")?)
        }
    };
    if algorithm.is_some_and(|algorithm| !material.fits(algorithm)) {
        return Err("its `alg` is for keys of another kind");
    }
    Ok(VerificationKey {
        id,
        algorithm,
        material,
    })
}

fn material(written: &Value) -> Result<KeyMaterial, &'static str> {
    match (written["kty"].as_str(), written["crv"].as_str()) {
        (Some("RSA"), _) => {
            let modulus = integer(&written["n"])?;
            let exponent = integer(&written["e"])?;
            let leading = modulus.first().map_or(0, |byte| byte.leading_zeros());
            if modulus.len() * 8 < LEAST_RSA_BITS + leading as usize {
                return Err("it has less than 2048 bits");
            }
            Ok(KeyMaterial::Rsa { modulus, exponent })
        }
        (Some("EC"), Some("P-256")) => Ok(KeyMaterial::P256 {
            x: bytes(&written["x"], 32)?,
            y: bytes(&written["y"], 32)?,
        }),
        (Some("EC"), Some("P-384")) => Ok(KeyMaterial::P384 {
            x: bytes(&written["x"], 48)?,
            y: bytes(&written["y"], 48)?,
        }),
        (Some("OKP"), Some("Ed25519")) => Ok(KeyMaterial::Ed25519(bytes(&written["x"], 32)?)),
        (Some("oct"), _) => Err("shared secrets are not served"),
        _ => Err("its kind or curve is not served"),
    }
}

/// Without leading zeros: some issuers write one, to keep the number positive.
fn integer(written: &Value) -> Result<Vec<u8>, &'static str> {
    let bytes = decode(written)?;
    let start = bytes.iter().position(|byte| *byte != 0);
    Ok(bytes[start.ok_or("a number of it is zero")?..].to_vec())
}

fn bytes(written: &Value, length: usize) -> Result<Vec<u8>, &'static str> {
    let bytes = decode(written)?;
    if bytes.len() != length {
        return Err("a coordinate of it has the wrong length");
    }
    Ok(bytes)
}

fn decode(written: &Value) -> Result<Vec<u8>, &'static str> {
    let text = written.as_str().ok_or("a number of it is missing")?;
    URL_SAFE_NO_PAD
        .decode(text)
        .map_err(|_| "a number of it is not base64url without padding")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(length: usize) -> String {
        URL_SAFE_NO_PAD.encode(vec![0x80; length])
    }

    fn read(key: Value) -> Result<Parsed, BadKeySet> {
        parse(json!({"keys": [key]}).to_string().as_bytes())
    }

    #[test]
    fn keys_of_each_kind_are_read() {
        let text = json!({"keys": [
            {"kty": "RSA", "kid": "a", "alg": "RS256", "use": "sig", "n": number(256), "e": "AAEAAQ"},
            {"kty": "EC", "crv": "P-256", "kid": "b", "x": number(32), "y": number(32)},
            {"kty": "EC", "crv": "P-384", "x": number(48), "y": number(48), "key_ops": ["verify"]},
            {"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "x": number(32)},
            {"kty": "oct", "kid": "shared", "k": number(32)},
        ]});
        let parsed = parse(text.to_string().as_bytes()).unwrap();
        let ids: Vec<_> = parsed.keys.iter().map(|key| key.id.as_deref()).collect();
        assert_eq!(ids, [Some("a"), Some("b"), None, None]);
        assert_eq!(parsed.keys[0].algorithm, Some(JwtAlgorithm::Rs256));
        let KeyMaterial::Rsa { exponent, .. } = &parsed.keys[0].material else {
            panic!("{parsed:?}")
        };
        assert_eq!(exponent, &[1, 0, 1], "leading zeros are gone");
        assert_eq!(
            parsed.refused,
            ["key 4 (shared): shared secrets are not served"]
        );
    }

    #[test]
    fn keys_that_would_weaken_are_refused() {
        let ec = || json!({"kty": "EC", "crv": "P-256", "x": number(32), "y": number(32)});
        let with = |name: &str, value: Value| {
            let mut key = ec();
            key[name] = value;
            key
        };
        assert!(read(ec()).is_ok());
        for (key, reason) in [
            (
                json!({"kty": "RSA", "n": number(128), "e": "AQAB"}),
                "2048 bits",
            ),
            (with("alg", json!("RS256")), "another kind"),
            (with("alg", json!("ES384")), "another kind"),
            (with("alg", json!("none")), "not served"),
            (with("use", json!("enc")), "`sig`"),
            (with("key_ops", json!(["sign"])), "`verify`"),
            (with("d", json!(number(32))), "private"),
            (with("kid", json!(1)), "`kid`"),
            (with("x", json!(number(31))), "length"),
            (with("x", json!(format!("{}=", number(32)))), "base64url"),
            (with("crv", json!("P-521")), "curve"),
            (with("kty", json!("oct")), "shared"),
        ] {
            match read(key.clone()) {
                Err(BadKeySet::NoKey(refused)) => {
                    assert!(refused[0].contains(reason), "{key}: {refused:?}");
                }
                other => panic!("{key}: {other:?}"),
            }
        }
    }

    #[test]
    fn only_what_is_served_is_kept() {
        let public = json!({"kty": "OKP", "crv": "Ed25519", "x": number(32)});
        let mut private = public.clone();
        private["d"] = json!(number(32));
        let shared = json!({"kty": "oct", "k": number(32)});
        let set = json!({"keys": [shared, private, &public], "more": 1});
        let kept = accepted(set.to_string().as_bytes());
        assert_eq!(kept, json!({"keys": [public]}).to_string().into_bytes());
        assert_eq!(accepted(b"<html>"), br#"{"keys":[]}"#);
    }

    #[test]
    fn what_is_no_key_set_is_an_error() {
        for text in ["", "{", "[]", "{}", r#"{"keys": 1}"#, r#"{"keys": []}"#] {
            assert!(parse(text.as_bytes()).is_err(), "{text}");
        }
        let many = json!({"keys": vec![json!({}); MOST + 1]}).to_string();
        assert!(matches!(parse(many.as_bytes()), Err(BadKeySet::TooMany)));
    }
}
