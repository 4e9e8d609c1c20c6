//! A certificate authority of the mesh, and certificates for the edge.

use meridian_model::intention::{Decision, Intention, Source};
use meridian_model::listener::{Alpn, EdgeTls, ServerCertificate};
use meridian_model::{
    Authorization, Identity, PrivateKey, SpiffeId, TlsTerms, TrustBundle, TrustDomain, Verdict,
};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, SanType};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use rustls::{ClientConfig, RootCertStore};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    domain: TrustDomain,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        Self {
            issuer: CertifiedIssuer::self_signed(params, key).unwrap(),
            domain: TrustDomain::new("test.consul"),
        }
    }

    /// A fresh leaf for a service.
    pub(crate) fn identity(&self, service: &str) -> Identity {
        let uri = format!("spiffe://{}/ns/default/dc/dc1/svc/{service}", self.domain);
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.subject_alt_names = vec![SanType::URI(uri.as_str().try_into().unwrap())];
        let leaf = params.signed_by(&key, &self.issuer).unwrap();
        Identity {
            name: service.into(),
            spiffe: SpiffeId::parse(&uri).unwrap(),
            chain: vec![leaf.der().to_vec().into()],
            key: PrivateKey::from_der(key.serialize_der()),
            trust: TrustBundle {
                roots: [(self.domain.clone(), vec![self.root()])].into(),
            },
            expires: SystemTime::now() + Duration::from_secs(3600),
        }
    }

    fn root(&self) -> Arc<[u8]> {
        self.issuer.der().to_vec().into()
    }

    /// What a mesh client presents and believes, with the name check of its host left to the test.
    pub(crate) fn client(&self, identity: &Identity, alpn: &[&[u8]]) -> ClientConfig {
        let leaf = CertificateDer::from(identity.chain[0].to_vec());
        let key = PrivatePkcs8KeyDer::from(identity.key.der().to_vec());
        let mut config = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyServer))
            .with_client_auth_cert(vec![leaf], key.into())
            .unwrap();
        config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        config
    }
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// Rules about callers by name, and the verdict over everyone else.
pub(crate) fn rules(callers: &[(&str, Decision)], default: Verdict) -> Authorization {
    let intention = |(service, decision): &(&str, Decision)| Intention {
        source: Source {
            trust_domain: TrustDomain::new("test.consul"),
            partition: None,
            namespace: None,
            service: Some((*service).to_owned()),
        },
        jwt: Vec::new(),
        decision: decision.clone(),
    };
    Authorization {
        intentions: callers.iter().map(intention).collect(),
        default,
        providers: Vec::new(),
    }
}

/// Server TLS for `localhost`, and a client that believes in it.
pub(crate) fn edge_tls() -> (EdgeTls, ClientConfig) {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let tls = EdgeTls {
        certificates: vec![Arc::new(ServerCertificate {
            name: "localhost".into(),
            hosts: vec!["localhost".into()],
            chain: vec![made.cert.der().to_vec().into()],
            key: PrivateKey::from_der(made.signing_key.serialize_der()),
        })],
        terms: TlsTerms::default(),
        alpn: vec![Alpn::H2, Alpn::Http1],
    };
    let mut roots = RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let client = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    (tls, client)
}

/// Believes everyone: whom the proxy presents is looked at by the test itself.
#[derive(Debug)]
struct AnyServer;

impl rustls::client::danger::ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &rustls::pki_types::ServerName<'_>,
        _: &[u8],
        _: rustls::pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}
