//! A new TLS connection for each request, with a full handshake every time.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rustls::client::Resumption;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use super::Outcome;

pub(super) fn run(port: u16, trusted: &str, clients: usize, span: Duration) -> Outcome {
    let config = Arc::new(configuration(trusted));
    let began = Instant::now();
    let clients: Vec<_> = (0..clients)
        .map(|_| {
            let config = Arc::clone(&config);
            thread::spawn(move || client(port, &config, began + span))
        })
        .collect();
    let mut total = Outcome::default();
    for client in clients {
        let part = client.join().expect("a client's thread");
        total.good += part.good;
        total.failed += part.failed;
        total.bytes += part.bytes;
    }
    Outcome {
        elapsed: began.elapsed(),
        ..total
    }
}

fn configuration(trusted: &str) -> ClientConfig {
    let certificate = CertificateDer::from_pem_slice(trusted.as_bytes()).expect("a certificate");
    let mut roots = RootCertStore::empty();
    roots.add(certificate).expect("a root");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions that the provider knows")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.resumption = Resumption::disabled();
    config
}

fn client(port: u16, config: &Arc<ClientConfig>, end: Instant) -> Outcome {
    let mut part = Outcome::default();
    while Instant::now() < end {
        match exchange(port, config) {
            Ok(reply) if reply.starts_with(b"HTTP/1.1 200") => {
                part.good += 1;
                part.bytes += reply.len() as u64;
            }
            // Refused or broken: counted alike.
            _ => part.failed += 1,
        }
    }
    part
}

fn exchange(port: u16, config: &Arc<ClientConfig>) -> io::Result<Vec<u8>> {
    let socket = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    socket.set_nodelay(true)?;
    let name = ServerName::try_from("localhost").map_err(io::Error::other)?;
    let session = ClientConnection::new(Arc::clone(config), name).map_err(io::Error::other)?;
    let mut stream = StreamOwned::new(session, socket);
    stream.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")?;
    let mut reply = Vec::new();
    match stream.read_to_end(&mut reply) {
        // HAProxy ends without close_notify; the reply carries its own length.
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(reply),
        end => end.map(|_| reply),
    }
}
