//! What stands in a token: whose it is, for whom and how long, and what a rule
//! asks for besides.
//!
//! As Envoy does, `exp` and `nbf` count where they stand, and a token without `exp` never
//! expires; `iat`, `sub` and `typ` are not looked at.

use super::Flaw;
use meridian_model::jwt::{ClaimRequirement, JwtProvider};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use std::time::{SystemTime, UNIX_EPOCH};

/// Registered claims (RFC 7519, 4.1). Serde refuses one that stands there twice.
#[derive(Deserialize)]
struct Registered {
    iss: Option<String>,
    #[serde(default)]
    aud: Audience,
    #[serde(default, deserialize_with = "date")]
    exp: Option<f64>,
    #[serde(default, deserialize_with = "date")]
    nbf: Option<f64>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Several(Vec<String>),
}

impl Default for Audience {
    fn default() -> Self {
        Self::Several(Vec::new())
    }
}

impl Audience {
    fn is_one_of(&self, wanted: &[String]) -> bool {
        match self {
            Self::One(name) => wanted.contains(name),
            Self::Several(names) => names.iter().any(|name| wanted.contains(name)),
        }
    }
}

/// Seconds since 1970, perhaps with a fraction (RFC 7519, 2: NumericDate). Times before that
/// and those that fit no clock are mistakes, and `null` is no time.
fn date<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<f64>, D::Error> {
    const END_OF_CLOCKS: f64 = 9_223_372_036_854_775_808.0;
    let seconds = f64::deserialize(deserializer)?;
    if (0.0..END_OF_CLOCKS).contains(&seconds) {
        return Ok(Some(seconds));
    }
    Err(serde::de::Error::custom("not a date"))
}

/// The claims of a verified payload, if the token is this provider's, for us, and of today.
pub(super) fn check(
    payload: &[u8],
    provider: &JwtProvider,
    now: SystemTime,
) -> Result<Value, Flaw> {
    let registered: Registered = serde_json::from_slice(payload).map_err(|_| Flaw::Malformed)?;
    let claims: Value = serde_json::from_slice(payload).map_err(|_| Flaw::Malformed)?;
    if registered.iss.as_deref() != Some(provider.issuer.as_str()) {
        return Err(Flaw::Issuer);
    }
    if !provider.audiences.is_empty() && !registered.aud.is_one_of(&provider.audiences) {
        return Err(Flaw::Audience);
    }
    // A clock before 1970 knows no time: nothing that says when is believed.
    let now = now
        .duration_since(UNIX_EPOCH)
        .map_err(|_| Flaw::NotYet)?
        .as_secs_f64();
    let skew = provider.clock_skew.as_secs_f64();
    if registered.exp.is_some_and(|exp| now > exp + skew) {
        return Err(Flaw::Expired);
    }
    if registered.nbf.is_some_and(|nbf| nbf > now + skew) {
        return Err(Flaw::NotYet);
    }
    Ok(claims)
}

/// Whether all claims that are asked for stand there.
pub(super) fn hold(claims: &Value, wanted: &[ClaimRequirement]) -> bool {
    wanted.iter().all(|wanted| {
        let found = wanted
            .path
            .iter()
            .try_fold(claims, |inside, name| inside.get(name.as_str()));
        found.and_then(Value::as_str) == Some(wanted.value.as_str())
    })
}
