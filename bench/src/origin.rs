//! The application behind every proxy: one nginx worker, the same for all.

use std::path::{Path, PathBuf};
use std::process::Command;

use meridian_tests::process::Process;
use meridian_tests::wait::{self, PATIENCE};
use meridian_tests::world::{World, listens};

/// Answers HTTP/1.1: 1 KiB on `/`, 1 MiB on `/large`.
pub(crate) const HTTP: u16 = 8000;
/// The same over HTTP/2 by prior knowledge.
pub(crate) const HTTP2: u16 = 8001;

const LARGE: usize = 1 << 20;

/// Starts the origin.
pub(crate) async fn start(world: &World) -> Process {
    world.write("large", &"x".repeat(LARGE));
    let directory = world.directory().display();
    let small = "x".repeat(1 << 10);
    let configuration = format!(
        "\
user root;
daemon off;
worker_processes 1;
pid {directory}/origin.pid;
error_log stderr;
events {{ worker_connections 4096; }}
http {{
  access_log off;
  # Far more than a turn sends: proxies must not pay for the origin's closing.
  keepalive_requests 1000000000;
  http2_max_concurrent_streams 1024;
  server {{
    listen 127.0.0.1:{HTTP};
    listen 127.0.0.1:{HTTP2} http2;
    location / {{ return 200 \"{small}\"; }}
    location = /large {{ root {directory}; }}
  }}
}}
"
    );
    let file = world.write("origin.conf", &configuration);
    let origin = spawn_nginx(world, "origin", &file);
    opened(HTTP2).await;
    origin
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
