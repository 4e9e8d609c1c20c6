//! Versions and suites that one side agrees to, as rustls takes them.

use super::provider;
use meridian_model::{CipherSuite, TlsTerms};
use rustls::crypto::CryptoProvider;
use rustls::{CipherSuite as Wire, SupportedProtocolVersion};
use std::sync::Arc;

/// The provider with the suites of `terms`, and the versions that they leave. Both are empty
/// where nothing is left.
pub(super) fn offered(
    terms: &TlsTerms,
) -> (
    Arc<CryptoProvider>,
    &'static [&'static SupportedProtocolVersion],
) {
    static NEWEST_FIRST: [&SupportedProtocolVersion; 2] =
        [&rustls::version::TLS13, &rustls::version::TLS12];
    let versions = match (terms.tls13, terms.tls12.is_empty()) {
        (true, false) => &NEWEST_FIRST[..],
        (true, true) => &NEWEST_FIRST[..1],
        (false, false) => &NEWEST_FIRST[1..],
        (false, true) => &[],
    };
    if *terms == TlsTerms::default() {
        return (Arc::clone(provider()), versions);
    }
    let agreed: Vec<_> = terms.tls12.iter().map(wire).collect();
    let mut chosen = CryptoProvider::clone(provider());
    chosen.cipher_suites.retain(|suite| match suite.tls13() {
        Some(_) => terms.tls13,
        None => agreed.contains(&suite.suite()),
    });
    (Arc::new(chosen), versions)
}

fn wire(suite: &CipherSuite) -> Wire {
    match suite {
        CipherSuite::EcdsaAes128 => Wire::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
        CipherSuite::EcdsaAes256 => Wire::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
        CipherSuite::EcdsaChaCha20 => Wire::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
        CipherSuite::RsaAes128 => Wire::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
        CipherSuite::RsaAes256 => Wire::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
        CipherSuite::RsaChaCha20 => Wire::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_that_the_provider_speaks_has_a_name() {
        let (all, versions) = offered(&TlsTerms::default());
        assert_eq!(versions.len(), 2);
        let mut named: Vec<_> = CipherSuite::ALL.iter().map(wire).collect();
        let mut spoken: Vec<_> = all
            .cipher_suites
            .iter()
            .filter(|suite| suite.tls13().is_none())
            .map(rustls::SupportedCipherSuite::suite)
            .collect();
        named.sort_by_key(|suite| u16::from(*suite));
        spoken.sort_by_key(|suite| u16::from(*suite));
        assert_eq!(named, spoken);
    }

    #[test]
    fn the_suite_that_costs_least_is_asked_for_first() {
        let (all, _) = offered(&TlsTerms::default());
        let first = all.cipher_suites[0].suite();
        assert_eq!(first, Wire::TLS13_AES_128_GCM_SHA256);
    }

    #[test]
    fn only_what_was_agreed_to_is_left() {
        let one = TlsTerms {
            tls12: vec![CipherSuite::EcdsaAes256],
            tls13: false,
        };
        let (chosen, versions) = offered(&one);
        assert_eq!(versions, [&rustls::version::TLS12]);
        let left: Vec<_> = chosen.cipher_suites.iter().map(|one| one.suite()).collect();
        assert_eq!(left, [Wire::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384]);
        let none = TlsTerms {
            tls12: Vec::new(),
            tls13: false,
        };
        let (chosen, versions) = offered(&none);
        assert!(versions.is_empty() && chosen.cipher_suites.is_empty());
    }
}
