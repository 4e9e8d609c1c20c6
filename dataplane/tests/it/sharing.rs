//! Workers that may have but one connection between them: no request fails for it.

use crate::certificates::Authority;
use crate::client::Client;
use crate::http2_origin::{Call, Http2Origin};
use crate::mesh::everyone;
use crate::origin::{Incoming, Origin, response};
use crate::proxy::Proxy;
use crate::shapes::{
    cluster, cluster_through, http, inbound, mesh, put_cluster, put_identity, routes, simple,
    snapshot, to,
};
use crate::until;
use meridian_model::UpstreamProtocol::{self, Http1, Http2};
use meridian_model::policy::CircuitLimits;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Barrier;
use tokio::task::JoinSet;

/// Clients at once: so many that no worker is without.
const CLIENTS: usize = 32;

/// What an origin needs to answer.
const PAUSE: Duration = Duration::from_millis(2);

async fn slow_http1() -> Origin {
    Origin::serving(|mut incoming: Incoming| async move {
        while incoming.request().await.is_some() {
            tokio::time::sleep(PAUSE).await;
            incoming.write(response(200, "ok")).await;
        }
    })
    .await
}

async fn slow_http2() -> Http2Origin {
    Http2Origin::serving(|mut call: Call| async move {
        tokio::time::sleep(PAUSE).await;
        call.answer("ok");
    })
    .await
}

/// A proxy of two workers whose cluster may have so many connections.
async fn limited(connections: u32, protocol: UpstreamProtocol, origins: &[SocketAddr]) -> Proxy {
    let mut plan = simple(protocol, origins[0]);
    let mut limited = cluster("origin", protocol, origins);
    limited.limits = CircuitLimits {
        connections: Some(connections),
        ..CircuitLimits::default()
    };
    put_cluster(&mut plan, limited);
    Proxy::start_on(2, plan).await
}

/// Clients on all workers.
async fn clients(proxy: &Proxy, listener: &str) -> Vec<Client> {
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        clients.push(Client::connect(proxy.address(listener)).await);
    }
    until("connections on both workers", || {
        let status = proxy.plane.status();
        let by_worker = status["connectionsByWorker"].as_array().unwrap();
        let counts: Vec<_> = by_worker.iter().map(|n| n.as_u64().unwrap()).collect();
        counts.len() == 2
            && counts.iter().all(|count| *count > 0)
            && counts.iter().sum::<u64>() == CLIENTS as u64
    })
    .await;
    clients
}

async fn one_after_the_other(clients: &mut [Client]) {
    for client in clients {
        assert_eq!(client.get("/").await.status, 200);
    }
}

async fn all_at_once(clients: Vec<Client>, requests: usize) {
    let mut running = JoinSet::new();
    for mut client in clients {
        running.spawn(async move {
            for _ in 0..requests {
                assert_eq!(client.get("/").await.status, 200);
            }
        });
    }
    running.join_all().await;
}

/// A limit of 0 allows one as well: requests would wait for what can't come.
#[tokio::test]
async fn one_connection_serves_all_workers() {
    for limit in [1, 0] {
        let http1 = slow_http1().await;
        let proxy = limited(limit, Http1, &[http1.address]).await;
        let mut several = clients(&proxy, "in").await;
        one_after_the_other(&mut several).await;
        all_at_once(several, 10).await;
        assert_eq!(http1.connections(), 1, "limit {limit}");

        let http2 = slow_http2().await;
        let proxy = limited(limit, Http2, &[http2.address]).await;
        let mut several = clients(&proxy, "in").await;
        one_after_the_other(&mut several).await;
        all_at_once(several, 10).await;
        assert_eq!(http2.connections(), 1, "limit {limit}");
    }
}

#[tokio::test]
async fn one_connection_serves_all_workers_and_endpoints_in_turn() {
    let (one, other) = (slow_http1().await, slow_http1().await);
    let proxy = limited(1, Http1, &[one.address, other.address]).await;
    let several = clients(&proxy, "in").await;
    all_at_once(several, 5).await;
    assert_eq!(one.seen().len() + other.seen().len(), CLIENTS * 5);
    assert!(!one.seen().is_empty() && !other.seen().is_empty());
}

