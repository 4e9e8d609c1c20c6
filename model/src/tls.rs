//! What one side of a TLS connection agrees to: versions and cipher suites.
//!
//! Only what this proxy can speak has a name here, so that a wish for something weaker has no form.

/// Versions and suites that are spoken. The two versions are chosen by themselves: an operator may
/// leave one, both or none of them.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TlsTerms {
    /// Suites of TLS 1.2, in no order; that version is not spoken where there are none.
    pub tls12: Vec<CipherSuite>,
    /// Whether TLS 1.3 is spoken, with all of its suites: Envoy's can't be chosen either.
    pub tls13: bool,
}

impl TlsTerms {
    /// TLS 1.3 alone.
    pub fn newest() -> Self {
        Self {
            tls12: Vec::new(),
            tls13: true,
        }
    }

    /// Whether no handshake can come to anything.
    pub fn is_nothing(&self) -> bool {
        self.tls12.is_empty() && !self.tls13
    }
}

impl Default for TlsTerms {
    /// Everything that is spoken.
    fn default() -> Self {
        Self {
            tls12: CipherSuite::ALL.to_vec(),
            tls13: true,
        }
    }
}

/// A suite of TLS 1.2. All of them have forward secrecy and authenticated encryption.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CipherSuite {
    /// `TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256`.
    EcdsaAes128,
    /// `TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384`.
    EcdsaAes256,
    /// `TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256`.
    EcdsaChaCha20,
    /// `TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256`.
    RsaAes128,
    /// `TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384`.
    RsaAes256,
    /// `TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256`.
    RsaChaCha20,
}

impl CipherSuite {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::EcdsaAes128,
        Self::EcdsaAes256,
        Self::EcdsaChaCha20,
        Self::RsaAes128,
        Self::RsaAes256,
        Self::RsaChaCha20,
    ];
}
