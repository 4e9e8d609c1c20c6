//! nginx.

use std::fmt::Write as _;

use super::{Contender, Ports, Stage};
use crate::origin::{opened, spawn_nginx};

pub(super) async fn start(stage: &Stage<'_>, ports: Ports) -> Contender {
    let file = stage
        .world
        .write("nginx.conf", &configuration(stage, ports));
    let process = spawn_nginx(stage.world, "nginx", &file);
    opened(ports.tls).await;
    Contender { ports, process }
}

/// Without a master: a worker outlives one that is killed, and goes on answering on its ports.
fn configuration(stage: &Stage<'_>, ports: Ports) -> String {
    let grpc = stage.shape.is_grpc();
    let mut locations = String::new();
    let everything = "/".to_owned();
    for prefix in stage.shape.prefixes().chain([everything]) {
        // Writing to a string can't fail.
        let _ = writeln!(locations, "    location {prefix} {{ {} }}", pass(grpc));
    }
    format!(
        "\
user root;
daemon off;
master_process off;
pid {directory}/nginx.pid;
error_log stderr;
events {{ worker_connections 16384; }}
http {{
  access_log {directory}/nginx-access.log;
  keepalive_requests 1000000000;
  client_max_body_size 0;
  upstream origin {{
    server 127.0.0.1:{origin};
    keepalive 256;
    keepalive_requests 1000000000;
  }}
  server {{
    listen 127.0.0.1:{plain}{http2};
    listen 127.0.0.1:{tls} ssl http2;
    ssl_certificate {certificate};
    ssl_certificate_key {key};
    location = /nginx_status {{ stub_status; }}
{locations}  }}
}}
",
        directory = stage.world.directory().display(),
        origin = stage.shape.application.port(),
        plain = ports.plain,
        tls = ports.tls,
        http2 = if grpc { " http2" } else { "" },
        certificate = stage.certificate.display(),
        key = stage.key.display(),
    )
}

fn pass(grpc: bool) -> &'static str {
    if grpc {
        return "grpc_pass grpc://origin; grpc_set_header x-edge bench;";
    }
    "proxy_pass http://origin; proxy_http_version 1.1; \
     proxy_set_header connection \"\"; proxy_set_header x-edge bench;"
}
