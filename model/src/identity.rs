//! Identities: who a proxy is, and whose certificates it believes.
//!
//! SPIFFE IDs take the forms of Consul's mesh CA: a service is
//! `spiffe://<trust domain>[/ap/<partition>]/ns/<namespace>/dc/<datacenter>/svc/<service>`.

use crate::IdentityName;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

/// One service's certificate, key and roots, at one rotation.
#[derive(Debug, Clone, PartialEq)]
pub struct Identity {
    /// Unique name: the service.
    pub name: IdentityName,
    /// The leaf's only URI.
    pub spiffe: SpiffeId,
    /// Leaf first, then intermediates; DER.
    pub chain: Vec<Arc<[u8]>>,
    /// Key of the leaf.
    pub key: PrivateKey,
    /// Whom to believe.
    pub trust: TrustBundle,
    /// When the leaf expires.
    pub expires: SystemTime,
}

/// Roots by trust domain. A peer is verified only with the roots of its own domain.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TrustBundle {
    /// DER roots of each trust domain, all of which are believed: during a
    /// rotation there are several.
    pub roots: BTreeMap<TrustDomain, Vec<Arc<[u8]>>>,
}

/// A private key in DER (PKCS#8, SEC1 or PKCS#1). Never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct PrivateKey(Arc<[u8]>);

impl PrivateKey {
    /// Takes a key's DER bytes.
    pub fn from_der(der: impl Into<Arc<[u8]>>) -> Self {
        Self(der.into())
    }

    /// The DER bytes.
    pub fn der(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey(..)")
    }
}

/// The host part of SPIFFE IDs: `<cluster id>.consul`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TrustDomain(Arc<str>);

impl TrustDomain {
    /// Lower-cases, since the host of a URI ignores case (RFC 3986, 6.2.2.1).
    pub fn new(text: &str) -> Self {
        Self(text.to_ascii_lowercase().into())
    }

    /// The domain as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// A parsed SPIFFE ID. Two are equal when their whole URIs are.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct SpiffeId {
    uri: Arc<str>,
    trust_domain: TrustDomain,
    service: Option<ServiceId>,
}

/// The service that a SPIFFE ID names, percent-decoded.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ServiceId {
    /// Admin partition; `default` where the URI has none.
    pub partition: String,
    /// Namespace.
    pub namespace: String,
    /// Datacenter.
    pub datacenter: String,
    /// Service name.
    pub service: String,
}

/// Why a text is no SPIFFE ID.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpiffeError {
    /// The scheme is not `spiffe`.
    Scheme,
    /// The trust domain is empty or has characters other than `a-z 0-9 . - _`.
    TrustDomain,
    /// The path is malformed: query, fragment, empty or dot segment, bad escape.
    Path,
    /// Longer than 2048 bytes (SPIFFE-ID, section 2.3).
    TooLong,
}

impl fmt::Display for SpiffeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Scheme => "scheme is not spiffe",
            Self::TrustDomain => "trust domain is empty or malformed",
            Self::Path => "path is malformed",
            Self::TooLong => "longer than 2048 bytes",
        })
    }
}

impl std::error::Error for SpiffeError {}

impl SpiffeId {
    /// Parses a URI.
    ///
    /// # Errors
    /// When it breaks the rules of the SPIFFE-ID standard.
    pub fn parse(uri: &str) -> Result<Self, SpiffeError> {
        if uri.len() > 2048 {
            return Err(SpiffeError::TooLong);
        }
        let scheme = uri.get(..9).ok_or(SpiffeError::Scheme)?;
        if !scheme.eq_ignore_ascii_case("spiffe://") {
            return Err(SpiffeError::Scheme);
        }
        let rest = &uri[9..];
        let (domain, path) = rest.split_once('/').unwrap_or((rest, ""));
        let has_path = rest.len() > domain.len();
        let legal = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'-' | b'_');
        if domain.is_empty() || domain.len() > 255 || !domain.bytes().all(legal) {
            return Err(SpiffeError::TrustDomain);
        }
        let segments: Vec<String> = if has_path {
            path.split('/').map(decode).collect::<Result<_, _>>()?
        } else {
            Vec::new()
        };
        Ok(Self {
            uri: uri.into(),
            trust_domain: TrustDomain::new(domain),
            service: ServiceId::from_segments(&segments),
        })
    }

    /// The ID of a Consul service.
    pub fn service_of(trust_domain: &TrustDomain, id: &ServiceId) -> Self {
        let partition = match id.partition.as_str() {
            "" | "default" => String::new(),
            other => format!("/ap/{}", encode(other)),
        };
        let uri = format!(
            "spiffe://{trust_domain}{partition}/ns/{}/dc/{}/svc/{}",
            encode(&id.namespace),
            encode(&id.datacenter),
            encode(&id.service)
        );
        Self {
            uri: uri.into(),
            trust_domain: trust_domain.clone(),
            service: Some(id.clone()),
        }
    }

    /// The URI as it stands in the certificate.
    pub fn as_str(&self) -> &str {
        &self.uri
    }

    /// The URI, shared.
    pub fn shared(&self) -> Arc<str> {
        Arc::clone(&self.uri)
    }

    /// The domain that vouches for it.
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// The service it names; `None` for agents, gateways and foreign forms.
    pub fn service(&self) -> Option<&ServiceId> {
        self.service.as_ref()
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.uri)
    }
}

