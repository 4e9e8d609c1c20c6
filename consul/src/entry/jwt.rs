//! `jwt-provider`: someone who issues tokens, and where they are found in requests.
//!
//! Whatever this client doesn't know stays visible in a field `unknown`, so that a proxy can refuse
//! tokens that it would check less strictly than was written ([`JwtProviderEntry::is_understood`]).

use std::{collections::BTreeMap, time::Duration};

use serde::Deserialize;
use serde_json::Value;

use super::Entry;
use crate::wire::{Unknown, duration, nullable};

/// The `jwt-provider` entry.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct JwtProviderEntry {
    /// `jwt-provider`.
    pub kind: String,
    /// What intentions call it.
    pub name: String,
    /// Its keys.
    #[serde(rename = "JSONWebKeySet", deserialize_with = "nullable")]
    pub json_web_key_set: Option<JsonWebKeySet>,
    /// What a token's `iss` must be.
    pub issuer: String,
    /// One of these must be in a token's `aud`; empty asks for none.
    #[serde(deserialize_with = "nullable")]
    pub audiences: Vec<String>,
    /// Where tokens stand; empty is the header `Authorization` and the parameter `access_token`.
    #[serde(deserialize_with = "nullable")]
    pub locations: Vec<JwtLocation>,
    /// How the application is told.
    #[serde(deserialize_with = "nullable")]
    pub forwarding: Option<JwtForwarding>,
    /// How far its clock may be from ours; Consul fills in 30.
    pub clock_skew_seconds: u64,
    /// A cache of verified tokens: a matter of speed.
    #[serde(deserialize_with = "nullable")]
    pub cache_config: Option<Value>,
    /// Metadata.
    #[serde(deserialize_with = "nullable")]
    pub meta: BTreeMap<String, String>,
    /// Admin partition (Enterprise).
    #[serde(deserialize_with = "nullable")]
    pub partition: String,
    /// Namespace (Enterprise).
    #[serde(deserialize_with = "nullable")]
    pub namespace: String,
    /// A checksum of the entry.
    #[serde(deserialize_with = "nullable")]
    pub hash: Option<Value>,
    /// Raft index of its creation.
    pub create_index: u64,
    /// Raft index of its last change.
    pub modify_index: u64,
    /// What this client doesn't know.
    #[serde(flatten)]
    pub unknown: Unknown,
}

impl Entry for JwtProviderEntry {
    const KIND: &'static str = "jwt-provider";
}

impl JwtProviderEntry {
    /// Whether nothing in it that says what is valid is unknown to this client. How keys are
    /// fetched is another matter: keys that can't be fetched let nobody pass.
    #[must_use]
    pub fn is_understood(&self) -> bool {
        self.unknown.is_empty()
            && self.locations.iter().all(|place| place.unknown.is_empty())
            && self
                .forwarding
                .as_ref()
                .is_none_or(|forwarding| forwarding.unknown.is_empty())
    }
}

/// Where keys are; one is set.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct JsonWebKeySet {
    /// With the entry, or in a file beside the proxy.
    #[serde(deserialize_with = "nullable")]
    pub local: Option<LocalJwks>,
    /// At an address.
    #[serde(deserialize_with = "nullable")]
    pub remote: Option<RemoteJwks>,
}

/// Keys at hand; one is set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct LocalJwks {
    /// The key set in base64.
    #[serde(rename = "JWKS")]
    pub jwks: String,
    /// A file on the proxy's own machine.
    #[serde(rename = "Filename")]
    pub filename: String,
}

/// Keys to be fetched.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct RemoteJwks {
    /// Their address.
    #[serde(rename = "URI")]
    pub uri: String,
    /// How long a request may take; 0 leaves it to the proxy.
    pub request_timeout_ms: u64,
    /// How long an answer is good.
    #[serde(deserialize_with = "duration")]
    pub cache_duration: Option<Duration>,
    /// Whether listeners open before the first answer.
    pub fetch_asynchronously: bool,
    /// What is done about failures.
    #[serde(deserialize_with = "nullable")]
    pub retry_policy: Option<JwksRetryPolicy>,
    /// How the address is reached.
    #[serde(rename = "JWKSCluster", deserialize_with = "nullable")]
    pub cluster: Option<JwksCluster>,
}

/// What is done when keys can't be fetched.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct JwksRetryPolicy {
    /// How often to try again.
    pub num_retries: u32,
    /// How long to wait in between.
    #[serde(rename = "RetryPolicyBackOff", deserialize_with = "nullable")]
    pub back_off: Option<JwksBackOff>,
}

/// Pauses between tries.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct JwksBackOff {
    /// The first.
    #[serde(deserialize_with = "duration")]
    pub base_interval: Option<Duration>,
    /// The longest.
    #[serde(deserialize_with = "duration")]
    pub max_interval: Option<Duration>,
}

