//! What an idle sidecar costs: there is one for each service instance.

use meridian_tests::consul::{Consul, Service};
use meridian_tests::sidecar::{Kind, Sidecar};
use meridian_tests::world::isolated;

/// Promised in the README.
const IDLE: u64 = 30 << 20;

#[test]
fn an_idle_sidecar_stays_small() {
    isolated("memory", async |world| {
        let consul = Consul::start(world).await;
        let service = Service::new("web", 8000)
            .sidecar(21000)
            .upstream("api", 5000);
        consul.register(&service).await;
        let sidecar = Sidecar::start(world, Kind::Meshd, &service).await;
        let resident = sidecar.process.resident_memory();
        assert!(resident < IDLE, "{} KiB resident", resident >> 10);
    });
}
