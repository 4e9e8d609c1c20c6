//! The development CA: real SPIFFE certificates in the form of Connect's CA, kept in memory.

use consul::Secret;
use consul::agent::{Leaf, Root, Roots};
use meridian_model::identity::ServiceId;
use meridian_model::{SpiffeId, TrustDomain};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName,
    ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, SanType,
};
use time::format_description::well_known::Rfc3339;
use time::{Duration, OffsetDateTime};

/// Signs leaves for services of one datacenter.
pub struct DevelopmentCa {
    trust_domain: TrustDomain,
    datacenter: String,
    /// The newest signs; all are to be trusted.
    roots: Vec<CertifiedIssuer<'static, KeyPair>>,
    /// Roots made so far, forgotten ones included: names must not repeat.
    made: u64,
}

/// Why no certificate could be made.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    /// The certificate library refuses.
    #[error("cannot make a certificate for {subject}")]
    Certificate {
        /// For whom.
        subject: String,
        /// Why not.
        #[source]
        source: rcgen::Error,
    },
    /// The validity cannot be written down.
    #[error("cannot write the validity of a certificate")]
    Validity(#[source] time::error::Format),
}

/// Consul's leaves live 72 h.
const LEAF_LIFE: Duration = Duration::hours(72);
/// Longer than any development session, shorter than would make a leaked key worth keeping.
const ROOT_LIFE: Duration = Duration::days(30);
/// Clocks of containers on one machine may differ a little; Consul backdates as much.
const BACKDATED: Duration = Duration::minutes(1);

impl DevelopmentCa {
    /// A CA with one root (EC P-256, as Connect's).
    ///
    /// # Errors
    /// When the certificate library refuses, as with a trust domain that is no URI host.
    pub fn new(trust_domain: &str, datacenter: &str) -> Result<Self, CaError> {
        let mut ca = Self {
            trust_domain: TrustDomain::new(trust_domain),
            datacenter: datacenter.to_owned(),
            roots: Vec::new(),
            made: 0,
        };
        ca.rotate_root()?;
        Ok(ca)
    }

    /// Host of every SPIFFE ID.
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// Datacenter of every SPIFFE ID.
    pub fn datacenter(&self) -> &str {
        &self.datacenter
    }

    /// Makes a new root, which signs from now on; the old ones stay trusted.
    ///
    /// # Errors
    /// When the certificate library refuses.
    pub fn rotate_root(&mut self) -> Result<(), CaError> {
        self.made += 1;
        let uri = format!("spiffe://{}", self.trust_domain);
        let failed = |source| CaError::Certificate {
            subject: uri.clone(),
            source,
        };
        let mut params = params(&uri, ROOT_LIFE).map_err(failed)?;
        let name = format!("Meridian development CA {}", self.made);
        params
            .distinguished_name
            .push(rcgen::DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().map_err(failed)?;
        let root = CertifiedIssuer::self_signed(params, key).map_err(failed)?;
        self.roots.push(root);
        Ok(())
    }

    /// Forgets all roots but the one that signs: the end of a rotation.
    pub fn forget_old_roots(&mut self) {
        let old = self.roots.len().saturating_sub(1);
        self.roots.drain(..old);
    }

    /// The roots, as an agent would list them.
    pub fn roots(&self) -> Roots {
        let active = self.roots.len().saturating_sub(1);
        let list = self.roots.iter().enumerate().map(|(index, root)| Root {
            id: format!("root-{}", self.made - (active - index) as u64),
            name: "Meridian development CA".to_owned(),
            root_cert: root.pem(),
            active: index == active,
            private_key_type: "ec".to_owned(),
            private_key_bits: 256,
            ..Root::default()
        });
        Roots {
            active_root_id: format!("root-{}", self.made),
            trust_domain: self.trust_domain.as_str().to_owned(),
            roots: list.collect(),
        }
    }

    /// The SPIFFE ID of a service.
    pub fn spiffe(&self, service: &str) -> SpiffeId {
        let id = ServiceId {
            partition: "default".to_owned(),
            namespace: "default".to_owned(),
            datacenter: self.datacenter.clone(),
            service: service.to_owned(),
        };
        SpiffeId::service_of(&self.trust_domain, &id)
    }

    /// A new leaf for a service, with a new key.
    ///
    /// # Errors
    /// When the certificate library refuses.
    pub fn leaf(&self, service: &str) -> Result<Leaf, CaError> {
        self.leaf_for(service, LEAF_LIFE)
    }

    /// As [`DevelopmentCa::leaf`], living `life` from now: negative for one that has expired.
    ///
    /// # Errors
    /// When the certificate library refuses.
    pub fn leaf_for(&self, service: &str, life: Duration) -> Result<Leaf, CaError> {
        let spiffe = self.spiffe(service);
        let failed = |source| CaError::Certificate {
            subject: spiffe.to_string(),
            source,
        };
        let mut params = params(spiffe.as_str(), life).map_err(failed)?;
        params.key_usages = vec![
            KeyUsagePurpose::DigitalSignature,
            KeyUsagePurpose::KeyEncipherment,
        ];
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ClientAuth,
            ExtendedKeyUsagePurpose::ServerAuth,
        ];
        params.use_authority_key_identifier_extension = true;
        let (starts, expires) = (params.not_before, params.not_after);
        let key = KeyPair::generate().map_err(failed)?;
        let Some(issuer) = self.roots.last() else {
            return Err(failed(rcgen::Error::CouldNotParseCertificate));
        };
        let certificate = params.signed_by(&key, issuer).map_err(failed)?;
        let written = |time: OffsetDateTime| time.format(&Rfc3339).map_err(CaError::Validity);
        Ok(Leaf {
            certificate_pem: certificate.pem(),
            private_key_pem: Secret::new(key.serialize_pem()),
            service: service.to_owned(),
            service_uri: spiffe.as_str().to_owned(),
            valid_after: written(starts)?,
            valid_before: written(expires)?,
            ..Leaf::default()
        })
    }
}

/// A certificate with the URI as its only name.
fn params(uri: &str, life: Duration) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.subject_alt_names = vec![SanType::URI(uri.try_into()?)];
    let now = OffsetDateTime::now_utc();
    params.not_after = now + life;
    params.not_before = (now - BACKDATED).min(params.not_after - BACKDATED);
    Ok(params)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rotation_keeps_the_old_root_until_it_is_forgotten() {
        let mut ca = DevelopmentCa::new("td.consul", "dc1").unwrap();
        let first = ca.roots();
        ca.rotate_root().unwrap();
        let both = ca.roots();
        assert_eq!(both.roots.len(), 2);
        assert_eq!(both.roots[0].root_cert, first.roots[0].root_cert);
        assert_ne!(both.active_root_id, first.active_root_id);
        ca.forget_old_roots();
        assert_eq!(ca.roots().roots.len(), 1);
        assert_eq!(ca.roots().roots[0].id, both.active_root_id);
    }

    #[test]
    fn every_leaf_has_its_own_key() {
        let ca = DevelopmentCa::new("td.consul", "dc1").unwrap();
        let (one, two) = (ca.leaf("web").unwrap(), ca.leaf("web").unwrap());
        assert_ne!(one.private_key_pem, two.private_key_pem);
        assert_eq!(
            one.service_uri,
            "spiffe://td.consul/ns/default/dc/dc1/svc/web"
        );
    }
}
