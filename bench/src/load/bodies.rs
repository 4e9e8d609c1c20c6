//! Large bodies both ways: each connection sends one, reads one, and begins anew.

use std::thread;
use std::time::{Duration, Instant};

use super::Outcome;
use super::open::count;
use super::plain::Client;
use super::tally::Tally;
use crate::origin::LARGE;

pub(super) fn run(port: u16, connections: usize, span: Duration) -> Outcome {
    let began = Instant::now();
    let clients: Vec<_> = (0..connections)
        .map(|_| thread::spawn(move || client(port, began + span)))
        .collect();
    let parts = clients
        .into_iter()
        .map(|client| client.join().expect("a client's thread"));
    let total = parts.fold(Tally::default(), Tally::and);
    total.outcome(began.elapsed())
}

fn client(port: u16, end: Instant) -> Tally {
    let mut tally = Tally::default();
    let mut client = Client::new(port, &vec![b'x'; LARGE]);
    while Instant::now() < end {
        let began = Instant::now();
        count(&mut tally, client.exchange(), began);
    }
    // As many bytes went there as came back.
    tally.bytes += tally.latencies.len() as u64 * LARGE as u64;
    tally
}
