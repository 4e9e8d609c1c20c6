//! Ends of a connection, and what becomes of them on the other side.

use super::{End, Meter, Outcome, Reset, Side, relay};
use crate::downstream::{Rewound, Socket, Wire};
use crate::tls::authority::{Authority, Flaw};
use crate::tls::{mesh_client_config, mesh_server_config};
use meridian_model::TlsTerms;
use rustls::pki_types::ServerName;
use std::future::pending;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_rustls::{TlsAcceptor, TlsConnector};

#[derive(Default)]
struct Counts {
    received: AtomicU64,
    sent: AtomicU64,
}

impl Meter for Counts {
    fn received(&self, bytes: u64) {
        self.received.fetch_add(bytes, Ordering::Relaxed);
    }

    fn sent(&self, bytes: u64) {
        self.sent.fetch_add(bytes, Ordering::Relaxed);
    }
}

async fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let near = TcpStream::connect(listener.local_addr().unwrap())
        .await
        .unwrap();
    (near, listener.accept().await.unwrap().0)
}

struct Fixture {
    client: TcpStream,
    upstream: TcpStream,
    cancel: oneshot::Sender<()>,
    relay: JoinHandle<Outcome>,
}

async fn start(idle: Option<Duration>) -> Fixture {
    let (client, accepted) = pair().await;
    let (connected, upstream) = pair().await;
    let (cancel, cancelled) = oneshot::channel::<()>();
    let relay = tokio::spawn(async move {
        let cancelled = async {
            match cancelled.await {
                Ok(()) => {}
                Err(_) => pending().await,
            }
        };
        relay(accepted, connected, idle, cancelled, &Counts::default()).await
    });
    Fixture {
        client,
        upstream,
        cancel,
        relay,
    }
}

#[tokio::test]
async fn a_half_close_leaves_the_other_direction_open() {
    let mut f = start(None).await;
    f.client.write_all(b"question").await.unwrap();
    f.client.shutdown().await.unwrap();
    let mut question = String::new();
    f.upstream.read_to_string(&mut question).await.unwrap();
    assert_eq!(question, "question");
    f.upstream.write_all(b"the answer").await.unwrap();
    drop(f.upstream);
    let mut answer = String::new();
    f.client.read_to_string(&mut answer).await.unwrap();
    assert_eq!(answer, "the answer");
    let outcome = f.relay.await.unwrap();
    assert_eq!((outcome.received, outcome.sent), (8, 10));
    assert!(matches!(outcome.end, End::Closed(Side::Client)));
}

#[tokio::test]
async fn a_reset_is_passed_on_as_a_reset() {
    for side in [Side::Client, Side::Upstream] {
        let f = start(None).await;
        let (resetting, mut other) = match side {
            Side::Client => (f.client, f.upstream),
            Side::Upstream => (f.upstream, f.client),
        };
        resetting.reset_on_close().unwrap();
        drop(resetting);
        let error = other.read_u8().await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        let outcome = f.relay.await.unwrap();
        assert!(
            matches!(outcome.end, End::Reset(by) if by == side),
            "{outcome:?}"
        );
    }
}

#[tokio::test]
async fn an_end_without_close_notify_is_passed_on_as_a_reset() {
    let ca = Authority::new("td");
    let (web, api) = (
        ca.identity("web", Flaw::None),
        ca.identity("api", Flaw::None),
    );
    let config = mesh_client_config(&web, &ca.transport(&web, "api"), None).unwrap();
    let acceptor = TlsAcceptor::from(mesh_server_config(&api, &[], &TlsTerms::default()).unwrap());
    let (client, accepted) = pair().await;
    let (connected, mut upstream) = pair().await;
    let name = ServerName::try_from("api.test").unwrap();
    let (client, accepted) = tokio::join!(
        TlsConnector::from(config).connect(name, client),
        acceptor.accept(Rewound::from(Socket::Tcp(accepted))),
    );
    let accepted = Wire::Tls(Box::new(accepted.unwrap()));
    let relay = tokio::spawn(async move {
        relay(accepted, connected, None, pending(), &Counts::default()).await
    });
    // The socket closes in order, but TLS does not.
    let mut client = client.unwrap();
    client.get_mut().0.shutdown().await.unwrap();
    let error = upstream.read_u8().await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    assert!(matches!(relay.await.unwrap().end, End::Reset(Side::Client)));
}

#[tokio::test]
async fn a_standstill_ends_both_sides() {
    // Wide enough that a busy machine does not make a standstill of a pause.
    let mut f = start(Some(Duration::from_secs(1))).await;
    for _ in 0..3 {
        tokio::time::sleep(Duration::from_millis(600)).await;
        f.client.write_all(b"x").await.unwrap();
        f.upstream.read_u8().await.unwrap();
    }
    let outcome = f.relay.await.unwrap();
    assert!(matches!(outcome.end, End::Idle));
    assert_eq!(outcome.received, 3);
    assert_eq!(f.client.read(&mut [0]).await.unwrap(), 0);
}

#[tokio::test]
async fn it_stops_when_told() {
    let mut f = start(None).await;
    f.cancel.send(()).unwrap();
    assert!(matches!(f.relay.await.unwrap().end, End::Cancelled));
    assert_eq!(f.upstream.read(&mut [0]).await.unwrap(), 0);
}

#[tokio::test]
async fn bytes_are_counted_while_they_flow() {
    let (mut client, accepted) = pair().await;
    let (connected, mut upstream) = pair().await;
    let counts = Counts::default();
    let relay = relay(accepted, connected, None, pending(), &counts);
    let talk = async {
        client.write_all(&[7; 100_000]).await.unwrap();
        upstream.read_exact(&mut vec![0; 100_000]).await.unwrap();
        upstream.write_all(b"ok").await.unwrap();
        client.read_exact(&mut [0; 2]).await.unwrap();
    };
    tokio::select! {
        outcome = relay => panic!("ended: {outcome:?}"),
        () = talk => {}
    }
    assert_eq!(counts.received.load(Ordering::Relaxed), 100_000);
    assert_eq!(counts.sent.load(Ordering::Relaxed), 2);
}
