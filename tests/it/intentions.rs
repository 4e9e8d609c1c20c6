//! Intentions decide about new connections, about open ones, and about the next
//! request of a connection that is kept.

use meridian_tests::client::{Connection, Protocol, loopback};
use meridian_tests::consul::{Consul, Service};
use meridian_tests::origin::{Origin, TcpOrigin};
use meridian_tests::sidecar::{Kind, Sidecar};
use meridian_tests::wait::{self, PATIENCE};
use meridian_tests::world::{World, isolated};
use std::io::ErrorKind;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

const TCP: u16 = 5001;
const HTTP: u16 = 5002;

/// A caller with a TCP and an HTTP destination, all beside meshd.
struct Mesh {
    consul: Consul,
    _sidecars: Vec<Sidecar>,
    _tcp: TcpOrigin,
    _http: Origin,
}

impl Mesh {
    async fn start(world: &World) -> Self {
        let consul = Consul::start(world).await;
        consul.protocol("http", "http").await;
        let services = [
            Service::new("tcp", 8001).sidecar(21001),
            Service::new("http", 8002).sidecar(21002),
            Service::new("caller", 8000)
                .sidecar(21000)
                .upstream("tcp", TCP)
                .upstream("http", HTTP),
        ];
        let mut sidecars = Vec::new();
        for service in &services {
            consul.register(service).await;
            sidecars.push(Sidecar::start(world, Kind::Meshd, service).await);
        }
        let mesh = Self {
            consul,
            _sidecars: sidecars,
            _tcp: TcpOrigin::start(8001).await,
            _http: Origin::start("http", 8002).await,
        };
        wait::holds("TCP before", PATIENCE, async || ping().await == b"ping").await;
        wait::until("HTTP before", PATIENCE, async || status().await).await;
        mesh
    }
}

#[test]
fn a_denied_tcp_call_is_accepted_and_closed_without_a_byte() {
    isolated("tcp deny", async |world| {
        let mesh = Mesh::start(world).await;
        mesh.consul.intentions("tcp", &[("caller", "deny")]).await;
        wait::holds("TCP while denied", PATIENCE, async || {
            ping().await.is_empty()
        })
        .await;
        mesh.consul
            .delete_config_entry("service-intentions", "tcp")
            .await;
        wait::holds("TCP after", PATIENCE, async || ping().await == b"ping").await;
    });
}

#[test]
fn an_open_tcp_connection_ends_when_it_is_denied() {
    isolated("tcp cut", async |world| {
        let mesh = Mesh::start(world).await;
        let mut stream = TcpStream::connect(loopback(TCP))
            .await
            .expect("a connection");
        stream.write_all(b"ping").await.expect("an open connection");
        let mut answer = [0; 4];
        stream.read_exact(&mut answer).await.expect("an echo");

        mesh.consul.intentions("tcp", &[("another", "deny")]).await;
        stream
            .write_all(b"pong")
            .await
            .expect("another's intention is not ours");
        stream.read_exact(&mut answer).await.expect("an echo");

        mesh.consul.intentions("tcp", &[("caller", "deny")]).await;
        let end = timeout(PATIENCE, stream.read(&mut answer))
            .await
            .expect("an end");
        // Closed in order or reset: either way nothing more comes.
        assert_eq!(end.unwrap_or(0), 0);
    });
}

#[test]
fn the_next_request_of_a_kept_connection_is_denied() {
    isolated("http deny", async |world| {
        let mesh = Mesh::start(world).await;
        let mut kept = Connection::open(loopback(HTTP), Protocol::Http1)
            .await
            .expect("HTTP/1.1");
        assert_eq!(kept.get("/").await.expect("a reply").status, 200);

        mesh.consul.intentions("http", &[("caller", "deny")]).await;
        let reply = wait::until("HTTP while denied", PATIENCE, async || {
            let reply = kept.get("/").await.map_err(|error| error.to_string())?;
            if reply.status == 403 {
                Ok(reply)
            } else {
                Err(reply.status.to_string())
            }
        })
        .await;
        assert_eq!(reply.text(), "RBAC: access denied");

        mesh.consul
            .delete_config_entry("service-intentions", "http")
            .await;
        wait::until("HTTP after", PATIENCE, async || status().await).await;
    });
}

/// What comes back from the TCP destination; nothing where it closes.
async fn ping() -> Vec<u8> {
    let mut stream = match TcpStream::connect(loopback(TCP)).await {
        Ok(stream) => stream,
        // Accepted, and reset before this side had asked how connecting went.
        Err(error) if error.kind() == ErrorKind::ConnectionReset => return Vec::new(),
        Err(error) => panic!("the listener of an upstream stays open: {error}"),
    };
    // Writing to a connection that the sidecar closes may fail: reading tells.
    let _ = stream.write_all(b"ping").await;
    let mut answer = vec![0; 4];
    match timeout(PATIENCE, stream.read(&mut answer)).await {
        Ok(Ok(length)) => answer.truncate(length),
        Ok(Err(_)) => answer.clear(),
        Err(_) => panic!("neither an answer nor an end"),
    }
    answer
}

async fn status() -> Result<(), String> {
    let reply = meridian_tests::client::get(HTTP, Protocol::Http1, "/").await;
    let status = reply.map_err(|error| error.to_string())?.status;
    if status == 200 {
        Ok(())
    } else {
        Err(status.to_string())
    }
}