/// How the keys' address is reached.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct JwksCluster {
    /// How its name is resolved, in Envoy's words.
    pub discovery_type: String,
    /// Who may sign its certificate.
    #[serde(rename = "TLSCertificates", deserialize_with = "nullable")]
    pub tls_certificates: Option<JwksTlsCertificates>,
    /// How long connecting may take.
    #[serde(deserialize_with = "duration")]
    pub connect_timeout: Option<Duration>,
}

/// Who may sign a certificate; one is set.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct JwksTlsCertificates {
    /// A provider of Envoy's own configuration.
    #[serde(deserialize_with = "nullable")]
    pub ca_certificate_provider_instance: Option<Value>,
    /// Certificates.
    #[serde(rename = "TrustedCA", deserialize_with = "nullable")]
    pub trusted_ca: Option<JwksTrustedCa>,
}

/// PEM certificates of authorities; one is set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct JwksTrustedCa {
    /// In a file on the proxy's machine.
    pub filename: String,
    /// In an environment variable of the proxy.
    pub environment_variable: String,
    /// As text.
    pub inline_string: String,
    /// As bytes, in base64.
    #[serde(deserialize_with = "nullable")]
    pub inline_bytes: String,
}

/// A place where tokens stand; one is set.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct JwtLocation {
    /// A header.
    #[serde(deserialize_with = "nullable")]
    pub header: Option<JwtHeaderLocation>,
    /// A query parameter.
    #[serde(deserialize_with = "nullable")]
    pub query_param: Option<JwtNamedLocation>,
    /// A cookie.
    #[serde(deserialize_with = "nullable")]
    pub cookie: Option<JwtNamedLocation>,
    /// What this client doesn't know.
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// A header that carries a token.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct JwtHeaderLocation {
    /// Its name.
    pub name: String,
    /// What stands before the token.
    pub value_prefix: String,
    /// Whether the application sees it.
    pub forward: bool,
}

/// A query parameter or cookie that carries a token.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct JwtNamedLocation {
    /// Its name.
    pub name: String,
}

/// How the application is told the claims.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct JwtForwarding {
    /// The header.
    pub header_name: String,
    /// Whether its base64url is padded.
    pub pad_forward_payload_header: bool,
    /// What this client doesn't know.
    #[serde(flatten)]
    pub unknown: Unknown,
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// As Consul 1.20 answers.
    fn written() -> Value {
        json!({
            "Kind": "jwt-provider", "Name": "okta", "Issuer": "i", "ClockSkewSeconds": 30,
            "JSONWebKeySet": {"Remote": {
                "URI": "https://x.y/jwks", "RequestTimeoutMs": 700,
                "CacheDuration": 90_000_000_000_u64,
                "RetryPolicy": {"NumRetries": 3, "RetryPolicyBackOff": {
                    "BaseInterval": 2_000_000_000_u64, "MaxInterval": 9_000_000_000_u64}},
                "JWKSCluster": {"DiscoveryType": "STATIC",
                    "TLSCertificates": {"TrustedCA": {"InlineString": "PEM"}}}}},
            "Locations": [{"Header": {"Name": "h", "ValuePrefix": "P ", "Forward": true}},
                {"QueryParam": {"Name": "q"}}, {"Cookie": {"Name": "c"}}],
            "Forwarding": {"HeaderName": "f", "PadForwardPayloadHeader": true},
            "CacheConfig": {"Size": 5},
            "Hash": 11_143_093_995_538_049_888_u64, "CreateIndex": 18, "ModifyIndex": 19
        })
    }

    #[test]
    fn consuls_answer_is_understood() {
        let read: JwtProviderEntry = serde_json::from_value(written()).unwrap();
        assert!(read.is_understood(), "{read:?}");
        let remote = read.json_web_key_set.unwrap().remote.unwrap();
        assert_eq!(remote.cache_duration, Some(Duration::from_secs(90)));
        let back_off = remote.retry_policy.unwrap().back_off.unwrap();
        assert_eq!(back_off.max_interval, Some(Duration::from_secs(9)));
        assert!(read.locations[0].header.as_ref().unwrap().forward);
        assert_eq!(read.modify_index, 19);
    }

    #[test]
    fn what_decides_on_validity_stays_visible() {
        for pointer in ["", "/Locations/0", "/Forwarding"] {
            let mut written = written();
            written.pointer_mut(pointer).unwrap()["MaxAge"] = json!(5);
            let read: JwtProviderEntry = serde_json::from_value(written).unwrap();
            assert!(!read.is_understood(), "{pointer}");
        }
    }
}
