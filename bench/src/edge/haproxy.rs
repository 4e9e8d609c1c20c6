//! HAProxy.

use std::fmt::Write as _;

use super::{Contender, Ports, Stage};
use crate::origin::{opened, program};

pub(super) async fn start(stage: &Stage<'_>, ports: Ports) -> Contender {
    let world = stage.world;
    // HAProxy wants certificate and key in one file.
    let read = |path| std::fs::read_to_string(path).expect("a file written before");
    let both = read(&stage.certificate) + &read(&stage.key);
    world.write("haproxy.pem", &both);
    world.write("haproxy.map", &routes(stage));
    let file = world.write("haproxy.cfg", &configuration(stage, ports));
    let file = file.display().to_string();
    let process = world.spawn("haproxy", &program("haproxy"), ["-db", "-f", &file]);
    opened(ports.tls).await;
    Contender { ports, process }
}

/// Routes by path are one map of prefixes, as HAProxy's users write many of them.
fn routes(stage: &Stage<'_>) -> String {
    let mut map = String::new();
    for prefix in stage.shape.prefixes() {
        // Writing to a string can't fail.
        let _ = writeln!(map, "{prefix} origin");
    }
    map
}

fn configuration(stage: &Stage<'_>, ports: Ports) -> String {
    let protocol = if stage.shape.is_grpc() {
        " proto h2"
    } else {
        ""
    };
    let directory = stage.world.directory().display();
    let routing = if stage.shape.routes == 0 {
        String::new()
    } else {
        format!("  use_backend %[path,map_beg({directory}/haproxy.map,origin)]\n")
    };
    format!(
        "\
global
  nbthread 1
  no strict-limits
  maxconn 10100
  log stdout format raw local0
defaults
  mode http
  log global
  option httplog
  timeout connect 5s
  timeout client 60s
  timeout server 60s
frontend edge
  bind 127.0.0.1:{plain}{protocol}
  bind 127.0.0.1:{tls} ssl crt {directory}/haproxy.pem alpn h2,http/1.1
  http-request set-header x-edge bench
  http-request use-service prometheus-exporter if {{ path /metrics }}
{routing}  default_backend origin
backend origin
  http-reuse always
  server origin 127.0.0.1:{origin}{protocol}
",
        plain = ports.plain,
        tls = ports.tls,
        origin = stage.shape.application.port(),
    )
}
