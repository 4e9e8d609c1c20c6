//! A mesh certificate authority under the test's control: it signs what Consul's
//! never would, and Consul can be told to use it as its own root.

use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use serde_json::{Value, json};
use time::OffsetDateTime;

/// Trust domain of a development agent with a fixed cluster id.
pub const TRUST_DOMAIN: &str = "11111111-2222-3333-4444-555555555555.consul";

/// Time between the end of an expired leaf and now; more than any clock differs.
const SINCE_EXPIRY: Duration = Duration::from_secs(300);

/// A certificate of X.509 version 1 for the common name `old.test`, which no library here makes:
/// `openssl x509 -req -in CSR -signkey KEY -days 36500` of openssl 3.0 did.
pub const VERSION_1: &str = "\
    -----BEGIN CERTIFICATE-----\n\
    MIIBIzCByQIUFGccPLbAoFnAP+nD3IwPppPKEhMwCgYIKoZIzj0EAwIwEzERMA8G\n\
    A1UEAwwIb2xkLnRlc3QwIBcNMjYxMTI2MTUyMDQxWhgPMjEyNjExMDIxNTIwNDFa\n\
    MBMxETAPBgNVBAMMCG9sZC50ZXN0MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE\n\
    eb6yELSfVUD1hGjCGWYUbY1h309+4YSIM7z+VoPLTXPKXXy4E3e8Q9m9LNUcKwjX\n\
    mHj3EpeSaFZUDaylDgwvozAKBggqhkjOPQQDAgNJADBGAiEA2qAiGzODYkORqbbt\n\
    XiFXIhlLDFx19ivyW8KyhJ2oqWUCIQCInMn/xPwx9UGuvNxPA/TjC64Ui3CJgqJW\n\
    O6x7nGC67Q==\n\
    -----END CERTIFICATE-----\n";
/// The key of [`VERSION_1`].
pub const VERSION_1_KEY: &str = "\
    -----BEGIN PRIVATE KEY-----\n\
    MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgJ7e+L5TEn45my1Ju\n\
    0eXucWdhVMr+rS1+NFo/u4J8w1ShRANCAAR5vrIQtJ9VQPWEaMIZZhRtjWHfT37h\n\
    hIgzvP5Wg8tNc8pdfLgTd7xD2b0s1RwrCNeYePcSl5JoVlQNrKUODC+j\n\
    -----END PRIVATE KEY-----\n";

/// A root that signs leaves.
#[derive(Debug)]
pub struct Authority {
    certificate: Certificate,
    issuer: Issuer<'static, KeyPair>,
}

/// A leaf, its chain and its key.
#[derive(Debug)]
pub struct Identity {
    /// Leaf first.
    pub chain: Vec<CertificateDer<'static>>,
    /// PKCS #8.
    pub key: PrivateKeyDer<'static>,
}

/// SPIFFE id of a service in datacenter `dc1`.
pub fn spiffe_id(trust_domain: &str, service: &str) -> String {
    format!("spiffe://{trust_domain}/ns/default/dc/dc1/svc/{service}")
}

impl Authority {
    /// A new root for a trust domain.
    pub fn new(trust_domain: &str) -> Self {
        let key = KeyPair::generate().expect("a key for the root");
        let mut parameters = CertificateParams::default();
        parameters.distinguished_name = common_name("test root");
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        parameters.key_usages = vec![
            KeyUsagePurpose::KeyCertSign,
            KeyUsagePurpose::CrlSign,
            KeyUsagePurpose::DigitalSignature,
        ];
        parameters.subject_alt_names = vec![uri(&format!("spiffe://{trust_domain}"))];
        let certificate = parameters.self_signed(&key).expect("a root certificate");
        let issuer = Issuer::new(parameters, key);
        Self {
            certificate,
            issuer,
        }
    }

    /// Settings that make a Consul agent sign with this root.
    pub fn consul_settings(&self) -> Value {
        json!({
            "enabled": true,
            "ca_provider": "consul",
            "ca_config": {
                // The first label of the trust domain.
                "cluster_id": TRUST_DOMAIN.trim_end_matches(".consul"),
                "root_cert": self.certificate.pem(),
                "private_key": self.issuer.key().serialize_pem(),
            },
        })
    }

    /// The root, DER.
    pub fn root(&self) -> CertificateDer<'static> {
        self.certificate.der().clone()
    }

    /// The root, PEM.
    pub fn root_pem(&self) -> String {
        self.certificate.pem()
    }

    /// A leaf with these URIs, valid now.
    pub fn leaf(&self, uris: &[&str]) -> Identity {
        self.sign(uris.iter().map(|text| uri(text)).collect(), this_hour())
    }

    /// A leaf of a server outside of the mesh, with its host name, valid now.
    pub fn host_leaf(&self, host: &str) -> Identity {
        let host = host.try_into().expect("a host name of ASCII letters");
        self.sign(vec![SanType::DnsName(host)], this_hour())
    }

    /// A leaf whose time has passed.
    pub fn expired_leaf(&self, uris: &[&str]) -> Identity {
        let end = OffsetDateTime::now_utc() - SINCE_EXPIRY;
        let names = uris.iter().map(|text| uri(text)).collect();
        self.sign(names, (end - time::Duration::HOUR, end))
    }

    fn sign(
        &self,
        names: Vec<SanType>,
        (from, until): (OffsetDateTime, OffsetDateTime),
    ) -> Identity {
        let key = KeyPair::generate().expect("a key for the leaf");
        let mut parameters = CertificateParams::default();
        parameters.distinguished_name = common_name("test leaf");
        parameters.subject_alt_names = names;
        parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        parameters.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ClientAuth,
            ExtendedKeyUsagePurpose::ServerAuth,
        ];
        parameters.not_before = from;
        parameters.not_after = until;
        let leaf = parameters
            .signed_by(&key, &self.issuer)
            .expect("a leaf certificate");
        Identity {
            chain: vec![leaf.der().clone(), self.root()],
            key: PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
        }
    }
}

impl Identity {
    /// The chain, PEM.
    pub fn chain_pem(&self) -> String {
        let chain = self.chain.iter();
        chain.map(|one| pem("CERTIFICATE", one)).collect()
    }

    /// The key, PEM.
    pub fn key_pem(&self) -> String {
        pem("PRIVATE KEY", self.key.secret_der())
    }
}

fn pem(label: &str, der: &[u8]) -> String {
    let text = BASE64_STANDARD.encode(der);
    format!("-----BEGIN {label}-----\n{text}\n-----END {label}-----\n")
}

impl Clone for Identity {
    fn clone(&self) -> Self {
        Self {
            chain: self.chain.clone(),
            key: self.key.clone_key(),
        }
    }
}

/// An hour back and an hour ahead.
fn this_hour() -> (OffsetDateTime, OffsetDateTime) {
    let now = OffsetDateTime::now_utc();
    (now - time::Duration::HOUR, now + time::Duration::HOUR)
}

fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().expect("a URI of ASCII letters"))
}

fn common_name(text: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, text);
    name
}
