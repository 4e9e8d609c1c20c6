//! A TCP upstream without an instance, or with no connection left: its clients see an end in good
//! order, of meshd as of Envoy.

use std::io::ErrorKind;

use meridian_tests::client::loopback;
use meridian_tests::consul::{Consul, Service};
use meridian_tests::origin::TcpOrigin;
use meridian_tests::sidecar::{Kind, Sidecar};
use meridian_tests::wait::{self, PATIENCE};
use meridian_tests::world::{World, isolated};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Where the caller offers the service.
const UPSTREAM: u16 = 5000;

/// How often each thing is done.
const TIMES: usize = 20;

/// How a connection ended for its client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// In good order, without a byte.
    Closed,
    Reset,
}

/// Ends of connections on which the client waits, and on which it speaks at once.
#[derive(Debug, PartialEq, Eq)]
struct Ends {
    silent: Vec<End>,
    speaking: Vec<End>,
}

#[test]
fn a_tcp_upstream_without_an_instance_ends_in_good_order() {
    let meshd = ends(Kind::Meshd);
    assert_eq!(meshd.silent, [End::Closed; TIMES]);
    assert_eq!(meshd.speaking, [End::Closed; TIMES]);
    // Where it closes with bytes of the client unread, the kernel resets the connection: that is
    // a race, and not what is meant.
    assert_eq!(ends(Kind::Envoy).silent, [End::Closed; TIMES]);
}

#[test]
fn a_tcp_connection_above_a_limit_ends_in_good_order() {
    for limit in [Limit::Caller, Limit::Callee] {
        let meshd = ends_above(Kind::Meshd, limit);
        assert_eq!(meshd.silent, [End::Closed; TIMES], "{limit:?}");
        assert_eq!(meshd.speaking, [End::Closed; TIMES], "{limit:?}");
        assert_eq!(
            ends_above(Kind::Envoy, limit).silent,
            [End::Closed; TIMES],
            "{limit:?}"
        );
    }
}

/// Who may have but one connection.
#[derive(Debug, Clone, Copy)]
enum Limit {
    /// `Limits.MaxConnections` of its upstream.
    Caller,
    /// `MaxInboundConnections` of the service.
    Callee,
}

fn ends(kind: Kind) -> Ends {
    seen(
        &format!("{kind:?} without an instance"),
        async move |world| {
            let consul = Consul::start(world).await;
            consul.register(&caller("nobody")).await;
            let _sidecar = Sidecar::start(world, kind, &caller("nobody")).await;
            all_ends().await
        },
    )
}

/// The ends of connections beside the one that is allowed.
fn ends_above(kind: Kind, limit: Limit) -> Ends {
    seen(
        &format!("{kind:?} above a limit of the {limit:?}"),
        async move |world| {
            let consul = Consul::start(world).await;
            let entry = match limit {
                Limit::Caller => json!({"Kind": "service-defaults", "Name": "caller",
                    "UpstreamConfig": {"Defaults": {"Limits": {"MaxConnections": 1}}}}),
                Limit::Callee => json!({"Kind": "service-defaults", "Name": "db",
                    "MaxInboundConnections": 1}),
            };
            consul.config_entry(entry).await;
            let db = Service::new("db", 8001).sidecar(21001);
            consul.register(&db).await;
            consul.register(&caller("db")).await;
            let _origin = TcpOrigin::start(8001).await;
            let _sidecars = [
                Sidecar::start(world, kind, &db).await,
                Sidecar::start(world, kind, &caller("db")).await,
            ];
            let mut held = wait::until("the one connection", PATIENCE, async || {
                let mut stream = TcpStream::connect(loopback(UPSTREAM)).await?;
                exchange(&mut stream).await.map(|()| stream)
            })
            .await;
            let ends = all_ends().await;
            exchange(&mut held).await.expect("it goes on");
            ends
        },
    )
}

/// What is seen in a world of its own.
fn seen(name: &str, look: impl AsyncFnOnce(&World) -> Ends + Send + 'static) -> Ends {
    let (tell, told) = std::sync::mpsc::channel();
    isolated(name, async move |world| {
        let ends = look(world).await;
        tell.send(ends).expect("the test waits");
    });
    told.recv().expect("the ends were seen")
}

fn caller(upstream: &str) -> Service {
    Service::new("caller", 8000)
        .sidecar(21000)
        .upstream(upstream, UPSTREAM)
}

async fn all_ends() -> Ends {
    let mut ends = Ends {
        silent: Vec::new(),
        speaking: Vec::new(),
    };
    for _ in 0..TIMES {
        ends.silent.push(end(b"").await);
        ends.speaking.push(end(b"hello").await);
    }
    ends
}

/// A byte to the origin and back.
async fn exchange(stream: &mut TcpStream) -> std::io::Result<()> {
    stream.write_all(b"x").await?;
    stream.read_exact(&mut [0]).await.map(drop)
}

async fn end(words: &[u8]) -> End {
    let mut stream = TcpStream::connect(loopback(UPSTREAM))
        .await
        .expect("a connection to the sidecar");
    // A reset shows when it is read.
    let _ = stream.write_all(words).await;
    let mut answer = Vec::new();
    let read = timeout(PATIENCE, stream.read_to_end(&mut answer)).await;
    match read.expect("an end of the connection") {
        Ok(read) => {
            assert_eq!(read, 0, "{answer:?}");
            End::Closed
        }
        Err(error) if error.kind() == ErrorKind::ConnectionReset => End::Reset,
        Err(error) => panic!("{error}"),
    }
}
