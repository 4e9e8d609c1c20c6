//! New leaves while traffic flows: connections never mix identities, requests never fail.

use crate::client::Client;
use crate::http2_origin::Http2Origin;
use crate::mesh::{Pair, everyone};
use crate::origin::Origin;
use crate::shapes::put_identity;
use meridian_model::{TrustDomain, UpstreamProtocol};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

const HANDSHAKES: [&str; 3] = ["tls_handshakes_total", "client", "\"ok\""];

#[tokio::test]
async fn connections_outlive_a_renewed_leaf_and_no_other_change() {
    let plain = Origin::ok().await;
    let streams = Http2Origin::serving(|mut call| async move { call.answer("ok") }).await;
    for (protocol, address) in [
        (UpstreamProtocol::Http1, plain.address),
        (UpstreamProtocol::Http2, streams.address),
    ] {
        let pair = Pair::start(protocol, address, everyone()).await;
        let mut client = Client::connect(pair.address()).await;
        let mut handshakes_after_requests = async || {
            for _ in 0..3 {
                assert_eq!(client.get("/").await.status, 200);
            }
            pair.web.metric(&HANDSHAKES)
        };
        assert_eq!(handshakes_after_requests().await, 1.0);

        // Other roots: what was proved with those before proves nothing now.
        let mut identity = pair.authority.identity("web");
        let other = TrustDomain::new("other.consul");
        let roots = identity.trust.roots.values().next().unwrap().clone();
        identity.trust.roots.insert(other.clone(), roots);
        pair.web.change(|s| put_identity(s, identity.clone())).await;
        let with_more_trust = handshakes_after_requests().await;
        identity.trust.roots.remove(&other);
        pair.web.change(|s| put_identity(s, identity)).await;
        assert_eq!(handshakes_after_requests().await, with_more_trust + 1.0);

        // Somebody else is who we are.
        let mut other = pair.authority.identity("other");
        other.name = "web".into();
        pair.web.change(|s| put_identity(s, other)).await;
        assert_eq!(handshakes_after_requests().await, with_more_trust + 2.0);
    }
    let last = plain.seen().pop().unwrap();
    let header = last.values("x-forwarded-client-cert");
    assert!(header[0].ends_with("/svc/other"), "{header:?}");
}

#[tokio::test]
async fn twenty_rotations_under_load_lose_no_request() {
    let origin = Origin::ok().await;
    let pair = Pair::start(UpstreamProtocol::Http1, origin.address, everyone()).await;
    let stop = Arc::new(AtomicBool::new(false));
    let answered = Arc::new(AtomicUsize::new(0));
    let mut clients = Vec::new();
    for _ in 0..4 {
        let (stop, answered) = (Arc::clone(&stop), Arc::clone(&answered));
        let mut client = Client::connect(pair.address()).await;
        clients.push(tokio::spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                assert_eq!(client.get("/").await.status, 200);
                answered.fetch_add(1, Ordering::Relaxed);
            }
        }));
    }
    for round in 0..20 {
        let (web, api) = (
            pair.authority.identity("web"),
            pair.authority.identity("api"),
        );
        if round % 2 == 0 {
            pair.web.change(|s| put_identity(s, web)).await;
        } else {
            pair.api.change(|s| put_identity(s, api)).await;
        }
        let goal = answered.load(Ordering::Relaxed) + 20;
        crate::until("requests between rotations", || {
            answered.load(Ordering::Relaxed) >= goal
        })
        .await;
    }
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        client.await.unwrap();
    }
    assert!(pair.web.metric(&HANDSHAKES) >= 1.0);
}
