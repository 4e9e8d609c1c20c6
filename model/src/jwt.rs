//! JSON Web Tokens: who issues them, where requests carry them, and what must
//! stand in them.
//!
//! The rules are those of Consul's `jwt-provider` entries. Keys are parsed here
//! already, so that the data plane meets no JSON but a token's own.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Someone who issues tokens (`jwt-provider`).
#[derive(Debug, Clone, PartialEq)]
pub struct JwtProvider {
    /// Name of the entry.
    pub name: Arc<str>,
    /// What a token's `iss` must be, to the letter.
    pub issuer: String,
    /// One of these must be in a token's `aud`; empty asks for none.
    pub audiences: Vec<String>,
    /// Where a token may stand, in the order of looking.
    pub locations: Vec<TokenLocation>,
    /// Whether the application sees the token. Where not, a token that was verified is taken
    /// out of headers and query; cookies stay as they are.
    pub forward_token: bool,
    /// Header that tells the application the claims.
    pub payload: Option<PayloadHeader>,
    /// How far the issuer's clock may be from ours.
    pub clock_skew: Duration,
    /// What signatures are verified with.
    pub keys: KeySet,
    /// Asks for newer keys than these; `None` where they cannot change by themselves.
    pub refresh: Option<Arc<KeyRefresh>>,
}

impl JwtProvider {
    /// Where tokens are looked for when the entry names no place (RFC 6750, 2.1 and 2.3).
    pub fn default_locations() -> Vec<TokenLocation> {
        vec![
            TokenLocation::Header {
                name: "authorization".to_owned(),
                value_prefix: "Bearer ".to_owned(),
            },
            TokenLocation::Query("access_token".to_owned()),
        ]
    }
}

/// A place in a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TokenLocation {
    /// A header.
    Header {
        /// Its name.
        name: String,
        /// What stands before the token.
        value_prefix: String,
    },
    /// A query parameter, by name.
    Query(String),
    /// A cookie, by name.
    Cookie(String),
}

/// How claims are told to the application: the token's payload in base64url.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PayloadHeader {
    /// The header's name. Whatever a client sends under it is removed.
    pub name: String,
    /// Whether the value is padded with `=`.
    pub pad: bool,
}

/// A provider's keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeySet {
    /// These.
    Known(Arc<[VerificationKey]>),
    /// None: no token can be verified, and none passes.
    Unavailable {
        /// What is in the way.
        reason: String,
    },
}

/// A public key (RFC 7517).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerificationKey {
    /// `kid`: which tokens it is for. Without one, for tokens of any.
    pub id: Option<String>,
    /// `alg`: the only algorithm it is for. Without one, each that fits its kind.
    pub algorithm: Option<JwtAlgorithm>,
    /// The key itself.
    pub material: KeyMaterial,
}

/// What a key consists of; integers are big-endian.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyMaterial {
    /// RSA.
    Rsa {
        /// `n`, without leading zeros.
        modulus: Vec<u8>,
        /// `e`, without leading zeros.
        exponent: Vec<u8>,
    },
    /// A point on P-256.
    P256 {
        /// 32 bytes.
        x: Vec<u8>,
        /// 32 bytes.
        y: Vec<u8>,
    },
    /// A point on P-384.
    P384 {
        /// 48 bytes.
        x: Vec<u8>,
        /// 48 bytes.
        y: Vec<u8>,
    },
    /// Ed25519: 32 bytes.
    Ed25519(Vec<u8>),
}

impl KeyMaterial {
    /// Whether signatures of `algorithm` can be verified with it. A key's kind decides, never
    /// the token: there is no other guard against confused algorithms (RFC 8725, 3.1).
    pub fn fits(&self, algorithm: JwtAlgorithm) -> bool {
        use JwtAlgorithm::{EdDsa, Es256, Es384, Ps256, Ps384, Ps512, Rs256, Rs384, Rs512};
        match self {
            Self::Rsa { .. } => {
                matches!(algorithm, Rs256 | Rs384 | Rs512 | Ps256 | Ps384 | Ps512)
            }
            Self::P256 { .. } => algorithm == Es256,
            Self::P384 { .. } => algorithm == Es384,
            Self::Ed25519(_) => algorithm == EdDsa,
        }
    }
}

