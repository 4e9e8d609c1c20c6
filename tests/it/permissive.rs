//! Permissive mutual TLS: Consul's Envoy opens its door for plain text in transparent mode only.

use http::Method;
use meridian_tests::client::{Protocol, get};
use meridian_tests::consul::{Consul, Service};
use meridian_tests::origin::Origin;
use meridian_tests::sidecar::{Kind, Sidecar};
use meridian_tests::world::isolated;
use serde_json::json;

const PUBLIC: u16 = 21001;

#[test]
fn plain_text_is_refused_without_transparent_mode_at_meshd() {
    plain_text_is_refused(Kind::Meshd);
}

#[test]
fn plain_text_is_refused_without_transparent_mode_at_envoy() {
    plain_text_is_refused(Kind::Envoy);
}

/// A proxy only hears of a mode that Consul has let in.
#[test]
fn consul_alone_judges_who_may_ask_for_it() {
    isolated("permissive rule", async |world| {
        let consul = Consul::start(world).await;
        let entry = json!({"Kind": "service-defaults", "Name": "api",
            "MutualTLSMode": "permissive"});
        let allow =
            |allowed: bool| json!({"Kind": "mesh", "AllowEnablingPermissiveMutualTLS": allowed});
        let refused = consul
            .try_api(Method::PUT, "/v1/config", Some(entry.clone()))
            .await;
        let reason = refused.expect_err("a refusal");
        assert!(
            reason.contains("AllowEnablingPermissiveMutualTLS"),
            "{reason}"
        );
        consul.config_entry(allow(true)).await;
        consul.config_entry(entry.clone()).await;
        // What stands may stand, also when it is written again.
        consul.config_entry(allow(false)).await;
        consul.config_entry(entry).await;
    });
}

fn plain_text_is_refused(kind: Kind) {
    isolated(&format!("permissive at {kind:?}"), async move |world| {
        let consul = Consul::start(world).await;
        consul
            .config_entry(json!({"Kind": "mesh", "AllowEnablingPermissiveMutualTLS": true}))
            .await;
        consul
            .config_entry(
                json!({"Kind": "service-defaults", "Name": "api", "Protocol": "http",
                "MutualTLSMode": "permissive"}),
            )
            .await;
        let api = Service::new("api", 8001).sidecar(PUBLIC);
        consul.register(&api).await;
        let origin = Origin::start("api", api.port).await;
        let _sidecar = Sidecar::start(world, kind, &api).await;
        let answer = get(PUBLIC, Protocol::Http1, "/").await;
        assert!(answer.is_err(), "{answer:?}");
        assert_eq!(origin.requests(), 0);
    });
}
