//! Rate limits that an instance's registration asks for, since Community Edition takes none in
//! its entries.

use std::time::Instant;

use meridian_tests::client::{Connection, Protocol, loopback};
use meridian_tests::consul::{Consul, Service};
use meridian_tests::origin::Origin;
use meridian_tests::sidecar::{Kind, Sidecar};
use meridian_tests::wait::{self, PATIENCE};
use meridian_tests::world::isolated;

/// Where the caller reaches the limited service.
const WEB: u16 = 5001;
/// Requests that are more than any of the limits below allow at once.
const MANY: usize = 40;

fn web(limit: Option<&str>) -> Service {
    let service = Service::new("web", 8001).sidecar(21001);
    match limit {
        Some(limit) => service.meta("meridian-rate-limit", limit),
        None => service,
    }
}

#[test]
fn a_registrations_limit_holds_by_route_and_goes_with_it() {
    isolated("rate limit", async |world| {
        let consul = Consul::start(world).await;
        consul.protocol("web", "http").await;
        let limit = r#"{"RequestsPerSecond": 1, "RequestsMaxBurst": 5,
            "Routes": [{"PathPrefix": "/free"},
                {"PathExact": "/rare", "RequestsPerSecond": 1}]}"#;
        let (service, caller) = (
            web(Some(limit)),
            Service::new("caller", 8000)
                .sidecar(21000)
                .upstream("web", WEB),
        );
        consul.register(&service).await;
        consul.register(&caller).await;
        let _origin = Origin::start("web", 8001).await;
        let limited = Sidecar::start(world, Kind::Meshd, &service).await;
        let _caller = Sidecar::start(world, Kind::Meshd, &caller).await;
        wait::until("a free path", PATIENCE, async || {
            let (passed, _) = burst("/free", 1).await?;
            (passed == 1)
                .then_some(())
                .ok_or_else(|| "not yet".to_owned())
        })
        .await;

        assert_eq!(burst("/free/x", MANY).await, Ok((MANY, 0)));
        let mut refused = 0;
        for (path, capacity) in [("/", 5), ("/rare", 1)] {
            let began = Instant::now();
            let (passed, too_many) = burst(path, MANY).await.expect("replies");
            let refilled = began.elapsed().as_secs() as usize + 1;
            let allowed = capacity..=capacity + refilled;
            assert!(allowed.contains(&passed), "{passed} to {path}");
            assert_eq!(passed + too_many, MANY);
            refused += too_many;
        }
        let metrics = limited.admin.metrics().await;
        let labels = [("listener", "public_listener"), ("outcome", "refused")];
        let counted = metrics.sum("meridian_http_server_over_rate_requests_total", &labels);
        assert_eq!(counted, refused as f64);

        consul.register(&web(None)).await;
        wait::until("no limit any more", PATIENCE, async || {
            match burst("/", MANY).await? {
                (MANY, 0) => Ok(()),
                (_, refused) => Err(format!("{refused} refused")),
            }
        })
        .await;
    });
}

/// How many of so many requests on one connection pass, and how many are too many.
async fn burst(path: &str, requests: usize) -> Result<(usize, usize), String> {
    let open = Connection::open(loopback(WEB), Protocol::Http1).await;
    let mut connection = open.map_err(|error| error.to_string())?;
    let (mut passed, mut refused) = (0, 0);
    for _ in 0..requests {
        let reply = connection.get(path).await;
        let reply = reply.map_err(|error| error.to_string())?;
        match reply.status.as_u16() {
            200 => passed += 1,
            429 => {
                assert_eq!(reply.text(), "local_rate_limited");
                refused += 1;
            }
            other => return Err(format!("status {other}")),
        }
    }
    Ok((passed, refused))
}
