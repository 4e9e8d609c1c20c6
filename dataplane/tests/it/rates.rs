//! Rate limits: who is refused, in which words, and what a new snapshot does to what was taken.

use crate::client::{self, Client};
use crate::http2_client::{Http2Client, grpc};
use crate::http2_origin::Http2Origin;
use crate::origin::Origin;
use crate::proxy::Proxy;
use crate::shapes::{put_cluster, put_listener, simple};
use meridian_model::UpstreamProtocol::{Http1, Http2};
use meridian_model::route::PathMatch;
use meridian_model::{RateLimit, RouteRate, Service, Snapshot, TokenBucket};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

/// So many requests, and no more while a test runs.
fn tokens(capacity: u32) -> TokenBucket {
    TokenBucket {
        capacity: NonZeroU32::new(capacity).unwrap(),
        fill: NonZeroU32::MIN,
        interval: Duration::from_secs(3600),
    }
}

fn limited(mut plan: Snapshot, rates: Vec<RateLimit>) -> Snapshot {
    let mut listener = (*plan.listeners["in"]).clone();
    if let Service::Http(service) = &mut listener.service {
        Arc::make_mut(service).filters.rates = rates;
    }
    put_listener(&mut plan, listener);
    plan
}

async fn statuses(proxy: &Proxy, path: &str, requests: usize) -> Vec<u16> {
    let mut statuses = Vec::new();
    for _ in 0..requests {
        statuses.push(client::get(proxy.address("in"), path).await.status);
    }
    statuses
}

#[tokio::test]
async fn what_is_too_much_is_refused_in_envoys_words() {
    let origin = Origin::ok().await;
    let rates = vec![RateLimit::of(tokens(2))];
    let proxy = Proxy::start(limited(simple(Http1, origin.address), rates)).await;
    assert_eq!(statuses(&proxy, "/", 2).await, [200, 200]);
    let mut client = Client::connect(proxy.address("in")).await;
    // A body that nobody wants does not end the connection.
    for _ in 0..2 {
        client
            .send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc")
            .await;
        let response = client.response().await;
        assert_eq!(response.status, 429);
        assert_eq!(response.body, b"local_rate_limited");
        assert_eq!(response.header("content-type"), Some("text/plain"));
    }
    assert_eq!(origin.seen().len(), 2);
    let refused = ["over_rate_requests_total", "\"in\"", "\"refused\""];
    proxy.metric_becomes(&refused, 2.0).await;
}

#[tokio::test]
async fn grpc_clients_read_that_it_is_unavailable() {
    let origin = Http2Origin::echo().await;
    let rates = vec![RateLimit::of(tokens(1))];
    let proxy = Proxy::start(limited(simple(Http2, origin.address), rates)).await;
    let mut client = Http2Client::connect(proxy.address("in")).await;
    let first = client.call(grpc("/a/b"), b"x").await;
    assert_eq!(first.trailer("grpc-status"), Some("0"));
    let second = client.call(grpc("/a/b"), b"x").await;
    assert_eq!(second.header("grpc-status"), Some("14"));
    assert_eq!(second.header("grpc-message"), Some("local_rate_limited"));
    assert!(second.trailers.is_none() && second.body.is_empty());
}

#[tokio::test]
async fn every_limit_counts_and_a_route_has_its_own() {
    let origin = Origin::ok().await;
    let route = RouteRate {
        path: PathMatch::Prefix("/own".into()),
        bucket: Some(tokens(2)),
    };
    let by_route = RateLimit {
        routes: vec![route],
        ..RateLimit::of(tokens(1))
    };
    let rates = vec![RateLimit::of(tokens(4)), by_route];
    let proxy = Proxy::start(limited(simple(Http1, origin.address), rates)).await;
    assert_eq!(statuses(&proxy, "/own?x=1", 3).await, [200, 200, 429]);
    assert_eq!(statuses(&proxy, "/", 2).await, [200, 429]);
}

#[tokio::test]
async fn what_is_not_enforced_is_counted() {
    let origin = Origin::ok().await;
    let mut rate = RateLimit::of(tokens(1));
    rate.enforced = 0;
    let proxy = Proxy::start(limited(simple(Http1, origin.address), vec![rate])).await;
    assert_eq!(statuses(&proxy, "/", 3).await, [200, 200, 200]);
    let spared = ["over_rate_requests_total", "\"in\"", "\"spared\""];
    proxy.metric_becomes(&spared, 2.0).await;
}

#[tokio::test]
async fn a_new_snapshot_gives_nothing_back_that_was_taken() {
    let origin = Origin::ok().await;
    let rates = vec![RateLimit::of(tokens(2))];
    let plan = limited(simple(Http1, origin.address), rates.clone());
    let proxy = Proxy::start(plan).await;
    assert_eq!(statuses(&proxy, "/", 1).await, [200]);
    proxy
        .change(|plan| {
            let mut listener = (*plan.listeners["in"]).clone();
            listener.limits.headers = 50;
            put_listener(plan, listener);
            let mut cluster = (*plan.clusters["origin"]).clone();
            cluster.idle_timeout = Duration::from_secs(1);
            put_cluster(plan, cluster);
        })
        .await;
    assert_eq!(statuses(&proxy, "/", 2).await, [200, 429]);
    proxy
        .change(|plan| *plan = limited(plan.clone(), vec![RateLimit::of(tokens(3))]))
        .await;
    assert_eq!(statuses(&proxy, "/", 4).await, [200, 200, 200, 429]);
}
