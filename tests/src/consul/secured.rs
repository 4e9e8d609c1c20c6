//! An agent as in production: no right without a token, and no word without TLS.
//!
//! Its HTTPS port asks for certificates of both sides. The plain port stays open
//! for the harness, which calls with the management token.

use std::path::PathBuf;

use http::Method;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, SanType};
use serde_json::{Value, json};

use super::Consul;
use crate::world::World;

/// Where a secured agent answers those with a certificate.
pub const HTTPS_API: &str = "https://127.0.0.1:8501";

/// Fixed, so that nothing must be asked of the agent before it can be asked.
const MANAGEMENT: &str = "5f4dcc3b-5aa7-65d6-1d83-27deb882cf99";

/// Certificates of an agent's API, as files.
#[derive(Debug)]
pub struct Secured {
    authority: PathBuf,
    agent: Pair,
    client: Pair,
}

#[derive(Debug)]
struct Pair {
    certificate: PathBuf,
    key: PathBuf,
}

/// A token of one proxy.
#[derive(Debug, Clone)]
pub struct AclToken {
    /// What an operator names it by.
    pub accessor: String,
    /// What the proxy presents.
    pub secret: String,
}

impl Secured {
    /// Makes an authority, and certificates for the agent and its clients.
    pub fn new(world: &World) -> Self {
        let mut parameters = CertificateParams::default();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key for the authority");
        let authority = CertifiedIssuer::self_signed(parameters, key).expect("an authority");
        let pair = |name: &str, names: Vec<SanType>| {
            let mut parameters = CertificateParams::default();
            parameters.subject_alt_names = names;
            let key = KeyPair::generate().expect("a key");
            let certificate = parameters
                .signed_by(&key, &authority)
                .expect("a certificate");
            Pair {
                certificate: world.write(&format!("{name}.pem"), &certificate.pem()),
                key: world.write(&format!("{name}.key"), &key.serialize_pem()),
            }
        };
        let loopback = SanType::IpAddress([127, 0, 0, 1].into());
        Self {
            agent: pair("api-agent", vec![loopback]),
            client: pair("api-client", Vec::new()),
            authority: world.write("api-ca.pem", &authority.pem()),
        }
    }

    /// Settings of an agent that trusts nobody.
    fn settings(&self) -> Value {
        json!({
            "ports": {"grpc": 8502, "serf_wan": -1, "https": 8501},
            "tls": {"https": {
                "verify_incoming": true,
                "ca_file": self.authority,
                "cert_file": self.agent.certificate,
                "key_file": self.agent.key,
            }},
            "acl": {
                "enabled": true,
                "default_policy": "deny",
                "tokens": {"initial_management": MANAGEMENT, "agent": MANAGEMENT},
            },
        })
    }

    /// What a proxy is told to reach the agent: address and certificates.
    pub fn words(&self) -> Vec<String> {
        let words = format!(
            "--http-addr {HTTPS_API} --ca-file {} --client-cert {} --client-key {}",
            self.authority.display(),
            self.client.certificate.display(),
            self.client.key.display(),
        );
        words.split_whitespace().map(str::to_owned).collect()
    }
}

impl Consul {
    /// Starts an agent with `default_policy = deny` and an HTTPS port that asks for
    /// certificates.
    pub async fn start_secured(world: &World, secured: &Secured) -> Self {
        Self::start_as(world, secured.settings(), Some(MANAGEMENT.to_owned())).await
    }

    /// A token with the rights of one service and its sidecar, and no other.
    pub async fn service_token(&self, service: &str) -> AclToken {
        self.token_with(json!({"ServiceIdentities": [{"ServiceName": service}]}))
            .await
    }

    /// A token with a policy of its own.
    pub async fn policy_token(&self, name: &str, rules: &str) -> AclToken {
        let policy = json!({"Name": name, "Rules": rules});
        self.api(Method::PUT, "/v1/acl/policy", Some(policy)).await;
        self.token_with(json!({"Policies": [{"Name": name}]})).await
    }

    /// Deletes a token: whoever holds it holds nothing.
    pub async fn revoke(&self, token: &AclToken) {
        let path = format!("/v1/acl/token/{}", token.accessor);
        self.api(Method::DELETE, &path, None).await;
    }

    async fn token_with(&self, rights: Value) -> AclToken {
        let made = self.api(Method::PUT, "/v1/acl/token", Some(rights)).await;
        let text = |field: &str| made[field].as_str().expect("a new token").to_owned();
        AclToken {
            accessor: text("AccessorID"),
            secret: text("SecretID"),
        }
    }
}
