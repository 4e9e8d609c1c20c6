//! Listeners that come, change and go while clients are connected.

mod closing;

use super::fixture::{self, Fixture, SOON, address, exchange, read_to_end, response, state};
use super::{Bound, Entrance, ListenerState};
use crate::drain::Drained;
use crate::tls::authority::{Authority, Flaw};
use crate::tls::{mesh_client_config, mesh_server_config};
use meridian_model::listener::{ConnectionDeadlines, ConnectionLimits};
use meridian_model::{Bind, Listener, Security, TlsTerms};
use rustls::pki_types::ServerName;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const LAST: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";

/// Asks again and again until `holds`, as what is asked about runs on another thread.
async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < SOON, "never: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// The same listener at the address that it was given.
fn pinned(mut listener: Listener, bind: std::net::SocketAddr) -> Listener {
    listener.bind = Bind::Tcp(bind);
    listener
}

#[tokio::test]
async fn listeners_are_added_and_removed_at_run_time() {
    let (mut f, one) = Fixture::with(fixture::http("one"));
    assert!(exchange(one, LAST).await.ends_with("HTTP/1.1 0"));
    let status = f.listeners.reconcile(vec![
        state(fixture::http("one")),
        state(fixture::http("two")),
    ]);
    assert_eq!(address(&status[0]), one);
    let two = address(&status[1]);
    assert!(exchange(two, LAST).await.ends_with("HTTP/1.1 0"));
    let status = f.listeners.reconcile(vec![state(fixture::http("two"))]);
    assert_eq!(status.len(), 1);
    until("the first one refuses", || {
        std::net::TcpStream::connect(one).is_err()
    })
    .await;
    assert!(exchange(two, LAST).await.ends_with("HTTP/1.1 0"));
}

#[tokio::test]
async fn a_changed_state_reaches_connections_that_are_open() {
    let (mut f, address) = Fixture::with(fixture::http("web"));
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(GET).await.unwrap();
    response(&mut stream).await;
    let mut changed = fixture::http("web");
    changed.limits.connections = 7;
    f.listeners.reconcile(vec![state(changed)]);
    let handles = f.listeners.handles();
    assert_eq!(handles.len(), 1);
    let connections = handles[0].connections();
    assert_eq!(connections[0].listener.state().model.limits.connections, 7);
    stream.write_all(LAST).await.unwrap();
    assert!(read_to_end(&mut stream).await.ends_with("HTTP/1.1 0"));
}

#[tokio::test]
async fn a_changed_protocol_keeps_the_socket_and_drains_its_connections() {
    let (mut f, _) = Fixture::with(fixture::http("web"));
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let bind = port.local_addr().unwrap();
    drop(port);
    f.listeners
        .reconcile(vec![state(pinned(fixture::http("web"), bind))]);
    let mut idle = TcpStream::connect(bind).await.unwrap();
    idle.write_all(GET).await.unwrap();
    response(&mut idle).await;
    f.listeners
        .reconcile(vec![state(pinned(fixture::tcp("web"), bind))]);
    assert_eq!(read_to_end(&mut idle).await, "");
    let mut echo = TcpStream::connect(bind).await.unwrap();
    echo.write_all(b"echo").await.unwrap();
    let mut heard = [0; 4];
    echo.read_exact(&mut heard).await.unwrap();
    assert_eq!(&heard, b"echo");
}

#[tokio::test]
async fn an_address_in_use_is_reported_and_tried_again() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let bind = taken.local_addr().unwrap();
    let mut f = Fixture::new();
    let status = f.listeners.reconcile(vec![
        state(pinned(fixture::http("web"), bind)),
        state(fixture::http("other")),
    ]);
    assert!(
        status
            .iter()
            .any(|s| s.is_open() && s.name.as_str() == "other")
    );
    let failed = status.iter().find(|s| !s.is_open()).unwrap();
    assert!(matches!(failed.bound, Bound::Failed { attempts: 1, .. }));
    timeout(SOON, f.listeners.retry_failed()).await.unwrap();
    drop(taken);
    while f.listeners.status().iter().any(|status| !status.is_open()) {
        timeout(SOON, f.listeners.retry_failed()).await.unwrap();
    }
    assert!(exchange(bind, LAST).await.ends_with("HTTP/1.1 0"));
}

#[tokio::test]
async fn two_listeners_cannot_have_one_address() {
    let (mut f, bind) = Fixture::with(fixture::http("one"));
    f.listeners.reconcile(Vec::new());
    until("the port is free", || {
        std::net::TcpListener::bind(bind).is_ok()
    })
    .await;
    let status = f.listeners.reconcile(vec![
        state(pinned(fixture::http("one"), bind)),
        state(pinned(fixture::http("two"), bind)),
    ]);
    let Bound::Failed { error, .. } = &status[1].bound else {
        panic!("{status:?}")
    };
    assert_eq!(error.to_string(), "address is taken by listener one");
}

#[tokio::test]
async fn unix_sockets_are_served() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("web.sock");
    let mut listener = fixture::http("web");
    listener.bind = Bind::Unix {
        path: path.clone(),
        mode: None,
    };
    let mut f = Fixture::new();
    f.listeners.reconcile(vec![state(listener)]);
    let mut stream = UnixStream::connect(&path).await.unwrap();
    stream.write_all(LAST).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.ends_with("HTTP/1.1 0"), "{answer}");
    f.listeners.reconcile(Vec::new());
    assert!(!path.exists());
}

