//! Listeners that come, change and go while requests flow, and what is said of them.

use crate::client::{self, Client};
use crate::origin::{Origin, response};
use crate::proxy::{Output, Proxy, metrics};
use crate::shapes::{cluster, http, put_cluster, put_listener, routes, simple, snapshot, tcp, to};
use crate::until;
use meridian_model::Bind;
use meridian_model::UpstreamProtocol::{Http1, Tcp};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::net::{TcpListener, TcpStream};

#[tokio::test]
async fn listeners_come_and_go_while_others_serve() {
    let origin = Origin::ok().await;
    let proxy = Proxy::start(simple(Http1, origin.address)).await;
    let stop = Arc::new(AtomicBool::new(false));
    let mut client = Client::connect(proxy.address("in")).await;
    let load = tokio::spawn({
        let stop = Arc::clone(&stop);
        async move {
            let mut count = 0;
            while !stop.load(Ordering::Relaxed) {
                assert_eq!(client.get("/").await.status, 200);
                count += 1;
            }
            count
        }
    });
    for round in 0..10 {
        let name = format!("extra-{round}");
        let extra = http(&name, routes(vec![to("origin")]));
        proxy.change(|s| put_listener(s, extra)).await;
        proxy.ready().await;
        let address = proxy.address(&name);
        assert_eq!(client::get(address, "/").await.status, 200);
        proxy
            .change(|s| drop(s.listeners.remove(name.as_str())))
            .await;
        until("the port to close", || {
            std::net::TcpStream::connect(address).is_err()
        })
        .await;
    }
    stop.store(true, Ordering::Relaxed);
    assert!(load.await.unwrap() > 0);
}

#[tokio::test]
async fn open_connections_follow_new_routes_and_endpoints() {
    let old = Origin::answering(|_| response(200, "old")).await;
    let new = Origin::answering(|_| response(200, "new")).await;
    let proxy = Proxy::start(simple(Http1, old.address)).await;
    let address = proxy.address("in");
    let mut client = Client::connect(address).await;
    assert_eq!(client.get("/").await.text(), "old");
    let other = cluster("other", Http1, &[new.address]);
    proxy
        .change(|s| {
            put_cluster(s, other);
            put_listener(s, http("in", routes(vec![to("other")])));
        })
        .await;
    assert_eq!(client.get("/").await.text(), "new");
    let moved = cluster("other", Http1, &[old.address]);
    proxy.change(|s| put_cluster(s, moved)).await;
    assert_eq!(client.get("/").await.text(), "old");
    assert_eq!(proxy.address("in"), address);
}

#[tokio::test]
async fn a_removed_listener_ends_its_kept_connections_and_finishes_its_requests() {
    let (go, wait) = tokio::sync::watch::channel(false);
    let origin = Origin::serving(move |mut incoming| {
        let mut wait = wait.clone();
        async move {
            while let Some(seen) = incoming.request().await {
                if seen.path() == "/slow" {
                    wait.wait_for(|go| *go).await.unwrap();
                }
                incoming.write(response(200, "ok")).await;
            }
        }
    })
    .await;
    let proxy = Proxy::start(simple(Http1, origin.address)).await;
    let mut idle = Client::connect(proxy.address("in")).await;
    assert_eq!(idle.get("/").await.status, 200);
    let mut busy = Client::connect(proxy.address("in")).await;
    busy.send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n").await;
    origin.has_seen(2).await;
    proxy.change(|s| drop(s.listeners.remove("in"))).await;
    assert_eq!(idle.rest().await, b"");
    go.send(true).unwrap();
    let answer = busy.response().await;
    assert_eq!(answer.text(), "ok");
    assert_eq!(answer.header("connection"), Some("close"));
    assert_eq!(busy.rest().await, b"");
}

