//! A sidecar follows its registration while it runs.

use meridian_tests::client::{Protocol, get};
use meridian_tests::consul::{Consul, Service};
use meridian_tests::origin::{Origin, Seen};
use meridian_tests::sidecar::{Kind, Sidecar};
use meridian_tests::wait::{self, PATIENCE};
use meridian_tests::world::{isolated, listens};

#[test]
fn upstream_listeners_come_and_go_with_the_registration() {
    isolated("registration", async |world| {
        let consul = Consul::start(world).await;
        let mut origins = Vec::new();
        let mut sidecars = Vec::new();
        for (name, port) in [("one", 8001), ("two", 8002)] {
            consul.protocol(name, "http").await;
            let service = Service::new(name, port).sidecar(port + 13000);
            consul.register(&service).await;
            origins.push(Origin::start(name, port).await);
            sidecars.push(Sidecar::start(world, Kind::Meshd, &service).await);
        }
        let bare = Service::new("caller", 8000).sidecar(21000);
        consul.register(&bare.clone().upstream("one", 5001)).await;
        let caller = bare.clone().upstream("one", 5001);
        let mut caller = Sidecar::start(world, Kind::Meshd, &caller).await;
        reaches(5001, "one").await;

        consul
            .register(&bare.clone().upstream("one", 5001).upstream("two", 5002))
            .await;
        reaches(5002, "two").await;
        reaches(5001, "one").await;

        consul.register(&bare.clone().upstream("two", 5001)).await;
        reaches(5001, "two").await;
        wait::holds("the removed listener closes", PATIENCE, async || {
            !listens(5002)
        })
        .await;

        consul
            .register(&bare.sidecar(21900).upstream("two", 5001))
            .await;
        wait::holds("the public listener moves", PATIENCE, async || {
            listens(21900) && !listens(21000)
        })
        .await;
        reaches(5001, "two").await;
        caller.process.assert_running();
    });
}

/// Waits until a port leads to an origin.
async fn reaches(port: u16, origin: &str) {
    wait::until(&format!("{origin} on port {port}"), PATIENCE, async || {
        let reply = get(port, Protocol::Http1, "/").await;
        let seen = Seen::from_reply(&reply.map_err(|error| error.to_string())?)?;
        if seen.origin == origin {
            Ok(())
        } else {
            Err(seen.origin)
        }
    })
    .await;
}
