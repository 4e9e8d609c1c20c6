//! Client and origin of a scene, and callgrind around it.
//!
//! A proxy that finds the answer before it has gone to sleep does less than one
//! that is woken by it, and which of both happens is up to the machine. So client
//! and origin speak only when every thread of the proxy sleeps.

#[path = "drive/grpc.rs"]
mod grpc;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};

use crate::scene::Scene;

/// Requests of the shorter run: enough that pools, buffers and allocator are warm.
const SHORT: u32 = 100;

/// Requests of the longer run.
const LONG: u32 = 1100;

/// Runs of each length, of which the least counts. What differs between them is
/// timers that ring while a slow machine is at it, and those only add.
const RUNS: usize = 3;

/// Longest wait for a proxy: callgrind makes it fifty times slower.
const PATIENCE: Duration = Duration::from_secs(120);

const REQUEST: &[u8] =
    b"GET /orders/17?full=1 HTTP/1.1\r\nhost: shop.test\r\nuser-agent: bench/1\r\naccept: */*\r\n\r\n";

/// As the origin of the other cases answers: a kibibyte.
fn reply() -> Vec<u8> {
    let head = "HTTP/1.1 200 OK\r\nserver: origin\r\ndate: Thu, 01 Jan 2026 00:00:00 GMT\r\n\
                content-type: text/plain\r\ncontent-length: 1024\r\n\r\n";
    [head.as_bytes(), &[b'x'; 1024]].concat()
}

/// Instructions for one request of a scene.
///
/// # Errors
/// When valgrind is missing, or the scene does not answer.
pub(crate) fn count(scene: Scene, profiles: Option<&Path>) -> anyhow::Result<u64> {
    let short = least(scene, SHORT, None)?;
    let long = least(scene, LONG, profiles)?;
    Ok((long - short) / u64::from(LONG - SHORT))
}

fn least(scene: Scene, requests: u32, profiles: Option<&Path>) -> anyhow::Result<u64> {
    let mut least = u64::MAX;
    for _ in 0..RUNS {
        least = least.min(run(scene, requests, profiles)?);
    }
    Ok(least)
}

/// Instructions of a whole run.
fn run(scene: Scene, requests: u32, profiles: Option<&Path>) -> anyhow::Result<u64> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("opening the origin")?;
    let origin = listener.local_addr().context("asking for a port")?.port();
    let scratch = std::env::temp_dir();
    let folder = profiles.unwrap_or(&scratch);
    let file = folder.join(format!("{}-{}.callgrind", scene.name(), std::process::id()));
    let traced = Traced::start(scene, origin, &file)?;
    let process = traced.child.id();
    // Ends with the process: it serves one connection, and waits in vain for a second.
    thread::spawn(move || match scene {
        Scene::Grpc => grpc::serve(&listener, process),
        Scene::Edge | Scene::Mesh => serve(&listener, process),
    });
    match scene {
        Scene::Grpc => grpc::send(traced.address, process, requests)?,
        Scene::Edge | Scene::Mesh => traced.send(requests)?,
    }
    let counted = traced.end(&file);
    if profiles.is_none() {
        // It is in the way of nobody but the next one of this name.
        let _ = fs::remove_file(&file);
    }
    counted
}

/// A scene under callgrind.
struct Traced {
    child: Child,
    address: SocketAddr,
}

impl Traced {
    fn start(scene: Scene, origin: u16, file: &Path) -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("finding this program")?;
        let mut child = Command::new("valgrind")
            .args(["--quiet", "--tool=callgrind"])
            .arg(format!("--callgrind-out-file={}", file.display()))
            .arg(program)
            .args(["serve", scene.name(), &origin.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("running valgrind: tests/tools/setup.sh installs it")?;
        let output = child.stdout.take().context("no output")?;
        let mut line = String::new();
        BufReader::new(output)
            .read_line(&mut line)
            .context("waiting for the address")?;
        let address = line
            .trim()
            .parse()
            .with_context(|| format!("no address: {line:?}"))?;
        Ok(Self { child, address })
    }

    fn send(&self, requests: u32) -> anyhow::Result<()> {
        let mut stream = TcpStream::connect(self.address).context("connecting")?;
        stream.set_nodelay(true).context("setting an option")?;
        stream
            .set_read_timeout(Some(PATIENCE))
            .context("setting an option")?;
        for _ in 0..requests {
            at_rest(self.child.id())?;
            stream.write_all(REQUEST).context("sending a request")?;
            read_reply(&mut stream).context("reading a reply")?;
        }
        Ok(())
    }

    fn end(mut self, file: &Path) -> anyhow::Result<u64> {
        drop(self.child.stdin.take());
        let status = self.child.wait().context("waiting for the end")?;
        ensure!(status.success(), "the scene ended with {status}");
        let text = fs::read_to_string(file).context("reading the profile")?;
        let total = text.lines().find_map(|line| line.strip_prefix("totals: "));
        let total = total.context("a profile without totals")?;
        total.trim().parse().context("reading the totals")
    }
}

impl Drop for Traced {
    fn drop(&mut self) {
        // An error means that it has ended, which is what is asked for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reads a reply to the end of its body.
fn read_reply(stream: &mut TcpStream) -> anyhow::Result<()> {
    let mut seen = Vec::new();
    let mut piece = [0; 4096];
    loop {
        let length = stream.read(&mut piece)?;
        ensure!(length > 0, "the connection ended");
        seen.extend_from_slice(&piece[..length]);
        let head = seen.windows(4).position(|window| window == b"\r\n\r\n");
        if let Some(head) = head {
            ensure!(seen.starts_with(b"HTTP/1.1 200"), "no good reply");
            if seen.len() >= head + 4 + 1024 {
                return Ok(());
            }
        }
    }
}

/// The origin: answers every request on every connection, when the proxy rests.
fn serve(listener: &TcpListener, process: u32) {
    let reply = reply();
    for stream in listener.incoming().flatten() {
        // What goes wrong here shows at the client.
        let _ = answer(stream, &reply, process);
    }
}

fn answer(mut stream: TcpStream, reply: &[u8], process: u32) -> anyhow::Result<()> {
    stream.set_nodelay(true)?;
    let mut seen = Vec::new();
    let mut piece = [0; 4096];
    loop {
        let length = stream.read(&mut piece)?;
        ensure!(length > 0, "the proxy closed the connection");
        seen.extend_from_slice(&piece[..length]);
        if seen.ends_with(b"\r\n\r\n") {
            seen.clear();
            at_rest(process)?;
            stream.write_all(reply)?;
        }
    }
}

/// Waits until every thread of a process sleeps.
fn at_rest(process: u32) -> anyhow::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    let mut before = None;
    while Instant::now() < deadline {
        let now = switches_if_asleep(process)?;
        // Twice the same: nobody has run in between.
        if now.is_some() && now == before {
            return Ok(());
        }
        before = now;
        thread::yield_now();
    }
    bail!("the proxy does not come to rest");
}

/// How often the threads have gone to sleep so far, if all of them are asleep.
fn switches_if_asleep(process: u32) -> anyhow::Result<Option<u64>> {
    let mut switches = 0;
    for task in fs::read_dir(format!("/proc/{process}/task")).context("looking at threads")? {
        let status = fs::read_to_string(task?.path().join("status"))?;
        let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name));
        if !field("State:").is_some_and(|state| state.trim().starts_with('S')) {
            return Ok(None);
        }
        let slept = field("voluntary_ctxt_switches:").context("a status without switches")?;
        switches += slept.trim().parse::<u64>()?;
    }
    Ok(Some(switches))
}