#[tokio::test]
async fn one_connection_too_many_is_closed_at_once_and_counted() {
    let mut listener = fixture::tcp("db");
    listener.limits = ConnectionLimits {
        connections: 1,
        ..ConnectionLimits::default()
    };
    let (f, address) = Fixture::with(listener);
    let mut first = TcpStream::connect(address).await.unwrap();
    first.write_all(b"x").await.unwrap();
    first.read_u8().await.unwrap();
    let mut second = TcpStream::connect(address).await.unwrap();
    assert_eq!(read_to_end(&mut second).await, "");
    let rejected = "meridian_downstream_connections_rejected_total{listener=\"db\"}";
    until("it is counted", || f.metric(rejected) == Some(1.0)).await;
    drop(first);
    let handle = &f.listeners.handles()[0];
    until("the first is gone", || handle.open_connections() == 0).await;
    until("its seat is free", || f.workers.connections() == [0, 0]).await;
}

#[tokio::test]
async fn a_closed_permission_ends_live_connections() {
    for listener in [fixture::http("web"), fixture::tcp("web")] {
        let (f, address) = Fixture::with(listener);
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(GET).await.unwrap();
        stream.read_u8().await.unwrap();
        for connection in f.listeners.handles()[0].connections() {
            connection.close();
        }
        read_to_end(&mut stream).await;
    }
}

#[tokio::test]
async fn a_drain_ends_idle_connections_promptly_and_lets_requests_finish() {
    let (mut f, address) = Fixture::with(fixture::http("web"));
    let mut idle = TcpStream::connect(address).await.unwrap();
    idle.write_all(GET).await.unwrap();
    response(&mut idle).await;
    let mut silent = TcpStream::connect(address).await.unwrap();
    let mut busy = TcpStream::connect(address).await.unwrap();
    let head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n";
    busy.write_all(head).await.unwrap();
    let handle = Arc::clone(&f.listeners.handles()[0]);
    until("all are listed", || handle.connections().len() == 3).await;
    let start = Instant::now();
    f.drain.begin(start + SOON);
    f.listeners.reconcile(Vec::new());
    assert_eq!(read_to_end(&mut idle).await, "");
    assert_eq!(read_to_end(&mut silent).await, "");
    assert!(start.elapsed() < Duration::from_secs(1));
    until("one is left", || f.drain.in_flight() == 1).await;
    busy.write_all(b"ab").await.unwrap();
    let answer = read_to_end(&mut busy).await;
    assert!(answer.ends_with("HTTP/1.1 2"), "{answer}");
    assert_eq!(f.drain.finished().await, Drained::Complete);
}

struct Mesh {
    fixture: Fixture,
    address: std::net::SocketAddr,
    ca: Authority,
}

fn mesh_listener() -> Mesh {
    let ca = Authority::new("td");
    let api = ca.identity("api", Flaw::None);
    let mut listener = fixture::http("public");
    listener.security = Security::Mesh {
        identity: "api".into(),
        alpn: Vec::new(),
        terms: TlsTerms::default(),
    };
    listener.deadlines = ConnectionDeadlines {
        handshake: Duration::from_millis(200),
        ..ConnectionDeadlines::default()
    };
    let mut fixture = Fixture::new();
    let status = fixture.listeners.reconcile(vec![ListenerState {
        model: Arc::new(listener),
        entrance: Entrance::Tls(mesh_server_config(&api, &[], &TlsTerms::default()).unwrap()),
        app: (),
    }]);
    let address = address(&status[0]);
    Mesh {
        fixture,
        address,
        ca,
    }
}

impl Mesh {
    fn handshakes(&self, result: &str) -> Option<f64> {
        self.fixture.metric(&format!(
            "meridian_tls_handshakes_total{{cluster=\"\",listener=\"public\",result=\"{result}\",side=\"server\"}}"
        ))
    }

    async fn connect(
        &self,
        flaw: Flaw,
    ) -> std::io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
        let web = self.ca.identity("web", flaw);
        let config = mesh_client_config(&web, &self.ca.transport(&web, "api"), None).unwrap();
        let stream = TcpStream::connect(self.address).await.unwrap();
        let name = ServerName::try_from("api.default.dc1.internal.td").unwrap();
        TlsConnector::from(config).connect(name, stream).await
    }
}

#[tokio::test]
async fn a_proved_peer_is_known_to_the_connection() {
    let mesh = mesh_listener();
    let mut stream = mesh.connect(Flaw::None).await.unwrap();
    stream.write_all(GET).await.unwrap();
    assert_eq!(stream.read_u8().await.unwrap(), b'H');
    let connection = Arc::clone(&mesh.fixture.listeners.handles()[0].connections()[0]);
    assert_eq!(connection.peer().unwrap().spiffe, mesh.ca.spiffe("web"));
    let facts = connection.tls.as_ref().unwrap();
    assert_eq!(facts.sni.as_deref(), Some("api.default.dc1.internal.td"));
    assert_eq!(facts.version, "TLSv1_3");
    assert_eq!(mesh.handshakes("ok"), Some(1.0));
}

#[tokio::test]
async fn refused_peers_are_counted_by_reason() {
    let mesh = mesh_listener();
    for (flaw, result) in [(Flaw::Expired, "expired"), (Flaw::TwoUris, "bad_spiffe")] {
        let refused = match mesh.connect(flaw).await {
            Ok(mut stream) => stream.read_u8().await.is_err(),
            Err(_) => true,
        };
        assert!(refused, "{flaw:?}");
        until(result, || mesh.handshakes(result) == Some(1.0)).await;
    }
}

#[tokio::test]
async fn a_handshake_that_does_not_come_is_cut() {
    let mesh = mesh_listener();
    let mut stream = TcpStream::connect(mesh.address).await.unwrap();
    stream.write_all(&[0x16, 3, 1]).await.unwrap();
    assert_eq!(read_to_end(&mut stream).await, "");
    until("it is counted", || mesh.handshakes("timeout") == Some(1.0)).await;
}
