//! The application behind every proxy, the same for all contenders of a case.

mod bodies;
mod thread;

use std::path::{Path, PathBuf};
use std::process::Command;

use meridian_tests::origin::Origin;
use meridian_tests::process::Process;
use meridian_tests::wait::{self, PATIENCE};
use meridian_tests::world::{World, listens};

use thread::Thread;

/// Bytes of a large reply, and of a large request.
pub(crate) const LARGE: usize = 1 << 20;

/// What answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Application {
    /// One nginx worker over HTTP/1.1: 1 KiB on `/`, 1 MiB on `/large`.
    Files,
    /// The same over HTTP/2 by prior knowledge.
    FilesHttp2,
    /// Sends gRPC messages back as they come.
    Grpc,
    /// Reads a request to its end and answers with 1 MiB, over HTTP/1.1.
    Bodies,
}

impl Application {
    /// Where it listens.
    pub(crate) fn port(self) -> u16 {
        match self {
            Self::Files => 8000,
            Self::FilesHttp2 => 8001,
            Self::Grpc => 8002,
            Self::Bodies => 8003,
        }
    }
}

/// An application that answers until it is dropped.
#[derive(Debug)]
pub(crate) struct Running {
    _of: Of,
}

#[derive(Debug)]
#[expect(dead_code, reason = "what runs is held, and ended by dropping it")]
enum Of {
    Process(Process),
    Thread(Thread),
}

/// Starts an application.
pub(crate) async fn start(world: &World, application: Application) -> Running {
    let port = application.port();
    let of = match application {
        Application::Files | Application::FilesHttp2 => Of::Process(files(world)),
        Application::Grpc => Of::Thread(Thread::start("origin", async move || {
            let origin = Origin::start("echo", port).await;
            std::future::pending::<()>().await;
            drop(origin);
        })),
        Application::Bodies => Of::Thread(Thread::start("origin", async move || {
            bodies::serve(port).await;
        })),
    };
    opened(port).await;
    Running { _of: of }
}

fn files(world: &World) -> Process {
    world.write("large", &"x".repeat(LARGE));
    let configuration = format!(
        "\
user root;
daemon off;
worker_processes 1;
pid {directory}/origin.pid;
error_log stderr;
events {{ worker_connections 16384; }}
http {{
  access_log off;
  # Far more than a turn sends: proxies must not pay for the origin's closing.
  keepalive_requests 1000000000;
  http2_max_concurrent_streams 1024;
  server {{
    listen 127.0.0.1:{plain};
    listen 127.0.0.1:{http2} http2;
    location / {{ return 200 \"{small}\"; }}
    location = /large {{ root {directory}; }}
  }}
}}
",
        directory = world.directory().display(),
        plain = Application::Files.port(),
        http2 = Application::FilesHttp2.port(),
        small = "x".repeat(1 << 10),
    );
    let file = world.write("origin.conf", &configuration);
    spawn_nginx(world, "origin", &file)
}

/// Starts an nginx, here or as a contender.
pub(crate) fn spawn_nginx(world: &World, name: &str, file: &Path) -> Process {
    let file = file.display().to_string();
    world.spawn(name, &program("nginx"), ["-c", &file])
}

/// Waits until somebody listens on a port.
pub(crate) async fn opened(port: u16) {
    let what = format!("a listener on {port}");
    wait::holds(&what, PATIENCE, async || listens(port)).await;
}

/// Where a program of the system is; Debian keeps servers off the usual PATH.
pub(crate) fn program(name: &str) -> PathBuf {
    let found = Command::new("sh")
        .args(["-c", &format!("command -v {name} || ls /usr/sbin/{name}")])
        .output()
        .expect("`sh` runs");
    let path = String::from_utf8_lossy(&found.stdout).trim().to_owned();
    assert!(
        !path.is_empty(),
        "{name} not found: run `tests/tools/setup.sh --bench`"
    );
    path.into()
}
