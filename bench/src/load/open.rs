//! Load at a fixed rate. Each connection has its own timetable, and latency
//! counts from when a request was due: a proxy that stalls is charged for every
//! request that had to wait, not only for the one under way (the "coordinated
//! omission" of clients that measure from when they send).
//!
//! Threads and blocking sockets rather than a runtime: a sleep of the kernel is
//! exact to some ten microseconds, a runtime's timer to a millisecond.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use super::{Latency, Outcome};

/// More than any proxy lets a request wait; ends a turn whose proxy hangs.
const PATIENCE: Duration = Duration::from_secs(20);

pub(super) fn run(port: u16, rate: f64, connections: usize, span: Duration) -> Outcome {
    let began = Instant::now();
    #[expect(clippy::cast_precision_loss, reason = "a handful of connections")]
    let pause = Duration::from_secs_f64(connections as f64 / rate);
    let clients: Vec<_> = (0..connections)
        .map(|index| {
            // Spread evenly, so that the rate holds within a pause as well.
            let share = u32::try_from(index).unwrap_or(u32::MAX);
            let count = u32::try_from(connections).unwrap_or(u32::MAX);
            let first = began + pause * share / count;
            thread::spawn(move || client(port, first, pause, began + span))
        })
        .collect();
    let parts = clients
        .into_iter()
        .map(|client| client.join().expect("a client's thread"));
    let total = parts.fold(Part::default(), Part::and);
    total.outcome(began.elapsed())
}

/// What one connection saw.
#[derive(Debug, Default)]
struct Part {
    latencies: Vec<Duration>,
    failed: u64,
    bytes: u64,
}

impl Part {
    fn and(mut self, other: Self) -> Self {
        self.latencies.extend(other.latencies);
        self.failed += other.failed;
        self.bytes += other.bytes;
        self
    }

    fn outcome(mut self, elapsed: Duration) -> Outcome {
        self.latencies.sort_unstable();
        let at = |percent: usize| {
            let last = self.latencies.len().checked_sub(1)?;
            self.latencies.get(last * percent / 100).copied()
        };
        Outcome {
            good: self.latencies.len() as u64,
            failed: self.failed,
            elapsed,
            bytes: self.bytes,
            latency: at(50).zip(at(99)).map(|(median, ninety_ninth)| Latency {
                median,
                ninety_ninth,
            }),
        }
    }
}

fn client(port: u16, first: Instant, pause: Duration, end: Instant) -> Part {
    let mut part = Part::default();
    let mut connection = None;
    let mut due = first;
    while due < end {
        #[expect(clippy::disallowed_methods, reason = "the timetable is the point")]
        thread::sleep(due.saturating_duration_since(Instant::now()));
        match exchange(&mut connection, port) {
            Ok(Reply { good: true, bytes }) => {
                part.latencies.push(due.elapsed());
                part.bytes += bytes;
            }
            Ok(_) => part.failed += 1,
            Err(_) => {
                // Counted; the next request opens a connection of its own.
                part.failed += 1;
                connection = None;
            }
        }
        due += pause;
    }
    part
}

struct Reply {
    good: bool,
    bytes: u64,
}

fn exchange(connection: &mut Option<BufReader<TcpStream>>, port: u16) -> io::Result<Reply> {
    let reader = match connection {
        Some(reader) => reader,
        None => connection.insert(BufReader::new(connect(port)?)),
    };
    let request = format!("GET / HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\n\r\n");
    reader.get_mut().write_all(request.as_bytes())?;
    read_reply(reader)
}

fn connect(port: u16) -> io::Result<TcpStream> {
    let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// A reply with a length, which is all that the origin sends.
fn read_reply(reader: &mut impl BufRead) -> io::Result<Reply> {
    let mut line = String::new();
    let mut bytes = reader.read_line(&mut line)?;
    if bytes == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let good = line.split(' ').nth(1) == Some("200");
    let mut length = 0;
    loop {
        line.clear();
        bytes += reader.read_line(&mut line)?;
        let Some((name, value)) = line.split_once(':') else {
            break;
        };
        if name.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse().map_err(io::Error::other)?;
        }
    }
    let body = io::copy(&mut reader.take(length), &mut io::sink())?;
    Ok(Reply {
        good,
        bytes: bytes as u64 + body,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_are_read_to_their_end_and_no_further() {
        let mut wire: &[u8] =
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 503 No\r\n\r\n";
        let first = read_reply(&mut wire).unwrap();
        assert!(first.good);
        assert_eq!(first.bytes, 40);
        assert!(!read_reply(&mut wire).unwrap().good);
    }

    #[test]
    fn a_closed_connection_is_an_error() {
        assert!(read_reply(&mut io::empty()).is_err());
    }

    #[test]
    fn percentiles_are_of_all_connections() {
        let part = |range: std::ops::Range<u64>| Part {
            latencies: range.map(Duration::from_millis).collect(),
            ..Part::default()
        };
        let outcome = part(50..101)
            .and(part(0..50))
            .outcome(Duration::from_secs(1));
        let latency = outcome.latency.unwrap();
        assert_eq!(latency.median, Duration::from_millis(50));
        assert_eq!(latency.ninety_ninth, Duration::from_millis(99));
    }
}