#[tokio::test]
async fn a_port_that_is_taken_is_reported_and_opened_when_it_is_free() {
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap();
    let mut listener = http("in", routes(Vec::new()));
    listener.bind = Bind::Tcp(address);
    let plan = snapshot(vec![listener], Vec::new());
    let proxy = Proxy::start_with(plan, metrics(), Output::default());
    until("the failure to be reported", || {
        proxy.plane.status()["listeners"][0]["state"] == "failed"
    })
    .await;
    let readiness = proxy.plane.readiness().borrow().clone();
    assert!(!readiness.ready);
    assert_eq!(readiness.waiting_for, ["listener in to open"]);
    let error = proxy.plane.status()["listeners"][0]["error"].to_string();
    assert!(error.contains("in use"), "{error}");
    drop(taken);
    proxy.ready().await;
    assert_eq!(client::get(address, "/").await.status, 404);
}

#[tokio::test]
async fn nothing_is_ready_before_the_first_snapshot() {
    let plan = snapshot(Vec::new(), Vec::new());
    let (sender, watched) = tokio::sync::watch::channel(Arc::new(plan.clone()));
    let telemetry = meridian_dataplane::Telemetry {
        metrics: metrics(),
        access_log: None,
        spans: meridian_telemetry::SpanSink::disabled(),
    };
    let settings = meridian_dataplane::Settings { workers: 1 };
    let plane = meridian_dataplane::DataPlane::start(settings, watched, telemetry).unwrap();
    let readiness = plane.readiness();
    until("a first word", || {
        !readiness.borrow().waiting_for.is_empty()
    })
    .await;
    assert_eq!(readiness.borrow().waiting_for, ["the first snapshot"]);
    sender.send_replace(Arc::new(plan.clone().succeeding(&plan)));
    until("readiness", || readiness.borrow().ready).await;
}

#[tokio::test]
async fn the_status_document_says_what_is_served() {
    let origin = Origin::echo().await;
    let clusters = vec![cluster("origin", Tcp, &[origin.address])];
    let mut plan = snapshot(vec![tcp("in", "origin")], clusters);
    plan.sources = vec![meridian_model::SourceStatus {
        name: "test".into(),
        state: meridian_model::SourceState::Stale {
            since: std::time::SystemTime::now() - std::time::Duration::from_secs(60),
            cause: meridian_model::StaleCause::Unreachable,
            reason: "gone".into(),
        },
    }];
    plan.rejected = vec![meridian_model::Rejection {
        resource: "routes[3]".into(),
        reason: "nonsense".into(),
    }];
    let proxy = Proxy::start(plan).await;
    let _open = TcpStream::connect(proxy.address("in")).await.unwrap();
    until("the connection to be counted", || {
        proxy.plane.status()["connections"] == 1
    })
    .await;
    let status = proxy.plane.status();
    assert_eq!(status["generation"], 1);
    assert_eq!(status["listeners"][0]["name"], "in");
    assert_eq!(status["listeners"][0]["state"], "open");
    let address = proxy.address("in").to_string();
    assert_eq!(status["listeners"][0]["address"], address);
    assert_eq!(status["clusters"][0]["protocol"], "tcp");
    let endpoint = &status["clusters"][0]["targets"][0]["endpoints"][0];
    assert_eq!(endpoint["address"], origin.address.to_string());
    assert_eq!(endpoint["healthy"], true);
    assert_eq!(status["sources"][0]["state"], "stale");
    assert!(status["sources"][0]["ageSeconds"].as_f64().unwrap() >= 60.0);
    assert_eq!(status["rejected"][0]["resource"], "routes[3]");
}

#[tokio::test]
async fn a_mesh_listener_without_its_identity_does_not_open() {
    let listener = crate::shapes::inbound("public", "missing", crate::mesh::everyone());
    let plan = snapshot(vec![listener], Vec::new());
    let proxy = Proxy::start_with(plan, metrics(), Output::default());
    until("the refusal", || {
        proxy.plane.status()["rejected"][0]["resource"] == "listener public"
    })
    .await;
    assert!(proxy.plane.addresses().is_empty());
    assert!(!proxy.plane.readiness().borrow().ready);
}
