//! Clients that connect while a listener is being closed: whoever was let in is served.

use super::{LAST, pinned, until};
use crate::listener::fixture::{self, Fixture, state};
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

const CLIENTS: usize = 2;

/// A handshake that takes longer on the loopback interface is not answered.
const KNOCK: Duration = Duration::from_millis(50);

/// What became of connections.
#[derive(Debug, Default, Clone, Copy)]
struct Counts {
    served: u32,
    refused: u32,
    /// Not answered by the kernel: it drops who comes too late.
    dropped: u32,
    /// Reset before `connect` returned: nothing was sent yet.
    reset_early: u32,
    /// Connected, and reset or closed without an answer.
    lost: u32,
}

impl Counts {
    fn with(self, other: Self) -> Self {
        Self {
            served: self.served + other.served,
            refused: self.refused + other.refused,
            dropped: self.dropped + other.dropped,
            reset_early: self.reset_early + other.reset_early,
            lost: self.lost + other.lost,
        }
    }
}

/// One request after the other, each on a connection of its own, until one is refused.
fn knock(address: SocketAddr, served: &AtomicU32) -> Counts {
    let mut counts = Counts::default();
    loop {
        match TcpStream::connect_timeout(&address, KNOCK) {
            Ok(stream) => match ask(stream) {
                true => {
                    counts.served += 1;
                    served.fetch_add(1, Ordering::Relaxed);
                }
                false => counts.lost += 1,
            },
            Err(error) => {
                match error.kind() {
                    ErrorKind::TimedOut => {
                        counts.dropped += 1;
                        continue;
                    }
                    ErrorKind::ConnectionRefused => counts.refused += 1,
                    ErrorKind::ConnectionReset => counts.reset_early += 1,
                    other => panic!("{other:?}"),
                }
                return counts;
            }
        }
    }
}

fn ask(mut stream: TcpStream) -> bool {
    let mut answer = Vec::new();
    let asked = stream.write_all(LAST);
    asked.is_ok() && stream.read_to_end(&mut answer).is_ok() && !answer.is_empty()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
#[expect(
    clippy::print_stdout,
    reason = "the counts are for the reader of the test's output"
)]
async fn whoever_was_let_in_is_served() {
    const ROUNDS: u32 = 100;
    let mut all = Counts::default();
    let mut f = Fixture::new();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = port.local_addr().unwrap();
    drop(port);
    for round in 0..ROUNDS {
        until("the port is free", || {
            std::net::TcpListener::bind(address).is_ok()
        })
        .await;
        let listener = pinned(fixture::http("web"), address);
        let status = f.listeners.reconcile(vec![state(listener)]);
        assert!(status[0].is_open(), "{status:?}");
        let served = Arc::new(AtomicU32::new(0));
        let clients: Vec<_> = (0..CLIENTS)
            .map(|_| {
                let served = Arc::clone(&served);
                std::thread::spawn(move || knock(address, &served))
            })
            .collect();
        // Another moment of the clients' doings each time.
        until("requests", || served.load(Ordering::Relaxed) > 20 + round).await;
        f.listeners.reconcile(Vec::new());
        for client in clients {
            all = all.with(client.join().unwrap());
        }
    }
    println!("{all:?}");
    assert!(all.served > 0);
    assert_eq!(all.lost, 0, "{all:?}");
}
