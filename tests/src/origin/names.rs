//! A name server for a few names, whose answers the test changes as it goes.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::net::UdpSocket;
use tokio::task::JoinHandle;

use crate::client::loopback;
use crate::world::World;

/// Answers for addresses of version 4, each good for a second. It ends when dropped.
#[derive(Debug)]
pub struct NameServer {
    zone: Arc<Mutex<Zone>>,
    server: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Zone {
    addresses: HashMap<String, Vec<Ipv4Addr>>,
    failing: bool,
}

impl NameServer {
    /// Starts on the port of DNS, which a world has to itself.
    pub async fn start() -> Self {
        let socket = UdpSocket::bind(loopback(53))
            .await
            .expect("the port of DNS");
        let zone = Arc::new(Mutex::new(Zone::default()));
        let known = Arc::clone(&zone);
        let server = tokio::spawn(async move {
            let mut question = [0; 512];
            while let Ok((length, client)) = socket.recv_from(&mut question).await {
                if let Some(answer) = look_up(&question[..length], &known) {
                    // A resolver that has gone away asks again.
                    let _ = socket.send_to(&answer, client).await;
                }
            }
        });
        Self { zone, server }
    }

    /// The file that makes a resolver ask here.
    pub fn resolver_file(world: &World) -> std::path::PathBuf {
        world.write("resolv.conf", "nameserver 127.0.0.1\noptions timeout:1\n")
    }

    /// Says from now on where a name is.
    pub fn set(&self, host: &str, addresses: &[Ipv4Addr]) {
        let mut zone = self.zone.lock().unwrap_or_else(PoisonError::into_inner);
        zone.addresses.insert(host.to_owned(), addresses.to_vec());
    }

    /// Fails at every question, or stops to.
    pub fn fail(&self, failing: bool) {
        let mut zone = self.zone.lock().unwrap_or_else(PoisonError::into_inner);
        zone.failing = failing;
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.server.abort();
    }
}

fn look_up(question: &[u8], zone: &Mutex<Zone>) -> Option<Vec<u8>> {
    let zone = zone.lock().unwrap_or_else(PoisonError::into_inner);
    answer(question, &zone)
}

/// Codes of RFC 1035, 4.1.1.
const SERVER_FAILURE: u8 = 2;
const NAME_ERROR: u8 = 3;
/// The type of an IPv4 address.
const A: [u8; 2] = [0, 1];

/// The answer to a message of one question; `None` where it is none.
fn answer(message: &[u8], zone: &Zone) -> Option<Vec<u8>> {
    let (host, end) = name(message, 12)?;
    let kind = message.get(end..end + 2)?;
    let question = message.get(12..end + 4)?;
    let found = zone.addresses.get(&host);
    let (code, found) = match found {
        _ if zone.failing => (SERVER_FAILURE, &[][..]),
        None => (NAME_ERROR, &[][..]),
        Some(addresses) if kind == A => (0, addresses.as_slice()),
        Some(_) => (0, &[][..]),
    };
    let mut answer = message.get(..2)?.to_vec();
    // A response, recursion desired and available; one question, so many answers.
    answer.extend([0x81, 0x80 | code, 0, 1, 0, u8::try_from(found.len()).ok()?]);
    answer.extend([0; 4]);
    answer.extend(question);
    for address in found {
        // The question's name again, class IN, for a second.
        answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4]);
        answer.extend(address.octets());
    }
    Some(answer)
}

/// The name that begins at `start`, in lower case, and where it ends.
fn name(message: &[u8], start: usize) -> Option<(String, usize)> {
    let mut labels = Vec::new();
    let mut at = start;
    loop {
        let length = usize::from(*message.get(at)?);
        at += 1;
        if length == 0 {
            return Some((labels.join("."), at));
        }
        let label = message.get(at..at + length)?;
        labels.push(String::from_utf8_lossy(label).to_ascii_lowercase());
        at += length;
    }
}
