//! What the `mesh` entry says about TLS between proxies.

use meridian_tests::certs::{Authority, TRUST_DOMAIN, spiffe_id};
use meridian_tests::client::{Protocol, get, loopback};
use meridian_tests::consul::{Consul, Service};
use meridian_tests::handshake::connect_offering;
use meridian_tests::origin::Origin;
use meridian_tests::sidecar::{Kind, Sidecar};
use meridian_tests::wait::{self, PATIENCE};
use meridian_tests::world::{World, isolated};
use rustls::CipherSuite::{
    self, TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
    TLS13_AES_256_GCM_SHA384,
};
use rustls::crypto::ring;
use serde_json::{Value, json};

/// Where the caller's sidecar offers the destination, and where that one's listens.
const API: u16 = 5001;
const PUBLIC: u16 = 21001;

#[test]
fn versions_and_suites_are_those_of_the_mesh_entry() {
    isolated("mesh tls", async |world| {
        let mesh = Mesh::start(world).await;
        mesh.spoken([true, true, true]).await;
        mesh.arrives(200).await;

        mesh.tls(json!({"Incoming": {"TLSMinVersion": "TLSv1_3"}}))
            .await;
        mesh.spoken([false, false, true]).await;
        mesh.arrives(200).await;

        let one = json!(["TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"]);
        mesh.tls(json!({"Incoming": {"TLSMaxVersion": "TLSv1_2", "CipherSuites": one}}))
            .await;
        mesh.spoken([false, true, false]).await;
        mesh.arrives(200).await;

        mesh.tls(json!({"Incoming": {"TLSMaxVersion": "TLSv1_2"},
            "Outgoing": {"TLSMinVersion": "TLSv1_3"}}))
            .await;
        mesh.spoken([true, true, false]).await;
        mesh.arrives(503).await;
    });
}

#[test]
fn where_nothing_is_left_nothing_is_spoken() {
    isolated("no tls", async |world| {
        let mesh = Mesh::start(world).await;
        mesh.spoken([true, true, true]).await;
        let weak = json!(["TLS_RSA_WITH_AES_128_CBC_SHA"]);
        mesh.tls(json!({"Incoming": {"TLSMaxVersion": "TLSv1_2", "CipherSuites": weak}}))
            .await;
        mesh.spoken([false, false, false]).await;
        let rejected = mesh.sidecars[0].admin.snapshot().await["rejected"].to_string();
        assert!(
            rejected.contains("TLS_RSA_WITH_AES_128_CBC_SHA"),
            "{rejected}"
        );
        assert!(rejected.contains("every handshake fails"), "{rejected}");
        mesh.tls(json!({})).await;
        mesh.spoken([true, true, true]).await;
    });
}

/// A caller and a destination under a CA of the test's own.
struct Mesh {
    consul: Consul,
    authority: Authority,
    /// The destination's, and the caller's.
    sidecars: [Sidecar; 2],
    _origin: Origin,
}

impl Mesh {
    async fn start(world: &World) -> Self {
        let authority = Authority::new(TRUST_DOMAIN);
        let settings = json!({"connect": authority.consul_settings()});
        let consul = Consul::start_with(world, settings).await;
        consul.protocol("api", "http").await;
        let api = Service::new("api", 8001).sidecar(PUBLIC);
        let caller = Service::new("caller", 8000)
            .sidecar(21000)
            .upstream("api", API);
        consul.register(&api).await;
        consul.register(&caller).await;
        let origin = Origin::start("api", api.port).await;
        let sidecars = [
            Sidecar::start(world, Kind::Meshd, &api).await,
            Sidecar::start(world, Kind::Meshd, &caller).await,
        ];
        Self {
            consul,
            authority,
            sidecars,
            _origin: origin,
        }
    }

    async fn tls(&self, tls: Value) {
        let entry = json!({"Kind": "mesh", "TLS": tls});
        self.consul.config_entry(entry).await;
    }

    /// Waits until exactly these are spoken: two suites of TLS 1.2, and one of TLS 1.3.
    async fn spoken(&self, expected: [bool; 3]) {
        let suites = [
            TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
            TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
            TLS13_AES_256_GCM_SHA384,
        ];
        wait::until("the suites that are spoken", PATIENCE, async || {
            let mut seen = [false; 3];
            for (suite, seen) in suites.into_iter().zip(&mut seen) {
                *seen = self.speaks(suite).await;
            }
            if seen == expected {
                Ok(())
            } else {
                Err(format!("{seen:?}, expected {expected:?}"))
            }
        })
        .await;
    }

    async fn speaks(&self, suite: CipherSuite) -> bool {
        let mut provider = ring::default_provider();
        provider.cipher_suites.retain(|one| one.suite() == suite);
        let client = self.authority.leaf(&[&spiffe_id(TRUST_DOMAIN, "caller")]);
        connect_offering(loopback(PUBLIC), "mesh.invalid", Some(client), provider)
            .await
            .is_ok()
    }

    /// Waits until requests of the caller are answered so.
    async fn arrives(&self, status: u16) {
        wait::until("the caller's answer", PATIENCE, async || {
            let reply = get(API, Protocol::Http1, "/").await;
            let seen = reply.map_err(|error| error.to_string())?.status;
            if seen == status {
                Ok(())
            } else {
                Err(seen.to_string())
            }
        })
        .await;
    }
}
