//! A certificate authority of the mesh and its leaves.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::Context;
use meridian_model::cluster::MeshTransport;
use meridian_model::{
    Identity, PrivateKey, SpiffeId, TlsTerms, Transport, TrustBundle, TrustDomain,
};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, SanType};

const DOMAIN: &str = "bench.consul";

pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    pub(crate) fn new() -> anyhow::Result<Self> {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().context("making a key")?;
        let issuer = CertifiedIssuer::self_signed(params, key).context("making a root")?;
        Ok(Self { issuer })
    }

    /// A leaf of a service.
    pub(crate) fn identity(&self, service: &str) -> anyhow::Result<Identity> {
        let uri = format!("spiffe://{DOMAIN}/ns/default/dc/dc1/svc/{service}");
        let key = KeyPair::generate().context("making a key")?;
        let mut params = CertificateParams::default();
        let name = uri.as_str().try_into().context("making a name")?;
        params.subject_alt_names = vec![SanType::URI(name)];
        let leaf = params
            .signed_by(&key, &self.issuer)
            .context("signing a leaf")?;
        let root: Arc<[u8]> = self.issuer.der().to_vec().into();
        Ok(Identity {
            name: service.into(),
            spiffe: SpiffeId::parse(&uri).context("reading an identity")?,
            chain: vec![leaf.der().to_vec().into()],
            key: PrivateKey::from_der(key.serialize_der()),
            trust: TrustBundle {
                roots: [(TrustDomain::new(DOMAIN), vec![root])].into(),
            },
            expires: SystemTime::now() + Duration::from_secs(3600),
        })
    }
}

/// Mutual TLS from `caller` to `service`.
pub(crate) fn mesh(caller: &Identity, service: &Identity) -> Transport {
    Transport::Mesh(MeshTransport {
        identity: caller.name.clone(),
        trust_domain: caller.spiffe.trust_domain().clone(),
        sni: format!("{}.bench.test", service.name).into(),
        expected: vec![service.spiffe.clone()],
        terms: TlsTerms::default(),
    })
}
