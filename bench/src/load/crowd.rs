//! Many connections on one thread, for what must not be bounded by its client:
//! requests come when they are due, take a connection that is free, or wait for
//! one in a queue. Latency counts from when a request was due.
//!
//! Arrivals are looked at once a millisecond when nothing else happens, which is
//! as fine as epoll waits.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use super::Outcome;
use super::plain::{Reply, read_reply, request};
use super::tally::Tally;

/// How long a request waits for a connection before its user goes away.
const PATIENCE: Duration = Duration::from_secs(1);

/// Events taken from the kernel at a time; more come with the next look.
const EVENTS: usize = 256;

/// When requests are due.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Arrivals {
    /// Whenever a connection is free: what can be answered at all.
    Always,
    /// So many a second, whatever became of those before.
    PerSecond(f64),
}

pub(super) fn run(port: u16, arrivals: Arrivals, connections: usize, span: Duration) -> Outcome {
    let crowd = Crowd::new(port, arrivals, connections, PATIENCE).expect("an epoll instance");
    crowd
        .run(span)
        .unwrap_or_else(|error| panic!("the crowd on {port}: {error}"))
}

struct Crowd {
    poll: Poll,
    port: u16,
    request: Vec<u8>,
    arrivals: Arrivals,
    patience: Duration,
    /// One for each connection that may be open; its place is its token.
    places: Vec<Option<Connection>>,
    free: Vec<usize>,
    closed: Vec<usize>,
    connecting: usize,
    /// When the requests were due that wait for a connection.
    waiting: VecDeque<Instant>,
    tally: Tally,
}

struct Connection {
    stream: TcpStream,
    state: State,
    received: Vec<u8>,
}

#[derive(Clone, Copy, PartialEq)]
enum State {
    Connecting,
    Free,
    /// With a request that was due then.
    Busy(Instant),
}

impl Crowd {
    fn new(port: u16, arrivals: Arrivals, limit: usize, patience: Duration) -> io::Result<Self> {
        Ok(Self {
            poll: Poll::new()?,
            port,
            request: request(port, b""),
            arrivals,
            patience,
            places: (0..limit).map(|_| None).collect(),
            free: Vec::with_capacity(limit),
            closed: (0..limit).rev().collect(),
            connecting: 0,
            waiting: VecDeque::new(),
            tally: Tally::default(),
        })
    }

    /// What is under way at the end is neither answered nor failed.
    fn run(mut self, span: Duration) -> io::Result<Outcome> {
        let began = Instant::now();
        let mut arrived = 0;
        let mut events = Events::with_capacity(EVENTS);
        loop {
            let now = Instant::now();
            if now >= began + span {
                break;
            }
            let next = self.arrive(began, &mut arrived, now);
            self.give_up(now);
            self.serve()?;
            let pause = next.min(began + span).saturating_duration_since(now);
            match self.poll.poll(&mut events, Some(pause)) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                done => done?,
            }
            for event in &events {
                self.happened(event.token().0)?;
            }
        }
        Ok(self.tally.outcome(began.elapsed()))
    }

    /// Queues what is due by now, and says when to look again.
    fn arrive(&mut self, began: Instant, arrived: &mut u32, now: Instant) -> Instant {
        let Arrivals::PerSecond(rate) = self.arrivals else {
            return now + self.patience;
        };
        loop {
            let due = began + Duration::from_secs_f64(f64::from(*arrived) / rate);
            if due > now {
                return due;
            }
            self.waiting.push_back(due);
            *arrived += 1;
        }
    }

    /// Lets those go who waited too long.
    fn give_up(&mut self, now: Instant) {
        while let Some(due) = self.waiting.front()
            && now.duration_since(*due) > self.patience
        {
            self.waiting.pop_front();
            self.tally.failed += 1;
        }
    }

    /// Gives requests to the connections that are free, and opens more for what is left.
    fn serve(&mut self) -> io::Result<()> {
        while let Some(&place) = self.free.last() {
            let Some(due) = self.next() else {
                return Ok(());
            };
            self.free.pop();
            self.send(place, due);
        }
        let wanted = match self.arrivals {
            Arrivals::Always => self.closed.len(),
            Arrivals::PerSecond(_) => self.waiting.len().saturating_sub(self.connecting),
        };
        for _ in 0..wanted {
            let Some(place) = self.closed.pop() else {
                break;
            };
            self.open(place)?;
        }
        Ok(())
    }

    /// When the request was due that is next; none when nobody waits.
    fn next(&mut self) -> Option<Instant> {
        match self.arrivals {
            Arrivals::Always => Some(Instant::now()),
            Arrivals::PerSecond(_) => self.waiting.pop_front(),
        }
    }

    fn open(&mut self, place: usize) -> io::Result<()> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.port));
        let mut stream = TcpStream::connect(address)?;
        let both = Interest::READABLE | Interest::WRITABLE;
        let registry = self.poll.registry();
        registry.register(&mut stream, Token(place), both)?;
        self.connecting += 1;
        self.places[place] = Some(Connection {
            stream,
            state: State::Connecting,
            received: Vec::new(),
        });
        Ok(())
    }

    /// Sends a request at once: so few bytes find room in an idle connection.
    fn send(&mut self, place: usize, due: Instant) {
        let Some(connection) = &mut self.places[place] else {
            return;
        };
        connection.state = State::Busy(due);
        let sent = connection.stream.write(&self.request);
        if sent.ok() != Some(self.request.len()) {
            self.broke(place);
        }
    }

    /// Something happened on a connection; an event may be older than it.
    fn happened(&mut self, place: usize) -> io::Result<()> {
        let Some(connection) = &mut self.places[place] else {
            return Ok(());
        };
        match connection.state {
            State::Connecting => match connection.connected() {
                Ok(false) => return Ok(()),
                Ok(true) => self.connecting -= 1,
                Err(_) => {
                    self.broke(place);
                    return Ok(());
                }
            },
            State::Free | State::Busy(_) => match connection.reply() {
                Ok(None) => return Ok(()),
                Ok(Some((reply, due))) => self.count(reply, due),
                Err(_) => {
                    self.broke(place);
                    return Ok(());
                }
            },
        }
        self.free.push(place);
        self.serve()
    }

    fn count(&mut self, reply: Reply, due: Instant) {
        if reply.good {
            self.tally.latencies.push(due.elapsed());
            self.tally.bytes += reply.bytes;
        } else {
            self.tally.failed += 1;
        }
    }

    /// A connection is gone, and with it the request that was on it or waited for it.
    fn broke(&mut self, place: usize) {
        match self.places[place].take().map(|gone| gone.state) {
            Some(State::Connecting) => {
                self.connecting -= 1;
                self.waiting.pop_front();
                self.tally.failed += 1;
            }
            Some(State::Busy(_)) => self.tally.failed += 1,
            Some(State::Free) => self.free.retain(|free| *free != place),
            None => return,
        }
        self.closed.push(place);
    }
}

