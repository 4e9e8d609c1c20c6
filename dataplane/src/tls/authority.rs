//! A small certificate authority for tests.

use meridian_model::cluster::MeshTransport;
use meridian_model::listener::ServerCertificate;
use meridian_model::{Identity, PrivateKey, SpiffeId, TlsTerms, TrustBundle, TrustDomain};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, SanType};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use time::OffsetDateTime;

/// A mesh CA for one trust domain.
pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    pub(crate) domain: TrustDomain,
}

/// What may be wrong with a leaf.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flaw {
    None,
    Expired,
    NotYetValid,
    NoUri,
    TwoUris,
    NoSpiffe,
    Authority,
}

impl Authority {
    pub(crate) fn new(domain: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params
            .distinguished_name
            .push(rcgen::DnType::CommonName, domain);
        Self {
            issuer: CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap(),
            domain: TrustDomain::new(domain),
        }
    }

    /// The CA's own certificate.
    pub(crate) fn root(&self) -> Arc<[u8]> {
        self.issuer.der().to_vec().into()
    }

    pub(crate) fn spiffe(&self, service: &str) -> SpiffeId {
        let uri = format!("spiffe://{}/ns/default/dc/dc1/svc/{service}", self.domain);
        SpiffeId::parse(&uri).unwrap()
    }

    /// The identity of a service that trusts this CA.
    pub(crate) fn identity(&self, service: &str, flaw: Flaw) -> Identity {
        let trust = TrustBundle {
            roots: [(self.domain.clone(), vec![self.root()])].into(),
        };
        self.identity_trusting(service, flaw, trust)
    }

    pub(crate) fn identity_trusting(
        &self,
        service: &str,
        flaw: Flaw,
        trust: TrustBundle,
    ) -> Identity {
        let spiffe = self.spiffe(service);
        let key = KeyPair::generate().unwrap();
        let leaf = leaf_params(&spiffe, flaw)
            .signed_by(&key, &self.issuer)
            .unwrap();
        Identity {
            name: service.into(),
            spiffe,
            chain: vec![leaf.der().to_vec().into()],
            key: PrivateKey::from_der(key.serialize_der()),
            trust,
            expires: SystemTime::now() + Duration::from_secs(3600),
        }
    }

    /// A certificate of this CA for host names.
    pub(crate) fn server(&self, hosts: &[&str]) -> ServerCertificate {
        let hosts: Vec<String> = hosts.iter().map(|&host| host.to_owned()).collect();
        let key = KeyPair::generate().unwrap();
        let leaf = CertificateParams::new(hosts.clone())
            .unwrap()
            .signed_by(&key, &self.issuer)
            .unwrap();
        ServerCertificate {
            name: "server".into(),
            hosts,
            chain: vec![leaf.der().to_vec().into()],
            key: PrivateKey::from_der(key.serialize_der()),
        }
    }

    /// A certificate for `host` that may sign others, with its key.
    pub(crate) fn itself(host: &str) -> (Vec<Arc<[u8]>>, PrivateKey) {
        let mut params = CertificateParams::new(vec![host.to_owned()]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let made = params.self_signed(&key).unwrap();
        let chain = vec![made.der().to_vec().into()];
        (chain, PrivateKey::from_der(key.serialize_der()))
    }

    /// A way to `service`, for `caller`.
    pub(crate) fn transport(&self, caller: &Identity, service: &str) -> MeshTransport {
        MeshTransport {
            identity: caller.name.clone(),
            trust_domain: self.domain.clone(),
            sni: format!("{service}.default.dc1.internal.{}", self.domain).into(),
            expected: vec![self.spiffe(service)],
            terms: TlsTerms::default(),
        }
    }
}

/// A self-signed certificate for an edge listener.
pub(crate) fn edge_certificate(hosts: &[&str]) -> ServerCertificate {
    let hosts: Vec<String> = hosts.iter().map(|&host| host.to_owned()).collect();
    let made = rcgen::generate_simple_self_signed(hosts.clone()).unwrap();
    ServerCertificate {
        name: hosts[0].as_str().into(),
        hosts,
        chain: vec![made.cert.der().to_vec().into()],
        key: PrivateKey::from_der(made.signing_key.serialize_der()),
    }
}

fn leaf_params(spiffe: &SpiffeId, flaw: Flaw) -> CertificateParams {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    let uri = |text: &str| SanType::URI(text.try_into().unwrap());
    params.subject_alt_names = match flaw {
        Flaw::NoUri => vec![SanType::DnsName("web.test".try_into().unwrap())],
        Flaw::TwoUris => vec![uri(spiffe.as_str()), uri("spiffe://td/other")],
        Flaw::NoSpiffe => vec![uri("https://td/ns/default")],
        _ => vec![uri(spiffe.as_str())],
    };
    let now = OffsetDateTime::now_utc();
    let hour = time::Duration::HOUR;
    (params.not_before, params.not_after) = match flaw {
        Flaw::Expired => (now - hour * 2, now - hour),
        Flaw::NotYetValid => (now + hour, now + hour * 2),
        _ => (now - hour, now + hour),
    };
    if flaw == Flaw::Authority {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    }
    params
}
