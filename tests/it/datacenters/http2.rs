//! HTTP/2 and gRPC from one datacenter to the other, through gateways that see neither.

use std::rc::Rc;

use meridian_tests::client::{Protocol, get, grpc, loopback};
use meridian_tests::datacenter::{FAR_ADDRESS, Federation, NEAR_ADDRESS, Site};
use meridian_tests::mesh_gateway::MeshGateway;
use meridian_tests::origin::Seen;
use meridian_tests::sidecar::Kind;
use meridian_tests::wait::{self, PATIENCE};
use meridian_tests::world::isolated;
use serde_json::json;

use super::stage::{Callee, caller, replicated, serve};

/// Where the caller finds the service that speaks HTTP/2, and the one that speaks gRPC.
const TWO: u16 = 5001;
const RPC: u16 = 5002;

#[test]
fn http2_and_grpc_cross_both_gateways() {
    isolated("http2 between datacenters", async |world| {
        let federation = Federation::start(world, json!({})).await;
        federation.consul.protocol("two", "http2").await;
        federation.consul.protocol("rpc", "grpc").await;
        replicated(&federation, "service-defaults", 2).await;
        let _far = federation
            .far
            .within(async move |site: Rc<Site>| {
                let (world, consul) = (&site.world, site.consul());
                (
                    serve(world, consul, &Callee::new("two", 1), Kind::Meshd).await,
                    serve(world, consul, &Callee::new("rpc", 2), Kind::Envoy).await,
                    MeshGateway::start(world, Kind::Meshd, FAR_ADDRESS, &[]).await,
                )
            })
            .await;
        let _gateway = MeshGateway::start(world, Kind::Meshd, NEAR_ADDRESS, &[]).await;
        let modes = [("two", "local", TWO), ("rpc", "remote", RPC)];
        let _caller = caller(world, &federation.consul, Kind::Meshd, &modes, 0).await;
        http2_stays_http2().await;
        grpc_has_trailers().await;
        grpc_streams_both_ways_at_once().await;
    });
}

async fn http2_stays_http2() {
    let seen = wait::until("HTTP/2 in the other datacenter", PATIENCE, async || {
        let reply = get(TWO, Protocol::Http2, "/two").await;
        Seen::from_reply(&reply.map_err(|error| error.to_string())?)
    })
    .await;
    let meaning = (seen.version.as_str(), seen.target.as_str());
    assert_eq!(meaning, ("HTTP/2.0", "/two"));
}

async fn grpc_has_trailers() {
    let path = "/echo.Echo/Unary";
    let (answer, trailers) = wait::until("gRPC in the other datacenter", PATIENCE, async || {
        grpc::unary(loopback(RPC), path, b"question").await
    })
    .await;
    assert_eq!(answer, &b"question"[..]);
    assert_eq!(trailers["grpc-status"], "0");
    assert_eq!(trailers["seen-te"], "trailers");
}

async fn grpc_streams_both_ways_at_once() {
    let call = grpc::Call::start(loopback(RPC), "/echo.Echo/Stream").await;
    let mut call = call.expect("a streaming call");
    for message in ["one", "two", "three"] {
        call.send(message.as_bytes()).await.expect("room for it");
        let echoed = call.message().await.expect("the stream goes on");
        let echoed = echoed.as_deref();
        assert_eq!(
            echoed,
            Some(message.as_bytes()),
            "before the next one is sent"
        );
    }
    let trailers = call.finish().await.expect("trailers");
    assert_eq!(trailers["grpc-status"], "0");
}
