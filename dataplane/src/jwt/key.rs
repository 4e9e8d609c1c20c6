//! Keys, prepared: what ring needs to verify a signature.

use meridian_model::jwt::{JwtAlgorithm, KeyMaterial, VerificationKey};
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256,
    RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512, RSA_PSS_2048_8192_SHA256,
    RSA_PSS_2048_8192_SHA384, RSA_PSS_2048_8192_SHA512, RsaParameters, RsaPublicKeyComponents,
    UnparsedPublicKey, VerificationAlgorithm,
};

/// A key.
pub(super) struct Key {
    model: VerificationKey,
    /// The public key as ring reads it; empty for RSA, which it reads from its components.
    encoded: Vec<u8>,
}

impl Key {
    pub(super) fn prepare(key: &VerificationKey) -> Self {
        let encoded = match &key.material {
            KeyMaterial::Rsa { .. } => Vec::new(),
            KeyMaterial::P256 { x, y } | KeyMaterial::P384 { x, y } => uncompressed(x, y),
            KeyMaterial::Ed25519(point) => point.clone(),
        };
        Self {
            model: key.clone(),
            encoded,
        }
    }

    /// Whether tokens with this `kid` may be signed by it.
    pub(super) fn is_named(&self, id: &str) -> bool {
        self.model.id.as_deref().is_none_or(|own| own == id)
    }

    /// Whether it verifies signatures of an algorithm.
    pub(super) fn fits(&self, algorithm: JwtAlgorithm) -> bool {
        self.model.material.fits(algorithm)
            && self.model.algorithm.is_none_or(|own| own == algorithm)
    }

    /// Whether `signature` is this key's over `message`. No for an algorithm that doesn't fit.
    pub(super) fn verifies(
        &self,
        algorithm: JwtAlgorithm,
        message: &[u8],
        signature: &[u8],
    ) -> bool {
        if !self.fits(algorithm) {
            return false;
        }
        let verified = match (&self.model.material, scheme(algorithm)) {
            (
                KeyMaterial::Rsa {
                    modulus: n,
                    exponent: e,
                },
                Scheme::Rsa(parameters),
            ) => RsaPublicKeyComponents { n, e }.verify(parameters, message, signature),
            (_, Scheme::Other(algorithm)) => {
                UnparsedPublicKey::new(algorithm, &self.encoded).verify(message, signature)
            }
            (_, Scheme::Rsa(_)) => return false,
        };
        verified.is_ok()
    }
}

/// SEC 1, 2.3.3.
fn uncompressed(x: &[u8], y: &[u8]) -> Vec<u8> {
    let mut point = vec![4];
    point.extend_from_slice(x);
    point.extend_from_slice(y);
    point
}

enum Scheme {
    Rsa(&'static RsaParameters),
    Other(&'static dyn VerificationAlgorithm),
}

/// RSA below 2048 bits is refused by all of them, and ECDSA takes signatures of fixed length
/// alone (RFC 7518, 3.4).
fn scheme(algorithm: JwtAlgorithm) -> Scheme {
    match algorithm {
        JwtAlgorithm::Rs256 => Scheme::Rsa(&RSA_PKCS1_2048_8192_SHA256),
        JwtAlgorithm::Rs384 => Scheme::Rsa(&RSA_PKCS1_2048_8192_SHA384),
        JwtAlgorithm::Rs512 => Scheme::Rsa(&RSA_PKCS1_2048_8192_SHA512),
        JwtAlgorithm::Ps256 => Scheme::Rsa(&RSA_PSS_2048_8192_SHA256),
        JwtAlgorithm::Ps384 => Scheme::Rsa(&RSA_PSS_2048_8192_SHA384),
        JwtAlgorithm::Ps512 => Scheme::Rsa(&RSA_PSS_2048_8192_SHA512),
        JwtAlgorithm::Es256 => Scheme::Other(&ECDSA_P256_SHA256_FIXED),
        JwtAlgorithm::Es384 => Scheme::Other(&ECDSA_P384_SHA384_FIXED),
        JwtAlgorithm::EdDsa => Scheme::Other(&ED25519),
    }
}
