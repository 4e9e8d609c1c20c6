//! Certificates of Connect's CA: a service's leaf, and the roots that others' leaves chain to.

use std::time::SystemTime;

use http::Method;
use serde::Deserialize;
use serde_json::Value;

use crate::{
    call::Call,
    client::Client,
    error::Error,
    query::Query,
    secret::Secret,
    wire::{nullable, rfc3339},
};

impl Client {
    /// The leaf certificate of a service, by name (`GET /v1/agent/connect/ca/leaf/:service`).
    /// Blocks until a new one is due. The service need not be registered.
    #[must_use]
    pub fn leaf(&self, service: &str) -> Query<Leaf> {
        let path = ["v1", "agent", "connect", "ca", "leaf", service];
        Query::new(self, Call::get("read leaf certificate", path))
    }

    /// Whether the agent would let the holder of `leaf` connect to `target`, by intentions alone
    /// (`POST /v1/agent/connect/authorize`). Doesn't block. Who asks needs `service:write` on the
    /// target, which nothing else tells: an agent shows a leaf that it has to every token.
    #[must_use]
    pub fn authorize(&self, target: &str, leaf: &Leaf) -> Query<Authorized> {
        let path = ["v1", "agent", "connect", "authorize"];
        let call = Call::new("authorize a connection", Method::POST, path);
        Query::new(
            self,
            call.json(&serde_json::json!({
                "Target": target,
                "ClientCertURI": leaf.service_uri,
                "ClientCertSerial": leaf.serial_number,
            })),
        )
    }

    /// The roots of Connect's CA (`GET /v1/agent/connect/ca/roots`). Blocks. Needs no token.
    #[must_use]
    pub fn roots(&self) -> Query<Roots> {
        let path = ["v1", "agent", "connect", "ca", "roots"];
        Query::new(self, Call::get("read CA roots", path))
    }

    /// Connect's CA settings (`GET /v1/connect/ca/configuration`). Doesn't block.
    #[must_use]
    pub fn ca_configuration(&self) -> Query<Value> {
        Query::new(self, Call::get("read CA configuration", CONFIGURATION))
    }

    /// Replaces Connect's CA settings (`PUT /v1/connect/ca/configuration`). Another provider, key
    /// type or number of bits makes a new root.
    pub async fn set_ca_configuration(&self, configuration: &Value) -> Result<(), Error> {
        let call = Call::put("write CA configuration", CONFIGURATION).json(configuration);
        self.send_unit(&call).await
    }
}

const CONFIGURATION: [&str; 4] = ["v1", "connect", "ca", "configuration"];

/// A service's certificate and key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Leaf {
    /// The serial number, hexadecimal with colons.
    #[serde(rename = "SerialNumber")]
    pub serial_number: String,
    /// The leaf, followed by intermediates; PEM.
    #[serde(rename = "CertPEM")]
    pub certificate_pem: String,
    /// The private key; PEM, in SEC 1 or PKCS #8.
    #[serde(rename = "PrivateKeyPEM")]
    pub private_key_pem: Secret,
    /// The service's name.
    #[serde(rename = "Service")]
    pub service: String,
    /// The SPIFFE ID in the certificate.
    #[serde(rename = "ServiceURI")]
    pub service_uri: String,
    /// The namespace (Enterprise), else empty.
    #[serde(rename = "Namespace")]
    pub namespace: String,
    /// Start of validity; RFC 3339.
    #[serde(rename = "ValidAfter")]
    pub valid_after: String,
    /// End of validity; RFC 3339.
    #[serde(rename = "ValidBefore")]
    pub valid_before: String,
}

impl Leaf {
    /// Start of validity, when it can be read.
    #[must_use]
    pub fn starts(&self) -> Option<SystemTime> {
        rfc3339(&self.valid_after)
    }

    /// End of validity, when it can be read.
    #[must_use]
    pub fn expires(&self) -> Option<SystemTime> {
        rfc3339(&self.valid_before)
    }
}

/// An agent's verdict about a connection.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Authorized {
    /// Whether it may be made.
    pub authorized: bool,
    /// Which intention, or which default, says so.
    pub reason: String,
}

/// All roots that leaves of this cluster may chain to; several while the CA rotates.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Roots {
    /// The root that signs now.
    #[serde(rename = "ActiveRootID")]
    pub active_root_id: String,
    /// Host of every SPIFFE ID, and the tail of SNI: `<cluster id>.consul`.
    #[serde(rename = "TrustDomain")]
    pub trust_domain: String,
    /// All of them are to be trusted.
    #[serde(rename = "Roots", deserialize_with = "nullable")]
    pub roots: Vec<Root>,
}

/// One root of the CA.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Root {
    /// Its fingerprint, hexadecimal with colons.
    #[serde(rename = "ID")]
    pub id: String,
    /// Its name.
    pub name: String,
    /// The key that signs with it, hexadecimal with colons.
    #[serde(rename = "SigningKeyID")]
    pub signing_key_id: String,
    /// The trust domain's ID, without the domain.
    pub external_trust_domain: String,
    /// Start of validity; RFC 3339.
    pub not_before: String,
    /// End of validity; RFC 3339.
    pub not_after: String,
    /// The certificate; PEM.
    pub root_cert: String,
    /// Certificates between root and leaves; PEM.
    #[serde(deserialize_with = "nullable")]
    pub intermediate_certs: Vec<String>,
    /// Whether it signs now.
    pub active: bool,
    /// `ec` or `rsa`.
    pub private_key_type: String,
    /// Bits of its key.
    pub private_key_bits: u32,
}

impl Root {
    /// End of validity, when it can be read.
    #[must_use]
    pub fn expires(&self) -> Option<SystemTime> {
        rfc3339(&self.not_after)
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    #[test]
    fn validity_is_read() {
        let leaf = Leaf {
            valid_before: "1970-01-02T00:00:01Z".to_owned(),
            ..Leaf::default()
        };
        assert_eq!(
            leaf.expires(),
            Some(UNIX_EPOCH + Duration::from_secs(86_401))
        );
        assert_eq!(leaf.starts(), None);
    }

    #[test]
    fn debug_hides_the_private_key() {
        let json = r#"{"PrivateKeyPEM": "-----BEGIN EC PRIVATE KEY-----"}"#;
        let leaf: Leaf = serde_json::from_str(json).unwrap();
        assert!(leaf.private_key_pem.expose().starts_with("-----BEGIN"));
        assert!(!format!("{leaf:?}").contains("BEGIN"));
    }
}
