//! Leaf and roots of Connect's CA, as an identity.

use crate::causes::chain_of;
use crate::knowledge::Knowledge;
use crate::publish::Contents;
use consul::agent::{Leaf, Roots};
use meridian_model::{
    Identity, IdentityName, PrivateKey, Snapshot, SpiffeId, TrustBundle, TrustDomain,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Why leaf and roots make no identity. All of these are the CA's fault.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IdentityError {
    #[error("the leaf's certificate is no PEM")]
    Certificate(#[source] rustls_pki_types::pem::Error),
    #[error("the leaf has no certificate")]
    NoCertificate,
    #[error("the leaf's key is no PEM")]
    Key(#[source] rustls_pki_types::pem::Error),
    #[error("the leaf's ServiceURI `{uri}` is no SPIFFE ID")]
    Uri {
        uri: String,
        #[source]
        source: meridian_model::identity::SpiffeError,
    },
    #[error("the leaf's ValidBefore `{0}` is no time")]
    Expiry(String),
    #[error("root `{id}` is no PEM")]
    Root {
        id: String,
        #[source]
        source: rustls_pki_types::pem::Error,
    },
    #[error("there are no roots, or they name no trust domain")]
    NoRoots,
}

/// Adds the identity of `service` to `contents`; a bad new one leaves the previous one in place.
pub(crate) fn known(
    knowledge: &Knowledge,
    service: &str,
    previous: &Snapshot,
    contents: &mut Contents,
) -> Option<Arc<Identity>> {
    let (leaf, roots) = (knowledge.leaf(service)?, knowledge.roots()?);
    let identity = match identity(leaf, roots) {
        Ok(identity) => Arc::new(identity),
        Err(error) => {
            contents.reject(format!("identity {service}"), chain_of(&error));
            Arc::clone(previous.identities.get(service)?)
        }
    };
    let name = identity.name.clone();
    contents.identities.insert(name, Arc::clone(&identity));
    Some(identity)
}

/// Makes an identity. All listed roots are believed, since a rotation has several.
fn identity(leaf: &Leaf, roots: &Roots) -> Result<Identity, IdentityError> {
    let chain = certificates(&leaf.certificate_pem).map_err(IdentityError::Certificate)?;
    if chain.is_empty() {
        return Err(IdentityError::NoCertificate);
    }
    let key = PrivateKeyDer::from_pem_slice(leaf.private_key_pem.expose().as_bytes())
        .map_err(IdentityError::Key)?;
    let spiffe = SpiffeId::parse(&leaf.service_uri).map_err(|source| IdentityError::Uri {
        uri: leaf.service_uri.clone(),
        source,
    })?;
    let expires = leaf
        .expires()
        .ok_or_else(|| IdentityError::Expiry(leaf.valid_before.clone()))?;
    Ok(Identity {
        name: IdentityName::from(leaf.service.as_str()),
        spiffe,
        chain,
        key: PrivateKey::from_der(key.secret_der()),
        trust: trust(roots)?,
        expires,
    })
}

fn trust(roots: &Roots) -> Result<TrustBundle, IdentityError> {
    let mut pool = Vec::new();
    for root in &roots.roots {
        let found = certificates(&root.root_cert).map_err(|source| IdentityError::Root {
            id: root.id.clone(),
            source,
        })?;
        pool.extend(found);
    }
    if pool.is_empty() || roots.trust_domain.is_empty() {
        return Err(IdentityError::NoRoots);
    }
    let domain = TrustDomain::new(&roots.trust_domain);
    Ok(TrustBundle {
        roots: BTreeMap::from([(domain, pool)]),
    })
}

fn certificates(pem: &str) -> Result<Vec<Arc<[u8]>>, rustls_pki_types::pem::Error> {
    CertificateDer::pem_slice_iter(pem.as_bytes())
        .map(|certificate| certificate.map(|der| Arc::from(der.as_ref())))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::embedded::DevelopmentCa;

    fn issued() -> (Leaf, Roots) {
        let ca = DevelopmentCa::new("td.consul", "dc1").unwrap();
        (ca.leaf("web").unwrap(), ca.roots())
    }

    #[test]
    fn leaf_and_roots_become_der() {
        let (leaf, roots) = issued();
        let made = identity(&leaf, &roots).unwrap();
        assert_eq!(made.name.as_str(), "web");
        assert_eq!(
            made.spiffe.as_str(),
            "spiffe://td.consul/ns/default/dc/dc1/svc/web"
        );
        assert_eq!(made.chain.len(), 1);
        assert_eq!(made.trust.roots[&TrustDomain::new("td.consul")].len(), 1);
        assert_eq!(Some(made.expires), leaf.expires());
    }

    #[test]
    fn every_root_of_a_rotation_is_believed() {
        let mut ca = DevelopmentCa::new("td.consul", "dc1").unwrap();
        ca.rotate_root().unwrap();
        let made = identity(&ca.leaf("web").unwrap(), &ca.roots()).unwrap();
        assert_eq!(made.trust.roots[&TrustDomain::new("td.consul")].len(), 2);
    }

    #[test]
    fn what_is_missing_is_named() {
        type Break = fn(&mut Leaf, &mut Roots);
        let cases: [(Break, &str); 6] = [
            (|leaf, _| leaf.certificate_pem.clear(), "no certificate"),
            (
                |leaf, _| leaf.private_key_pem = consul::Secret::new("x"),
                "key",
            ),
            (|leaf, _| leaf.service_uri = "https://x".into(), "SPIFFE"),
            (|leaf, _| leaf.valid_before = "soon".into(), "ValidBefore"),
            (|_, roots| roots.roots.clear(), "no roots"),
            (|_, roots| roots.trust_domain.clear(), "trust domain"),
        ];
        for (spoil, message) in cases {
            let (mut leaf, mut roots) = issued();
            spoil(&mut leaf, &mut roots);
            let error = identity(&leaf, &roots).unwrap_err().to_string();
            assert!(error.contains(message), "{error}");
        }
    }
}
