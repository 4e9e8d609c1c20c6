//! One test's world: a fresh network namespace, a thread inside it that runs the
//! test, and a directory for logs and configuration files.
//!
//! Sidecars, Consul and origins bind fixed ports; in a namespace of their own any
//! number of tests do so side by side. The namespace has no name: the kernel
//! removes it with its last process, so nothing is left behind whatever happens.

use std::cell::RefCell;
use std::ffi::OsStr;
use std::panic;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread;

use nix::sched::{CloneFlags, unshare};
use tempfile::TempDir;

use crate::process::Process;

/// Log lines of each process that a failed test prints.
const TAIL: usize = 40;

/// Runs `body` in a world of its own, on a single-threaded runtime.
///
/// # Panics
/// When the body panics, after the tails of all logs were printed.
pub fn isolated<F>(name: &str, body: F)
where
    F: AsyncFnOnce(&World) + Send + 'static,
{
    let title = name.to_owned();
    let outcome = thread::Builder::new()
        .name(title.clone())
        .spawn(move || {
            enter_new_namespace();
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime for the test");
            let world = World::new();
            runtime.block_on(body(&world));
        })
        .expect("a thread for the test")
        .join();
    if let Err(cause) = outcome {
        panic::resume_unwind(cause);
    }
}

/// Moves the calling thread, and all it will start, into an empty namespace.
pub(crate) fn enter_new_namespace() {
    unshare(CloneFlags::CLONE_NEWNET).expect(
        "no new network namespace: integration tests need root \
         (or: unshare --user --map-root-user make integration)",
    );
    let up = Command::new("ip")
        .args(["link", "set", "lo", "up"])
        .status()
        .expect("`ip` runs: `make setup` installs iproute2");
    assert!(up.success(), "the loopback interface did not come up");
}

/// What a test starts belongs to its world and ends with it.
#[derive(Debug)]
pub struct World {
    directory: TempDir,
    logs: RefCell<Vec<(String, PathBuf)>>,
    next_port: AtomicU16,
}

impl World {
    pub(crate) fn new() -> Self {
        Self {
            directory: TempDir::with_prefix("meridian-it-").expect("a directory for logs"),
            logs: RefCell::default(),
            next_port: AtomicU16::new(19000),
        }
    }

    /// Where logs and configuration files of this test live.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Writes a file into the world's directory.
    pub fn write(&self, name: &str, content: &str) -> PathBuf {
        let path = self.directory().join(name);
        std::fs::write(&path, content).expect("a file in the test's directory");
        path
    }

    /// A port nobody else in this world uses; for admin listeners.
    pub fn fresh_port(&self) -> u16 {
        self.next_port.fetch_add(1, Ordering::Relaxed)
    }

    /// Starts a program in this world. It dies with the test's thread at the latest.
    pub fn spawn<A: AsRef<OsStr>>(
        &self,
        name: &str,
        program: &Path,
        arguments: impl IntoIterator<Item = A>,
    ) -> Process {
        let log = self.directory().join(format!("{name}.log"));
        self.logs.borrow_mut().push((name.to_owned(), log.clone()));
        Process::spawn(name, program, arguments, &log)
    }
}

impl World {
    /// Prints the tails of all logs.
    #[expect(
        clippy::print_stderr,
        reason = "the logs of a failed test belong into its output"
    )]
    pub(crate) fn tell(&self) {
        for (name, path) in self.logs.borrow().iter() {
            let text = std::fs::read(path).unwrap_or_default();
            let text = String::from_utf8_lossy(&text);
            let lines: Vec<_> = text.lines().collect();
            eprintln!("--- log of {name}");
            for line in &lines[lines.len().saturating_sub(TAIL)..] {
                eprintln!("{line}");
            }
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if thread::panicking() {
            self.tell();
        }
    }
}

/// Is somebody listening on a TCP port of the calling thread's namespace?
/// Looks without connecting, so that nothing counts a connection.
pub fn listens(port: u16) -> bool {
    sockets(port, "0A") > 0
}

/// Connections that are open at their server's end, on a TCP port of the calling thread's
/// namespace.
pub fn open_connections(port: u16) -> usize {
    sockets(port, "01")
}

/// TCP sockets with a local port, in a state as the kernel numbers it.
fn sockets(port: u16, state: &str) -> usize {
    let port = format!("{port:04X}");
    let rows = ["tcp", "tcp6"].map(|table| {
        let path = format!("/proc/thread-self/net/{table}");
        std::fs::read_to_string(path).unwrap_or_default()
    });
    let rows = rows.iter().flat_map(|rows| rows.lines().skip(1));
    rows.filter(|row| {
        let mut columns = row.split_whitespace().skip(1);
        let local = columns
            .next()
            .and_then(|address| address.rsplit(':').next());
        local == Some(port.as_str()) && columns.nth(1) == Some(state)
    })
    .count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_worlds_bind_the_same_port() {
        isolated("outer", async |_| {
            let _held = tokio::net::TcpListener::bind("127.0.0.1:8500")
                .await
                .unwrap();
            assert!(listens(8500));
            isolated("inner", async |_| {
                assert!(!listens(8500));
                tokio::net::TcpListener::bind("127.0.0.1:8500")
                    .await
                    .unwrap();
            });
        });
    }
}
