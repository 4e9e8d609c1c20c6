//! How a handshake ends that is refused: at Meridian's listeners, and at Envoy's.

use meridian_tests::certs::{Authority, Identity, TRUST_DOMAIN, spiffe_id};
use meridian_tests::client::loopback;
use meridian_tests::consul::{Consul, Service};
use meridian_tests::handshake::{self, Refusal};
use meridian_tests::sidecar::{Kind, Sidecar};
use meridian_tests::wait::{self, PATIENCE};
use meridian_tests::world::{World, isolated};
use rustls::AlertDescription::{
    self, CertificateExpired, CertificateRequired, CertificateUnknown, DecryptError,
    HandshakeFailure, ProtocolVersion,
};
use rustls::CipherSuite::{
    self, TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, TLS13_AES_256_GCM_SHA384,
};
use rustls::crypto::ring;
use serde_json::json;

const PUBLIC: u16 = 21001;
const OLD: CipherSuite = TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256;
const NEW: CipherSuite = TLS13_AES_256_GCM_SHA384;

#[test]
fn a_refused_handshake_ends_with_its_alert_at_meshd() {
    isolated("alerts at meshd", async |world| {
        let stage = Stage::start(world, Kind::Meshd).await;
        for (what, client, alert) in stage.unwelcome() {
            for suite in [OLD, NEW] {
                let refused = refusal(client.clone(), suite).await;
                assert_eq!(refused, Refusal::Alert(alert), "{what} {suite:?}");
            }
        }
        stage.what_is_not_common_is_said().await;
    });
}

/// Whether a client gets to see an alert about its certificate is not sure here.
#[test]
fn a_refused_handshake_ends_at_envoy() {
    isolated("alerts at Envoy", async |world| {
        let stage = Stage::start(world, Kind::Envoy).await;
        for (what, client, _) in stage.unwelcome() {
            for suite in [OLD, NEW] {
                let refused = refusal(client.clone(), suite).await;
                let said = matches!(refused, Refusal::Alert(_) | Refusal::End);
                assert!(said, "{what} {suite:?}: {refused:?}");
            }
        }
        stage.what_is_not_common_is_said().await;
    });
}

/// A service under a CA of the test's own.
struct Stage {
    consul: Consul,
    authority: Authority,
    _sidecar: Sidecar,
}

impl Stage {
    async fn start(world: &World, kind: Kind) -> Self {
        let authority = Authority::new(TRUST_DOMAIN);
        let settings = json!({"connect": authority.consul_settings()});
        let consul = Consul::start_with(world, settings).await;
        let api = Service::new("api", 8001).sidecar(PUBLIC);
        consul.register(&api).await;
        Self {
            consul,
            authority,
            _sidecar: Sidecar::start(world, kind, &api).await,
        }
    }

    /// Clients that must not come in, and what we tell them.
    fn unwelcome(&self) -> [(&'static str, Option<Identity>, AlertDescription); 5] {
        let caller = spiffe_id(TRUST_DOMAIN, "caller");
        let stranger = spiffe_id("99999999-2222-3333-4444-555555555555.consul", "caller");
        let forged = Authority::new(TRUST_DOMAIN).leaf(&[&caller]);
        let ours = &self.authority;
        [
            ("no certificate", None, CertificateRequired),
            (
                "another key under the authority's name",
                Some(forged),
                DecryptError,
            ),
            (
                "expired",
                Some(ours.expired_leaf(&[&caller])),
                CertificateExpired,
            ),
            (
                "another trust domain",
                Some(ours.leaf(&[&stranger])),
                CertificateUnknown,
            ),
            (
                "no identity",
                Some(ours.host_leaf("caller.test")),
                CertificateUnknown,
            ),
        ]
    }

    /// Both proxies say so where no version, or no suite, is common.
    async fn what_is_not_common_is_said(&self) {
        let one = json!({"TLSMaxVersion": "TLSv1_2",
            "CipherSuites": ["TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"]});
        let entry = json!({"Kind": "mesh", "TLS": {"Incoming": one}});
        self.consul.config_entry(entry).await;
        for (suite, alert) in [(NEW, ProtocolVersion), (OLD, HandshakeFailure)] {
            wait::until(&format!("{alert:?}"), PATIENCE, async || {
                let refused = refusal(None, suite).await;
                (refused == Refusal::Alert(alert))
                    .then_some(())
                    .ok_or_else(|| format!("{refused:?}"))
            })
            .await;
        }
    }
}

/// How a client is refused that offers one suite.
async fn refusal(identity: Option<Identity>, suite: CipherSuite) -> Refusal {
    let mut provider = ring::default_provider();
    provider.cipher_suites.retain(|one| one.suite() == suite);
    handshake::refusal(loopback(PUBLIC), "mesh.invalid", identity, provider).await
}
