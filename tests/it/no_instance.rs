//! A TCP upstream without an instance: its clients see an end in good order, of meshd as of Envoy.

use std::io::ErrorKind;

use meridian_tests::client::loopback;
use meridian_tests::consul::{Consul, Service};
use meridian_tests::sidecar::{Kind, Sidecar};
use meridian_tests::wait::PATIENCE;
use meridian_tests::world::isolated;
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

fn ends(kind: Kind) -> Ends {
    let (tell, told) = std::sync::mpsc::channel();
    isolated(
        &format!("{kind:?} without an instance"),
        async move |world| {
            let consul = Consul::start(world).await;
            let caller = Service::new("caller", 8000)
                .sidecar(21000)
                .upstream("nobody", UPSTREAM);
            consul.register(&caller).await;
            let _sidecar = Sidecar::start(world, kind, &caller).await;
            let mut ends = Ends {
                silent: Vec::new(),
                speaking: Vec::new(),
            };
            for _ in 0..TIMES {
                ends.silent.push(end(b"").await);
                ends.speaking.push(end(b"hello").await);
            }
            tell.send(ends).expect("the test waits");
        },
    );
    told.recv().expect("the ends were seen")
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
