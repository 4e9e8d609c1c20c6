//! What the status document says of each upstream: limits, use, health, ejection.

use crate::client::{self, Client};
use crate::origin::{Origin, nowhere};
use crate::proxy::Proxy;
use crate::shapes::{cluster, put_cluster, simple};
use crate::until;
use meridian_model::UpstreamProtocol::Http1;
use meridian_model::policy::{CircuitLimits, OutlierPolicy};
use meridian_model::{Endpoint, EndpointAddress, Health, Target, Transport};
use serde_json::json;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

#[tokio::test]
async fn an_upstream_shows_its_limits_its_use_and_what_was_ejected() {
    let origin = Origin::ok().await;
    let broken = nowhere().await;
    let mut plan = simple(Http1, origin.address);
    let mut ours = cluster("origin", Http1, &[origin.address, broken]);
    ours.connect_timeout = Duration::from_millis(700);
    ours.limits = CircuitLimits {
        connections: Some(7),
        ..CircuitLimits::default()
    };
    ours.outlier = Some(OutlierPolicy {
        consecutive_failures: 1,
        ..OutlierPolicy::default()
    });
    put_cluster(&mut plan, ours);
    let proxy = Proxy::start(plan).await;
    // Two in turn: both endpoints are asked, and one of them fails.
    for _ in 0..4 {
        let status = client::get(proxy.address("in"), "/").await.status;
        assert!([200, 503].contains(&status), "{status}");
    }
    let mut held = Client::connect(proxy.address("in")).await;
    held.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(held.response().await.status, 200);

    // The client has its answer a moment before the request is over here.
    until("the request to end", || {
        let limits = &proxy.plane.status()["clusters"][0]["limits"];
        limits["requests"]["used"] == 0
    })
    .await;
    let status = proxy.plane.status();
    let shown = &status["clusters"][0];
    assert_eq!(shown["protocol"], "http1");
    assert_eq!(shown["balancing"], "round_robin");
    assert_eq!(shown["connectTimeoutSeconds"], 0.7);
    assert_eq!(shown["limits"]["connections"]["limit"], 7);
    assert!(shown["limits"]["connections"]["used"].as_u64() >= Some(1));
    assert_eq!(
        shown["limits"]["requests"],
        json!({"used": 0, "limit": 1024, "refused": 0})
    );
    assert_eq!(shown["outlier"]["consecutiveFailures"], 1);
    let target = &shown["targets"][0];
    assert_eq!(
        target["instances"],
        json!({"all": 2, "unhealthy": 0, "ejected": 1})
    );
    // What takes no traffic comes first.
    let [ejected, used] = target["endpoints"].as_array().unwrap().as_slice() else {
        panic!("{target:#}");
    };
    assert_eq!(ejected["address"], broken.to_string());
    assert_eq!(ejected["ejections"], 1);
    assert_eq!(ejected["failures"], 1);
    assert!(ejected["ejectedForSeconds"].as_f64().unwrap() > 20.0);
    assert_eq!(used["address"], origin.address.to_string());
    assert_eq!(used["ejectedForSeconds"], json!(null));
    assert!(used["requests"].as_u64() >= Some(4), "{used:#}");
    assert_eq!(used["activeRequests"], 0);
}

#[tokio::test]
async fn a_large_upstream_is_cut_short_and_shows_its_sick_first() {
    let origin = Origin::ok().await;
    let endpoint = |number: u16| Endpoint {
        address: EndpointAddress::Tcp(SocketAddr::from(([10, 0, 0, 1], number))),
        weight: 1,
        health: if number == 900 {
            Health::Unhealthy
        } else {
            Health::Healthy
        },
        instance: format!("i{number}").into(),
    };
    let mut plan = simple(Http1, origin.address);
    let mut large = cluster("large", Http1, &[]);
    large.targets = vec![Arc::new(Target {
        name: "large".into(),
        transport: Transport::Plain,
        endpoints: (1..=1000).map(endpoint).collect(),
    })];
    put_cluster(&mut plan, large);
    let proxy = Proxy::start(plan).await;
    let status = proxy.plane.status();
    let clusters = status["clusters"].as_array().unwrap();
    let large = clusters.iter().find(|one| one["name"] == "large").unwrap();
    let target = &large["targets"][0];
    assert_eq!(
        target["instances"],
        json!({"all": 1000, "unhealthy": 1, "ejected": 0})
    );
    assert_eq!(target["endpoints"].as_array().unwrap().len(), 100);
    assert_eq!(target["endpoints"][0]["instance"], "i900");
    assert_eq!(target["endpointsLeftOut"], 900);
}