/// Signature algorithms (RFC 7518, 3.1 and RFC 8037, 3.1). `none` and those with a shared
/// secret are not among them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JwtAlgorithm {
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Rs256,
    /// RSASSA-PKCS1-v1_5 with SHA-384.
    Rs384,
    /// RSASSA-PKCS1-v1_5 with SHA-512.
    Rs512,
    /// RSASSA-PSS with SHA-256.
    Ps256,
    /// RSASSA-PSS with SHA-384.
    Ps384,
    /// RSASSA-PSS with SHA-512.
    Ps512,
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// ECDSA on P-384 with SHA-384.
    Es384,
    /// Ed25519.
    EdDsa,
}

impl JwtAlgorithm {
    /// Reads an `alg`; letters' case counts.
    pub fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "RS256" => Self::Rs256,
            "RS384" => Self::Rs384,
            "RS512" => Self::Rs512,
            "PS256" => Self::Ps256,
            "PS384" => Self::Ps384,
            "PS512" => Self::Ps512,
            "ES256" => Self::Es256,
            "ES384" => Self::Es384,
            "EdDSA" => Self::EdDsa,
            _ => return None,
        })
    }
}

/// A token that a rule asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JwtRequirement {
    /// Name of its provider.
    pub provider: Arc<str>,
    /// What must stand in it.
    pub claims: Vec<ClaimRequirement>,
}

/// A claim that must have a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimRequirement {
    /// Names of objects from the outside in, the claim's last.
    pub path: Vec<String>,
    /// A string, to the letter. Consul's Envoy compares with strings alone: a number, a
    /// boolean or a list never fits, whatever stands in it.
    pub value: String,
}

/// Asks whoever keeps a provider's keys to fetch them anew, because a token names one that is
/// not there.
///
/// Snapshots flow one way, so this is no part of what they say: it is a bell that hangs on
/// them. It rings once, and not again until the keeper is ready to hear it, however many
/// tokens pull at it.
pub struct KeyRefresh {
    rung: AtomicBool,
    wake: Box<dyn Fn() + Send + Sync>,
}

impl KeyRefresh {
    /// A bell that calls `wake` when it rings, from a thread that must not wait.
    pub fn new(wake: impl Fn() + Send + Sync + 'static) -> Self {
        Self {
            rung: AtomicBool::new(false),
            wake: Box::new(wake),
        }
    }

    /// Rings, if it is the first time since it was last [`rearm`](Self::rearm)ed.
    pub fn ask(&self) {
        if !self.rung.load(Ordering::Relaxed) && !self.rung.swap(true, Ordering::Relaxed) {
            (self.wake)();
        }
    }

    /// Lets it ring again.
    pub fn rearm(&self) {
        self.rung.store(false, Ordering::Relaxed);
    }
}

/// Only with itself: a bell is a thing, not a value.
impl PartialEq for KeyRefresh {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self, other)
    }
}

impl fmt::Debug for KeyRefresh {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyRefresh")
            .field("rung", &self.rung)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU32;

    #[test]
    fn a_key_fits_algorithms_of_its_own_kind() {
        let point = || vec![1; 32];
        let rsa = KeyMaterial::Rsa {
            modulus: vec![1; 256],
            exponent: vec![1, 0, 1],
        };
        let p256 = KeyMaterial::P256 {
            x: point(),
            y: point(),
        };
        assert!(rsa.fits(JwtAlgorithm::Rs256) && rsa.fits(JwtAlgorithm::Ps512));
        assert!(!rsa.fits(JwtAlgorithm::Es256) && !rsa.fits(JwtAlgorithm::EdDsa));
        assert!(p256.fits(JwtAlgorithm::Es256) && !p256.fits(JwtAlgorithm::Es384));
        assert!(KeyMaterial::Ed25519(point()).fits(JwtAlgorithm::EdDsa));
    }

    #[test]
    fn no_algorithm_is_none_or_shared() {
        for text in ["none", "None", "nOnE", "", "HS256", "rs256", "ES512"] {
            assert_eq!(JwtAlgorithm::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_bell_rings_once_until_it_is_rearmed() {
        let count = Arc::new(AtomicU32::new(0));
        let heard = Arc::clone(&count);
        let bell = KeyRefresh::new(move || {
            heard.fetch_add(1, Ordering::Relaxed);
        });
        for _ in 0..1000 {
            bell.ask();
        }
        assert_eq!(count.load(Ordering::Relaxed), 1);
        bell.rearm();
        bell.ask();
        assert_eq!(count.load(Ordering::Relaxed), 2);
    }
}
