//! What belongs to transparent mode, without that mode.

use meridian_tests::client::{Protocol, get};
use meridian_tests::consul::{Consul, Service};
use meridian_tests::origin::Origin;
use meridian_tests::sidecar::{Kind, Sidecar};
use meridian_tests::world::isolated;
use serde_json::json;

/// Where the caller's sidecar offers the destination.
const OUT: u16 = 5001;

#[test]
fn a_destination_has_no_instances_without_transparent_mode_at_meshd() {
    a_destination_has_no_instances(Kind::Meshd);
}

#[test]
fn a_destination_has_no_instances_without_transparent_mode_at_envoy() {
    a_destination_has_no_instances(Kind::Envoy);
}

fn a_destination_has_no_instances(kind: Kind) {
    isolated(&format!("destination {kind:?}"), async move |world| {
        let consul = Consul::start(world).await;
        let origin = Origin::start("out", 0).await;
        let destination = json!({"Addresses": ["127.0.0.1"], "Port": origin.address().port()});
        consul
            .config_entry(
                json!({"Kind": "service-defaults", "Name": "out", "Protocol": "http",
                "Destination": destination}),
            )
            .await;
        let caller = Service::new("caller", 8000)
            .sidecar(21000)
            .upstream("out", OUT);
        consul.register(&caller).await;
        let _sidecar = Sidecar::start(world, kind, &caller).await;
        let reply = get(OUT, Protocol::Http1, "/").await.expect("a reply");
        assert_eq!(reply.status, 503);
        assert_eq!(reply.text(), "no healthy upstream");
        assert_eq!(origin.requests(), 0);
    });
}
