//! TLS versions and cipher suites, from Consul's names to what is spoken here.
//!
//! Nothing that is written makes TLS laxer: an old version or a weak suite is named and left out,
//! and where nothing is left, nothing is spoken.

use consul::entry::DirectionalTls;
use meridian_model::{CipherSuite, TlsTerms};

/// A version of TLS as Consul names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Version {
    V1_0,
    V1_1,
    V1_2,
    V1_3,
}

impl Version {
    fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "TLSv1_0" => Self::V1_0,
            "TLSv1_1" => Self::V1_1,
            "TLSv1_2" => Self::V1_2,
            "TLSv1_3" => Self::V1_3,
            _ => return None,
        })
    }
}

/// What `written` leaves of TLS. `field` is its place in the entry, for what is named to `refuse`.
pub(crate) fn terms(
    field: &str,
    written: &DirectionalTls,
    refuse: &mut dyn FnMut(String),
) -> TlsTerms {
    let mut bound = |name: &str, text: &str, unset: Version| match text {
        "" | "TLS_AUTO" => Some(unset),
        _ => {
            let version = Version::parse(text);
            if version.is_none() {
                refuse(format!(
                    "{field}.{name} `{text}` is not known; no TLS is spoken"
                ));
            }
            version
        }
    };
    let lowest = bound("TLSMinVersion", &written.min_version, Version::V1_2);
    let highest = bound("TLSMaxVersion", &written.max_version, Version::V1_3);
    let (Some(lowest), Some(highest)) = (lowest, highest) else {
        return TlsTerms {
            tls12: Vec::new(),
            tls13: false,
        };
    };
    if lowest < Version::V1_2 {
        refuse(format!(
            "{field}.TLSMinVersion `{}` is older than what is spoken: TLS 1.2 is the lowest",
            written.min_version
        ));
    }
    let spoken = |version| lowest <= version && version <= highest;
    let terms = TlsTerms {
        tls12: if spoken(Version::V1_2) {
            suites(field, &written.cipher_suites, refuse)
        } else {
            Vec::new()
        },
        tls13: spoken(Version::V1_3),
    };
    if terms.is_nothing() {
        refuse(format!(
            "{field} leaves no version and suite that is spoken here: every handshake fails"
        ));
    }
    terms
}

/// The suites of TLS 1.2 that are named; none named is all.
fn suites(field: &str, names: &[String], refuse: &mut dyn FnMut(String)) -> Vec<CipherSuite> {
    if names.is_empty() {
        return TlsTerms::default().tls12;
    }
    let mut found = Vec::new();
    for name in names {
        match suite(name) {
            Some(suite) => found.push(suite),
            None => refuse(format!(
                "{field}.CipherSuites `{name}` is left out: only suites with forward secrecy and \
                 authenticated encryption are spoken"
            )),
        }
    }
    found
}

fn suite(name: &str) -> Option<CipherSuite> {
    Some(match name {
        "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256" => CipherSuite::EcdsaAes128,
        "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384" => CipherSuite::EcdsaAes256,
        "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256" => CipherSuite::EcdsaChaCha20,
        "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256" => CipherSuite::RsaAes128,
        "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384" => CipherSuite::RsaAes256,
        "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256" => CipherSuite::RsaChaCha20,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(min: &str, max: &str, suites: &[&str]) -> (TlsTerms, Vec<String>) {
        let mut refused = Vec::new();
        let written = DirectionalTls {
            min_version: min.to_owned(),
            max_version: max.to_owned(),
            cipher_suites: suites.iter().map(|&name| name.to_owned()).collect(),
        };
        let terms = terms("TLS.Incoming", &written, &mut |reason| refused.push(reason));
        (terms, refused)
    }

    #[test]
    fn bounds_leave_the_versions_between_them() {
        let cases = [
            ("", "", true, true, 0),
            ("TLS_AUTO", "TLS_AUTO", true, true, 0),
            ("TLSv1_2", "TLSv1_3", true, true, 0),
            ("TLSv1_3", "", false, true, 0),
            ("", "TLSv1_2", true, false, 0),
            ("TLSv1_0", "", true, true, 1),
            ("TLSv1_1", "TLSv1_2", true, false, 1),
            ("TLSv1_0", "TLSv1_1", false, false, 2),
            ("TLSv1_3", "TLSv1_2", false, false, 1),
            ("TLSv9", "", false, false, 1),
            ("", "newest", false, false, 1),
        ];
        for (min, max, tls12, tls13, named) in cases {
            let (terms, refused) = read(min, max, &[]);
            let spoken = (!terms.tls12.is_empty(), terms.tls13);
            assert_eq!(spoken, (tls12, tls13), "{min}..{max}");
            assert_eq!(refused.len(), named, "{min}..{max}: {refused:?}");
        }
    }

    #[test]
    fn suites_are_chosen_and_weak_ones_named() {
        let strong = "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384";
        let weak = "TLS_RSA_WITH_AES_128_CBC_SHA";
        let (terms, refused) = read("", "", &[strong, weak]);
        assert_eq!(terms.tls12, [CipherSuite::EcdsaAes256]);
        assert!(terms.tls13, "its suites can't be chosen");
        assert_eq!(refused.len(), 1);
        assert!(refused[0].contains(weak), "{refused:?}");
        // The weak one alone takes TLS 1.2 away, and with it everything below a bound of 1.2.
        assert!(read("", "", &[weak]).0.tls12.is_empty());
        let (terms, refused) = read("", "TLSv1_2", &[weak]);
        assert!(terms.is_nothing());
        assert_eq!(refused.len(), 2, "{refused:?}");
    }
}
