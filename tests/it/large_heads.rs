//! Heads that are larger than a sidecar takes: meshd and Envoy refuse them alike.

use http::Request;
use meridian_tests::client::{Connection, Protocol, empty, loopback};
use meridian_tests::consul::{Consul, Service};
use meridian_tests::origin::Origin;
use meridian_tests::sidecar::{Kind, Sidecar};
use meridian_tests::wait::{self, PATIENCE};
use meridian_tests::world::isolated;

/// Where the caller's sidecar offers the destination.
const WEB: u16 = 5001;

/// More than the 60 KiB that Envoy takes where nobody says otherwise.
const LARGE: usize = 64_000;

#[test]
fn heads_that_are_too_large_are_refused_at_meshd() {
    heads_that_are_too_large_are_refused(Kind::Meshd);
}

#[test]
fn heads_that_are_too_large_are_refused_at_envoy() {
    heads_that_are_too_large_are_refused(Kind::Envoy);
}

fn heads_that_are_too_large_are_refused(kind: Kind) {
    isolated(&format!("large heads {kind:?}"), async move |world| {
        let consul = Consul::start(world).await;
        consul.protocol("web", "http").await;
        let web = Service::new("web", 8001).sidecar(21001);
        let caller = Service::new("caller", 8000)
            .sidecar(21000)
            .upstream("web", WEB);
        consul.register(&web).await;
        consul.register(&caller).await;
        let _origin = Origin::start("web", 8001).await;
        let _sidecars = [
            Sidecar::start(world, kind, &web).await,
            Sidecar::start(world, kind, &caller).await,
        ];
        wait::until("the service", PATIENCE, async || {
            match answer("/", &[]).await? {
                (200, _) => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await;
        let long = "a".repeat(LARGE);
        let refused = (431, "Request Header Fields Too Large".to_owned());
        let many: Vec<_> = (0..120)
            .map(|one| (format!("x-{one}"), "1".to_owned()))
            .collect();
        for (target, headers) in [
            (format!("/{long}"), &[][..]),
            ("/".to_owned(), &[("x-long".to_owned(), long)]),
            ("/".to_owned(), &many),
        ] {
            assert_eq!(answer(&target, headers).await, Ok(refused.clone()));
        }
    });
}

/// Status and words of a reply to a request on a connection of its own.
async fn answer(target: &str, headers: &[(String, String)]) -> Result<(u16, String), String> {
    let open = Connection::open(loopback(WEB), Protocol::Http1).await;
    let mut connection = open.map_err(|error| error.to_string())?;
    let mut request = Request::get(target);
    for (name, value) in headers {
        request = request.header(name, value);
    }
    let request = request.body(empty()).map_err(|error| error.to_string())?;
    let reply = connection.send(request).await;
    let reply = reply.map_err(|error| error.to_string())?;
    Ok((reply.status.as_u16(), reply.text()))
}
