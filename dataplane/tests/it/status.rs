//! What the status document says of each upstream: limits, use, connections, health, ejection.

use crate::client::{self, Client};
use crate::origin::{Origin, nowhere};
use crate::proxy::Proxy;
use crate::shapes::{cluster, put_cluster, simple, snapshot, tcp};
use crate::until;
use meridian_model::UpstreamProtocol::{Http1, Tcp};
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
    let open = &shown["limits"]["connections"]["used"];
    assert_eq!(&used["connections"], open, "all of them lead there");
    assert_eq!(ejected["connections"], 0);
}

/// Connections of the only cluster, and of its instances in the order of their addresses.
fn connections(proxy: &Proxy) -> (u64, Vec<u64>) {
    let status = proxy.plane.status();
    let shown = &status["clusters"][0];
    let count = |value: &serde_json::Value| value.as_u64().unwrap();
    let endpoints = shown["targets"][0]["endpoints"].as_array().unwrap();
    let endpoints = endpoints.iter().map(|one| count(&one["connections"]));
    (
        count(&shown["limits"]["connections"]["used"]),
        endpoints.collect(),
    )
}

#[tokio::test]
async fn connections_are_counted_for_each_instance_and_for_all() {
    let (one, two) = (Origin::ok().await, Origin::ok().await);
    let mut plan = simple(Http1, one.address);
    put_cluster(
        &mut plan,
        cluster("origin", Http1, &[one.address, two.address]),
    );
    let proxy = Proxy::start(plan).await;
    assert_eq!(connections(&proxy), (0, vec![0, 0]));
    for _ in 0..2 {
        let answer = client::get(proxy.address("in"), "/").await;
        assert_eq!(answer.status, 200);
    }
    // In turn, and kept: one each.
    until("a connection to each", || {
        connections(&proxy) == (2, vec![1, 1])
    })
    .await;
}

#[tokio::test]
async fn connections_of_bytes_are_counted_while_they_last() {
    let origin = Origin::echo().await;
    let plan = snapshot(
        vec![tcp("in", "origin")],
        vec![cluster("origin", Tcp, &[origin.address])],
    );
    let proxy = Proxy::start(plan).await;
    let held = Client::connect(proxy.address("in")).await;
    until("the connection", || connections(&proxy) == (1, vec![1])).await;
    drop(held);
    until("its end", || connections(&proxy) == (0, vec![0])).await;
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