impl fmt::Debug for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.uri, f)
    }
}

impl ServiceId {
    fn from_segments(segments: &[String]) -> Option<Self> {
        let (partition, rest) = match segments {
            [ap, partition, rest @ ..] if ap == "ap" => (partition.clone(), rest),
            all => ("default".to_owned(), all),
        };
        match rest {
            [ns, namespace, dc, datacenter, svc, service]
                if ns == "ns" && dc == "dc" && svc == "svc" =>
            {
                Some(Self {
                    partition,
                    namespace: namespace.clone(),
                    datacenter: datacenter.clone(),
                    service: service.clone(),
                })
            }
            _ => None,
        }
    }
}

/// Percent-decodes one path segment, refusing what could be read two ways.
fn decode(segment: &str) -> Result<String, SpiffeError> {
    let mut bytes = Vec::with_capacity(segment.len());
    let mut rest = segment.bytes();
    while let Some(byte) = rest.next() {
        let decoded = match byte {
            b'%' => {
                let digit = |b: Option<u8>| b.and_then(|b| (b as char).to_digit(16));
                let (Some(high), Some(low)) = (digit(rest.next()), digit(rest.next())) else {
                    return Err(SpiffeError::Path);
                };
                u8::try_from(high * 16 + low).map_err(|_| SpiffeError::Path)?
            }
            b'?' | b'#' | b'\\' => return Err(SpiffeError::Path),
            other => other,
        };
        if decoded == b'/' || decoded.is_ascii_control() {
            return Err(SpiffeError::Path);
        }
        bytes.push(decoded);
    }
    let text = String::from_utf8(bytes).map_err(|_| SpiffeError::Path)?;
    match text.as_str() {
        "" | "." | ".." => Err(SpiffeError::Path),
        _ => Ok(text),
    }
}

/// Percent-encodes what may not stand in a path segment.
fn encode(segment: &str) -> String {
    let mut out = String::with_capacity(segment.len());
    for byte in segment.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@".contains(&byte) {
            out.push(byte as char);
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::{ServiceId, SpiffeError, SpiffeId, TrustDomain};

    #[test]
    fn reads_the_forms_of_consul() {
        let id = SpiffeId::parse("spiffe://TD.consul/ns/default/dc/dc1/svc/web").unwrap();
        assert_eq!(id.trust_domain(), &TrustDomain::new("td.consul"));
        assert_eq!(id.service().unwrap().service, "web");
        assert_eq!(id.service().unwrap().partition, "default");
        let id = SpiffeId::parse("spiffe://td/ap/p/ns/n/dc/d/svc/a%20b").unwrap();
        assert_eq!(id.service().unwrap().partition, "p");
        assert_eq!(id.service().unwrap().service, "a b");
        let gateway = SpiffeId::parse("spiffe://td/gateway/mesh/dc/dc1").unwrap();
        assert_eq!(gateway.service(), None);
    }

    #[test]
    fn writes_what_it_reads() {
        let id = ServiceId {
            partition: "default".into(),
            namespace: "default".into(),
            datacenter: "dc1".into(),
            service: "a/b c".into(),
        };
        let written = SpiffeId::service_of(&TrustDomain::new("td"), &id);
        assert_eq!(
            written.as_str(),
            "spiffe://td/ns/default/dc/dc1/svc/a%2Fb%20c"
        );
    }

    #[test]
    fn refuses_what_could_be_read_two_ways() {
        let cases = [
            ("https://td/ns/default", SpiffeError::Scheme),
            ("spiffe:///ns", SpiffeError::TrustDomain),
            ("spiffe://t d/ns", SpiffeError::TrustDomain),
            ("spiffe://td/a//b", SpiffeError::Path),
            ("spiffe://td/a/../b", SpiffeError::Path),
            ("spiffe://td/a/%2e%2e/b", SpiffeError::Path),
            ("spiffe://td/a%2Fb", SpiffeError::Path),
            ("spiffe://td/a?x", SpiffeError::Path),
            ("spiffe://td/a%zz", SpiffeError::Path),
            ("spiffe://td/", SpiffeError::Path),
        ];
        for (uri, error) in cases {
            assert_eq!(SpiffeId::parse(uri), Err(error), "{uri}");
        }
    }
}
