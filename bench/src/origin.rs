//! The application behind every proxy, the same for all contenders of a case.

mod bodies;
mod thread;

use std::path::{Path, PathBuf};
use std::process::Command;

use meridian_tests::client::grpc::frame;
use meridian_tests::origin::Origin;
use meridian_tests::process::Process;
use meridian_tests::wait::{self, PATIENCE};
use meridian_tests::world::{World, listens};

use thread::Thread;

/// Bytes of a large reply, and of a large request.
pub(crate) const LARGE: usize = 1 << 20;

/// Bytes of a gRPC message, as the plain cases reply with.
pub(crate) const MESSAGE: usize = 1 << 10;

/// Path of a gRPC call. nghttpd tells a content type by the ending of a file.
pub(crate) const CALL: &str = "/bench.Echo/Call.grpc";

/// What answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Application {
    /// One nginx worker over HTTP/1.1: 1 KiB on `/`, 1 MiB on `/large`.
    Files,
    /// The same over HTTP/2 by prior knowledge.
    FilesHttp2,
    /// nghttpd, one worker: answers a gRPC call with a message of its own, once it has it whole.
    Calls,
    /// Sends gRPC messages back as they come, while the stream stays open.
    Messages,
    /// Reads a request to its end and answers with 1 MiB, over HTTP/1.1.
    Bodies,
}

impl Application {
    /// Where it listens.
    pub(crate) fn port(self) -> u16 {
        match self {
            Self::Files => 8000,
            Self::FilesHttp2 => 8001,
            Self::Messages => 8002,
            Self::Bodies => 8003,
            Self::Calls => 8004,
        }
    }

    /// Whether it speaks gRPC, on HTTP/2 in plain text.
    pub(crate) fn is_grpc(self) -> bool {
        matches!(self, Self::Calls | Self::Messages)
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
        Application::Calls => Of::Process(calls(world, port)),
        Application::Messages => Of::Thread(Thread::start("origin", async move || {
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
master_process off;
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

/// Far cheaper than what stands before it, which is what a case is about: 3 µs a call.
fn calls(world: &World, port: u16) -> Process {
    let file = format!("calls{CALL}");
    let folder = Path::new(&file).parent().expect("a path with a folder");
    std::fs::create_dir_all(world.directory().join(folder)).expect("a folder for the answer");
    world.write(&file, &message());
    let types = world.write("calls.types", "application/grpc grpc\n");
    let words = [
        "--no-tls".to_owned(),
        "--address=127.0.0.1".to_owned(),
        "--workers=1".to_owned(),
        "--max-concurrent-streams=1024".to_owned(),
        // As gRPC servers answer: no length, and the outcome behind the message.
        "--no-content-length".to_owned(),
        "--trailer=grpc-status: 0".to_owned(),
        format!("--mime-types-file={}", types.display()),
        format!("--htdocs={}", world.directory().join("calls").display()),
        port.to_string(),
    ];
    world.spawn("origin", &program("nghttpd"), words)
}

/// A framed message.
pub(crate) fn message() -> String {
    let framed = frame(&[b'x'; MESSAGE]);
    String::from_utf8(framed.to_vec()).expect("a length of ASCII characters, and letters")
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
