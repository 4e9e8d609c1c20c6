//! A token taken apart (RFC 7515, compact serialization), and its signature.
//!
//! Strict where parsers are known to differ: exactly three parts, base64url without padding
//! and without stray bits, no member of the header twice. `jku`, `x5u`, `jwk` and `x5c` are
//! not even read: which keys count is the provider's business, never the token's.

use super::Flaw;
use super::key::Key;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use meridian_model::jwt::JwtAlgorithm;
use serde::Deserialize;
use serde::de::IgnoredAny;

/// No longer token is looked at: it is as long as all headers together are with most servers,
/// and bounds the work for one that is not genuine.
const LONGEST: usize = 16 * 1024;

/// The longest list of keys that is tried for one token. More than one fit only where keys
/// or tokens have no `kid`, or share one.
const MOST_TRIES: usize = 16;

/// A token whose parts have the right form. Nothing in it is true yet.
#[derive(Debug)]
pub(super) struct Token<'a> {
    algorithm: JwtAlgorithm,
    key_id: Option<String>,
    /// Header and payload, as they were signed.
    signed: &'a str,
    payload: &'a str,
    signature: Vec<u8>,
}

/// What is read of a header. Serde refuses a member that stands there twice.
#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    /// Extensions that must be understood (RFC 7515, 4.1.11); none is.
    crit: Option<IgnoredAny>,
    /// A payload that is not encoded (RFC 7797).
    b64: Option<IgnoredAny>,
    /// A payload that is compressed or encrypted (RFC 7516).
    zip: Option<IgnoredAny>,
    enc: Option<IgnoredAny>,
}

impl<'a> Token<'a> {
    pub(super) fn parse(text: &'a str) -> Result<Self, Flaw> {
        if text.len() > LONGEST {
            return Err(Flaw::TooLong);
        }
        let (signed, signature) = text.rsplit_once('.').ok_or(Flaw::Malformed)?;
        let (header, payload) = signed.split_once('.').ok_or(Flaw::Malformed)?;
        let signature = decode(signature)?;
        if payload.contains('.') || signature.is_empty() {
            return Err(Flaw::Malformed);
        }
        let header: Header =
            serde_json::from_slice(&decode(header)?).map_err(|_| Flaw::Malformed)?;
        let extended = [header.crit, header.b64, header.zip, header.enc];
        if extended.iter().any(Option::is_some) {
            return Err(Flaw::Unsupported);
        }
        Ok(Self {
            algorithm: JwtAlgorithm::parse(&header.alg).ok_or(Flaw::Algorithm)?,
            key_id: header.kid,
            signed,
            payload,
            signature,
        })
    }

    /// Whether one of `keys` has signed it. [`Flaw::UnknownKey`] where another set of keys
    /// might have the one.
    pub(super) fn verify(&self, keys: &[Key]) -> Result<(), Flaw> {
        let named = |key: &&Key| self.key_id.as_deref().is_none_or(|id| key.is_named(id));
        if !keys.iter().any(|key| named(&key)) {
            return Err(Flaw::UnknownKey);
        }
        let mut fitting = keys
            .iter()
            .filter(named)
            .filter(|key| key.fits(self.algorithm))
            .take(MOST_TRIES)
            .peekable();
        if fitting.peek().is_none() {
            return Err(Flaw::Algorithm);
        }
        fitting
            .any(|key| key.verifies(self.algorithm, self.signed.as_bytes(), &self.signature))
            .then_some(())
            .ok_or(Flaw::Signature)
    }

    /// The payload's bytes.
    pub(super) fn payload(&self) -> Result<Vec<u8>, Flaw> {
        decode(self.payload)
    }

    /// The payload in base64url without padding.
    pub(super) fn encoded_payload(&self) -> &'a str {
        self.payload
    }
}

fn decode(part: &str) -> Result<Vec<u8>, Flaw> {
    URL_SAFE_NO_PAD.decode(part).map_err(|_| Flaw::Malformed)
}
