//! A second address of a sidecar: a TCP relay in front of it that sees whether a
//! request came this way, under TLS as it is.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

/// Relays for as long as the process runs.
#[derive(Debug)]
pub(super) struct Relay {
    port: u16,
    bytes: Arc<AtomicU64>,
}

impl Relay {
    /// Before a port of the loopback interface.
    pub(super) fn before(target: u16) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port for the relay");
        let port = listener.local_addr().expect("the relay's address").port();
        let bytes = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&bytes);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let count = Arc::clone(&count);
                // A connection that either side cuts ends here and is no concern of the case.
                thread::spawn(move || relay(client, target, &count));
            }
        });
        Self { port, bytes }
    }

    /// Where it listens.
    pub(super) fn port(&self) -> u16 {
        self.port
    }

    /// Bytes that came from clients so far.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::SeqCst)
    }
}

fn relay(client: TcpStream, target: u16, count: &AtomicU64) -> io::Result<()> {
    let server = TcpStream::connect((Ipv4Addr::LOCALHOST, target))?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (from, to) = (server.try_clone()?, client.try_clone()?);
    thread::spawn(move || copy(from, to, &AtomicU64::new(0)));
    copy(client, server, count)
}

fn copy(mut from: TcpStream, mut to: TcpStream, count: &AtomicU64) -> io::Result<()> {
    let mut buffer = [0; 16 << 10];
    loop {
        match from.read(&mut buffer)? {
            0 => return to.shutdown(Shutdown::Write),
            length => {
                // Before it is sent: whoever has the answer finds it counted.
                count.fetch_add(length as u64, Ordering::SeqCst);
                to.write_all(&buffer[..length])?;
            }
        }
    }
}