impl Connection {
    /// Whether it is open by now.
    fn connected(&mut self) -> io::Result<bool> {
        if let Some(error) = self.stream.take_error()? {
            return Err(error);
        }
        match self.stream.peer_addr() {
            Ok(_) => self.stream.set_nodelay(true)?,
            Err(error) if error.kind() == io::ErrorKind::NotConnected => return Ok(false),
            Err(error) => return Err(error),
        }
        self.state = State::Free;
        Ok(true)
    }

    /// The reply and when its request was due, once it is whole. A read that does not fill its
    /// buffer has emptied the socket: what comes later is another event.
    fn reply(&mut self) -> io::Result<Option<(Reply, Instant)>> {
        let mut piece = [0; 4096];
        loop {
            let length = match self.stream.read(&mut piece) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) => return Err(error),
            };
            let State::Busy(due) = self.state else {
                return Err(io::ErrorKind::InvalidData.into());
            };
            self.received.extend_from_slice(&piece[..length]);
            if let Some(reply) = whole(&self.received)? {
                self.received.clear();
                self.state = State::Free;
                return Ok(Some((reply, due)));
            }
            if length < piece.len() {
                return Ok(None);
            }
        }
    }
}

/// The reply in some bytes; none as long as a part of it is missing.
fn whole(received: &[u8]) -> io::Result<Option<Reply>> {
    if !received.windows(4).any(|end| end == b"\r\n\r\n") {
        return Ok(None);
    }
    match read_reply(&mut &received[..]) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        read => read.map(Some),
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    const SPAN: Duration = Duration::from_millis(300);

    fn crowd(port: u16, arrivals: Arrivals, limit: usize) -> Outcome {
        let crowd = Crowd::new(port, arrivals, limit, Duration::from_millis(50)).unwrap();
        crowd.run(SPAN).unwrap()
    }

    /// Answers in two pieces, or reads and never answers.
    fn server(answers: bool) -> u16 {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                // The second piece must not wait until the first is acknowledged.
                stream.set_nodelay(true).unwrap();
                thread::spawn(move || {
                    while stream.read(&mut [0; 1024]).is_ok_and(|length| length > 0) {
                        if answers {
                            stream
                                .write_all(b"HTTP/1.1 200 OK\r\nContent-Length")
                                .unwrap();
                            stream.write_all(b": 2\r\n\r\nok").unwrap();
                        }
                    }
                });
            }
        });
        port
    }

    #[test]
    fn free_connections_are_never_left_without_a_request() {
        let outcome = crowd(server(true), Arrivals::Always, 4);
        assert!(outcome.good > 20, "{outcome:?}");
        assert_eq!(outcome.failed, 0);
        assert_eq!(outcome.bytes, outcome.good * 40);
    }

    #[test]
    fn arrivals_come_by_their_timetable() {
        let outcome = crowd(server(true), Arrivals::PerSecond(100.0), 4);
        let arrived = outcome.good + outcome.failed;
        assert!((10..=30).contains(&arrived), "{outcome:?}");
        assert!(outcome.good > 0, "{outcome:?}");
    }

    #[test]
    fn who_finds_no_connection_gives_up() {
        let outcome = crowd(server(false), Arrivals::PerSecond(100.0), 1);
        // One is on the connection, some still wait at the end.
        assert!((10..30).contains(&outcome.failed), "{outcome:?}");
        assert_eq!(outcome.good, 0);
    }

    #[test]
    fn a_refused_connection_fails_its_request() {
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .and_then(|listener| listener.local_addr())
            .unwrap()
            .port();
        let outcome = crowd(port, Arrivals::PerSecond(100.0), 1);
        assert!(outcome.failed >= 10, "{outcome:?}");
    }
}
