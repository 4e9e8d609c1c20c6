//! Load at a fixed rate. Each connection has its own timetable, and latency
//! counts from when a request was due: a proxy that stalls is charged for every
//! request that had to wait, not only for the one under way (the "coordinated
//! omission" of clients that measure from when they send).
//!
//! Threads and blocking sockets rather than a runtime: a sleep of the kernel is
//! exact to some ten microseconds, a runtime's timer to a millisecond.

use std::io;
use std::thread;
use std::time::{Duration, Instant};

use super::Outcome;
use super::plain::Client;
use super::tally::Tally;

pub(super) fn run(port: u16, rate: f64, connections: u32, span: Duration) -> Outcome {
    let began = Instant::now();
    let pause = Duration::from_secs_f64(f64::from(connections) / rate);
    let clients: Vec<_> = (0..connections)
        .map(|index| {
            // Spread evenly, so that the rate holds within a pause as well.
            let first = began + pause * index / connections;
            thread::spawn(move || client(port, first, pause, began + span))
        })
        .collect();
    let parts = clients
        .into_iter()
        .map(|client| client.join().expect("a client's thread"));
    let total = parts.fold(Tally::default(), Tally::and);
    total.outcome(began.elapsed())
}

fn client(port: u16, first: Instant, pause: Duration, end: Instant) -> Tally {
    let mut tally = Tally::default();
    let mut client = Client::new(port, b"");
    let mut due = first;
    while due < end {
        #[expect(clippy::disallowed_methods, reason = "the timetable is the point")]
        thread::sleep(due.saturating_duration_since(Instant::now()));
        count(&mut tally, client.exchange(), due);
        due += pause;
    }
    tally
}

/// Counts what an exchange came to that was due then.
pub(super) fn count(tally: &mut Tally, exchange: io::Result<super::plain::Reply>, due: Instant) {
    match exchange {
        Ok(reply) if reply.good => {
            tally.latencies.push(due.elapsed());
            tally.bytes += reply.bytes;
        }
        // Refused, or broken: counted alike.
        Ok(_) | Err(_) => tally.failed += 1,
    }
}