/// The sidecar of a service, with listeners that take so many connections each, and that of a
/// caller, which calls all of them.
async fn pair(protocol: UpstreamProtocol, origin: SocketAddr, takes: &[u32]) -> [Proxy; 2] {
    let authority = Authority::new();
    let (web, api) = (authority.identity("web"), authority.identity("api"));
    let names: Vec<_> = (0..takes.len()).map(|n| format!("public-{n}")).collect();
    let listeners = names.iter().zip(takes).map(|(name, connections)| {
        let mut listener = inbound(name, "api", everyone());
        listener.limits.connections = *connections;
        listener
    });
    let local = cluster("local", protocol, &[origin]);
    let mut server = snapshot(listeners.collect(), vec![local]);
    put_identity(&mut server, api.clone());
    let callee = Proxy::start(server).await;

    let addresses: Vec<_> = names.iter().map(|name| callee.address(name)).collect();
    let upstream = cluster_through("api", protocol, mesh(&web, &api), &addresses);
    let listener = http("out", routes(vec![to("api")]));
    let mut caller = snapshot(vec![listener], vec![upstream]);
    put_identity(&mut caller, web);
    [Proxy::start_on(2, caller).await, callee]
}

#[tokio::test]
async fn a_callee_that_takes_one_connection_serves_all_workers() {
    let http1 = slow_http1().await;
    let http2 = slow_http2().await;
    for (protocol, origin) in [(Http1, http1.address), (Http2, http2.address)] {
        let [caller, callee] = pair(protocol, origin, &[1]).await;
        let mut several = clients(&caller, "out").await;
        one_after_the_other(&mut several).await;
        all_at_once(several, 10).await;
        let rejected = callee.metric(&["downstream_connections_rejected_total"]);
        assert!(rejected > 0.0, "nobody was turned away: {protocol:?}");
        let made = callee.metric(&["tls_handshakes_total", "server", "\"ok\""]);
        assert_eq!(made, 1.0, "{protocol:?}");
        assert_eq!(caller.metric(&["retries_total"]), 0.0, "{protocol:?}");
    }
}

#[tokio::test]
async fn a_callee_that_is_full_is_left_for_another() {
    let origin = Origin::serving(|mut incoming: Incoming| async move {
        while let Some(seen) = incoming.request().await {
            if seen.path() == "/held" {
                incoming.until_closed().await;
                return;
            }
            incoming.write(response(200, "ok")).await;
        }
    })
    .await;
    let [caller, callee] = pair(Http1, origin.address, &[1, 1024]).await;
    let mut held = clients(&caller, "out").await;
    let mut others = held.split_off(2);
    // One for each of the two listeners.
    for client in &mut held {
        client.send("GET /held HTTP/1.1\r\nHost: a\r\n\r\n").await;
    }
    origin.has_seen(2).await;
    one_after_the_other(&mut others).await;
    let full = ["downstream_connections_rejected_total", "public-0"];
    assert!(callee.metric(&full) > 0.0);
}

#[tokio::test]
async fn the_connections_of_a_burst_are_there_for_the_next() {
    const BURST: usize = 256;
    let together = Arc::new(Barrier::new(BURST));
    let origin = Origin::serving(move |mut incoming: Incoming| {
        let together = Arc::clone(&together);
        async move {
            while incoming.request().await.is_some() {
                together.wait().await;
                incoming.write(response(200, "ok")).await;
            }
        }
    })
    .await;
    let proxy = Proxy::start(simple(Http1, origin.address)).await;
    let mut clients = Vec::new();
    for _ in 0..BURST {
        clients.push(Client::connect(proxy.address("in")).await);
    }
    for _ in 0..3 {
        for client in &mut clients {
            client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        }
        for client in &mut clients {
            assert_eq!(client.response().await.status, 200);
        }
    }
    // A client may be answered a moment before its connection is idle again.
    let made = origin.connections();
    assert!(made <= BURST + BURST / 8, "{made} connections");
}
