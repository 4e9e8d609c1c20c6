//! The gateway and its peers, each from a configuration that does the same: one
//! worker, everything to the origin, an access log into a file, metrics, and a
//! request header set on the one route.

use std::path::PathBuf;

use meridian_tests::gateway::Gateway;
use meridian_tests::process::Process;
use meridian_tests::tools;
use meridian_tests::world::World;
use serde_json::{Value, json};

use crate::account::Tree;
use crate::origin::{self, opened};

/// Where a contender listens: plain, and under TLS.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ports {
    /// HTTP/1.1.
    pub(crate) plain: u16,
    /// HTTP/1.1 and HTTP/2 under TLS.
    pub(crate) tls: u16,
}

impl Ports {
    fn numbered(index: u16) -> Self {
        Self {
            plain: 9000 + index,
            tls: 9100 + index,
        }
    }
}

/// A proxy at the edge.
#[derive(Debug)]
pub(crate) struct Contender {
    /// Where it listens.
    pub(crate) ports: Ports,
    process: Process,
}

impl Contender {
    /// The process and its children.
    pub(crate) fn tree(&self) -> Tree {
        Tree::of(self.process.id())
    }
}

/// All contenders, ours last, and the certificate that they present.
#[derive(Debug)]
pub(crate) struct Edge {
    /// By the names of the tables.
    pub(crate) contenders: Vec<(&'static str, Contender)>,
    /// PEM.
    pub(crate) certificate: String,
    _origin: Process,
}

/// Starts the origin and everyone in front of it.
pub(crate) async fn start(world: &World) -> Edge {
    let origin = origin::start(world).await;
    // The gateway watches the folders of its inputs: nobody writes a log there.
    std::fs::create_dir(world.directory().join("gateway")).expect("a folder for the gateway");
    let identity = rcgen::generate_simple_self_signed(["localhost".to_owned()])
        .expect("a self-signed certificate");
    let certificate = identity.cert.pem();
    let files = Files {
        certificate: world.write("gateway/edge.crt", &certificate),
        key: world.write("gateway/edge.key", &identity.signing_key.serialize_pem()),
    };
    let contenders = vec![
        ("Envoy", envoy(world, Ports::numbered(0), &files).await),
        ("nginx", nginx(world, Ports::numbered(1), &files).await),
        ("HAProxy", haproxy(world, Ports::numbered(2), &files).await),
        ("gateway", gateway(world, Ports::numbered(3), &files).await),
    ];
    Edge {
        contenders,
        certificate,
        _origin: origin,
    }
}

struct Files {
    certificate: PathBuf,
    key: PathBuf,
}

async fn gateway(world: &World, ports: Ports, files: &Files) -> Contender {
    let configuration = format!(
        "\
version: edge/v1
threads: 1
telemetry: {{accessLog: {{format: text, destination: {log}}}}}
listeners:
- {{name: plain, address: 127.0.0.1, port: {plain}, protocol: HTTP}}
- name: tls
  address: 127.0.0.1
  port: {tls}
  protocol: HTTPS
  tls: {{certificateRefs: [{{certificate: {certificate}, key: {key}}}]}}
backends:
- name: origin
  discovery: {{static: {{endpoints: [{{address: \"127.0.0.1:{origin}\"}}]}}}}
routes:
- name: everything
  parentRefs: [{{name: plain}}, {{name: tls}}]
  rules:
  - backendRefs: [{{name: origin}}]
    filters:
    - type: RequestHeaderModifier
      requestHeaderModifier: {{set: [{{name: x-edge, value: bench}}]}}
",
        log = world.directory().join("gateway-access.log").display(),
        plain = ports.plain,
        tls = ports.tls,
        certificate = files.certificate.display(),
        key = files.key.display(),
        origin = origin::HTTP,
    );
    let gateway = Gateway::start(world, "gateway/gateway", &configuration).await;
    Contender {
        ports,
        process: gateway.process,
    }
}

async fn nginx(world: &World, ports: Ports, files: &Files) -> Contender {
    let directory = world.directory().display();
    let configuration = format!(
        "\
user root;
daemon off;
worker_processes 1;
pid {directory}/nginx.pid;
error_log stderr;
events {{ worker_connections 4096; }}
http {{
  access_log {directory}/nginx-access.log;
  keepalive_requests 1000000000;
  upstream origin {{
    server 127.0.0.1:{origin};
    keepalive 256;
    keepalive_requests 1000000000;
  }}
  server {{
    listen 127.0.0.1:{plain};
    listen 127.0.0.1:{tls} ssl http2;
    ssl_certificate {certificate};
    ssl_certificate_key {key};
    location = /nginx_status {{ stub_status; }}
    location / {{
      proxy_pass http://origin;
      proxy_http_version 1.1;
      proxy_set_header connection \"\";
      proxy_set_header x-edge bench;
    }}
  }}
}}
",
        origin = origin::HTTP,
        plain = ports.plain,
        tls = ports.tls,
        certificate = files.certificate.display(),
        key = files.key.display(),
    );
    let file = world.write("nginx.conf", &configuration);
    let process = origin::spawn_nginx(world, "nginx", &file);
    opened(ports.tls).await;
    Contender { ports, process }
}

async fn haproxy(world: &World, ports: Ports, files: &Files) -> Contender {
    // HAProxy wants certificate and key in one file.
    let read = |path| std::fs::read_to_string(path).expect("a file written before");
    let both = read(&files.certificate) + &read(&files.key);
    let both = world.write("haproxy.pem", &both);
    let configuration = format!(
        "\
global
  nbthread 1
  log stdout format raw local0
defaults
  mode http
  log global
  option httplog
  timeout connect 5s
  timeout client 60s
  timeout server 60s
frontend edge
  bind 127.0.0.1:{plain}
  bind 127.0.0.1:{tls} ssl crt {both} alpn h2,http/1.1
  http-request set-header x-edge bench
  http-request use-service prometheus-exporter if {{ path /metrics }}
  default_backend origin
backend origin
  http-reuse always
  server origin 127.0.0.1:{origin}
",
        plain = ports.plain,
        tls = ports.tls,
        both = both.display(),
        origin = origin::HTTP,
    );
    let file = world.write("haproxy.cfg", &configuration);
    let file = file.display().to_string();
    let process = world.spawn("haproxy", &origin::program("haproxy"), ["-db", "-f", &file]);
    opened(ports.tls).await;
    Contender { ports, process }
}

async fn envoy(world: &World, ports: Ports, files: &Files) -> Contender {
    let log = world.directory().join("envoy-access.log");
    let listener = |name: &str, port: u16, tls: Option<Value>| {
        let mut chain = json!({"filters": [connection_manager(name, &log.display().to_string())]});
        if let Some(tls) = tls {
            chain["transport_socket"] = tls;
        }
        json!({"name": name, "address": socket(port), "filter_chains": [chain]})
    };
    let configuration = json!({
        "admin": {"address": socket(world.fresh_port())},
        "static_resources": {
            "listeners": [
                listener("plain", ports.plain, None),
                listener("tls", ports.tls, Some(transport_socket(files))),
            ],
            "clusters": [{
                "name": "origin",
                "type": "STATIC",
                "load_assignment": {
                    "cluster_name": "origin",
                    "endpoints": [{"lb_endpoints": [
                        {"endpoint": {"address": socket(origin::HTTP)}},
                    ]}],
                },
            }],
        },
    });
    let file = world.write("envoy.json", &configuration.to_string());
    let file = file.display().to_string();
    let words = ["-c", &file, "--concurrency", "1", "-l", "warn"];
    let process = world.spawn("envoy", &tools::envoy(), words);
    opened(ports.tls).await;
    Contender { ports, process }
}

fn socket(port: u16) -> Value {
    json!({"socket_address": {"address": "127.0.0.1", "port_value": port}})
}

fn connection_manager(name: &str, log: &str) -> Value {
    const TYPES: &str = "type.googleapis.com/envoy.extensions";
    json!({
        "name": "envoy.filters.network.http_connection_manager",
        "typed_config": {
            "@type": format!("{TYPES}.filters.network.http_connection_manager.v3.HttpConnectionManager"),
            "stat_prefix": name,
            "access_log": [{
                "name": "envoy.access_loggers.file",
                "typed_config": {
                    "@type": format!("{TYPES}.access_loggers.file.v3.FileAccessLog"),
                    "path": log,
                },
            }],
            "route_config": {"virtual_hosts": [{
                "name": "everything",
                "domains": ["*"],
                "routes": [{
                    "match": {"prefix": "/"},
                    "route": {"cluster": "origin"},
                    "request_headers_to_add": [{
                        "header": {"key": "x-edge", "value": "bench"},
                        "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
                    }],
                }],
            }]},
            "http_filters": [{
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": format!("{TYPES}.filters.http.router.v3.Router")},
            }],
        },
    })
}

fn transport_socket(files: &Files) -> Value {
    json!({
        "name": "envoy.transport_sockets.tls",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
            "common_tls_context": {
                "alpn_protocols": ["h2", "http/1.1"],
                "tls_certificates": [{
                    "certificate_chain": {"filename": files.certificate},
                    "private_key": {"filename": files.key},
                }],
            },
        },
    })
}
