//! Prepared queries as upstreams.

use http::Method;
use meridian_tests::client::{Protocol, get};
use meridian_tests::consul::{Consul, Service};
use meridian_tests::origin::{Origin, Seen};
use meridian_tests::sidecar::{Kind, Sidecar};
use meridian_tests::wait::{self, PATIENCE};
use meridian_tests::world::isolated;
use serde_json::json;

const QUERY: u16 = 5001;

#[test]
fn a_prepared_query_leads_to_what_it_finds_from_when_it_is_stored() {
    isolated("prepared query", async |world| {
        let consul = Consul::start(world).await;
        let api = Service::new("api", 8001).sidecar(21001);
        consul.protocol("api", "http").await;
        consul.register(&api).await;
        let _origin = Origin::start("api", api.port).await;
        let _sidecar = Sidecar::start(world, Kind::Meshd, &api).await;
        let mut caller = Service::new("caller", 8000)
            .sidecar(21000)
            .prepared_query("nearest", QUERY);
        caller.upstream_protocol = Some("http".to_owned());
        consul.register(&caller).await;
        let sidecar = Sidecar::start(world, Kind::Meshd, &caller).await;

        let reply = get(QUERY, Protocol::Http1, "/").await.expect("a reply");
        assert_eq!(reply.status, 503, "nobody is found yet");
        let rejected = sidecar.admin.snapshot().await["rejected"].to_string();
        assert!(rejected.contains("prepared_query:nearest"), "{rejected}");

        let query = json!({"Name": "nearest", "Service": {"Service": "api"}});
        consul.api(Method::POST, "/v1/query", Some(query)).await;
        wait::until("the query's instance", PATIENCE, async || {
            let reply = get(QUERY, Protocol::Http1, "/").await;
            let seen = Seen::from_reply(&reply.map_err(|error| error.to_string())?)?;
            (seen.origin == "api").then_some(()).ok_or(seen.origin)
        })
        .await;
        let rejected = sidecar.admin.snapshot().await["rejected"].to_string();
        assert!(!rejected.contains("prepared_query"), "{rejected}");
    });
}
