//! Envoy.

use meridian_tests::tools;
use serde_json::{Value, json};

use super::{Contender, Ports, Stage};
use crate::origin::opened;

const TYPES: &str = "type.googleapis.com/envoy.extensions";

pub(super) async fn start(stage: &Stage<'_>, ports: Ports) -> Contender {
    let world = stage.world;
    let configuration = json!({
        "admin": {"address": socket(world.fresh_port())},
        "static_resources": {
            "listeners": [
                listener(stage, "plain", ports.plain, None),
                listener(stage, "tls", ports.tls, Some(transport_socket(stage))),
            ],
            "clusters": [cluster(stage)],
        },
    });
    let file = world.write("envoy.json", &configuration.to_string());
    let file = file.display().to_string();
    let words = ["-c", &file, "--concurrency", "1", "-l", "warn"];
    let process = world.spawn("envoy", &tools::envoy(), words);
    opened(ports.tls).await;
    Contender { ports, process }
}

fn listener(stage: &Stage<'_>, name: &str, port: u16, tls: Option<Value>) -> Value {
    let mut chain = json!({"filters": [connection_manager(stage, name)]});
    if let Some(tls) = tls {
        chain["transport_socket"] = tls;
    }
    json!({"name": name, "address": socket(port), "filter_chains": [chain]})
}

fn cluster(stage: &Stage<'_>) -> Value {
    let endpoint = json!({"endpoint": {"address": socket(stage.shape.application.port())}});
    let mut cluster = json!({
        "name": "origin",
        "type": "STATIC",
        "load_assignment": {
            "cluster_name": "origin",
            "endpoints": [{"lb_endpoints": [endpoint]}],
        },
    });
    if stage.shape.is_grpc() {
        cluster["typed_extension_protocol_options"] = json!({
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": format!("{TYPES}.upstreams.http.v3.HttpProtocolOptions"),
                "explicit_http_config": {"http2_protocol_options": {}},
            },
        });
    }
    cluster
}

fn socket(port: u16) -> Value {
    json!({"socket_address": {"address": "127.0.0.1", "port_value": port}})
}

fn connection_manager(stage: &Stage<'_>, name: &str) -> Value {
    let everything = "/".to_owned();
    let routes: Vec<_> = stage
        .shape
        .prefixes()
        .chain([everything])
        .map(|prefix| route(&prefix))
        .collect();
    json!({
        "name": "envoy.filters.network.http_connection_manager",
        "typed_config": {
            "@type": format!("{TYPES}.filters.network.http_connection_manager.v3.HttpConnectionManager"),
            "stat_prefix": name,
            "access_log": [{
                "name": "envoy.access_loggers.file",
                "typed_config": {
                    "@type": format!("{TYPES}.access_loggers.file.v3.FileAccessLog"),
                    "path": stage.world.directory().join("envoy-access.log"),
                },
            }],
            "route_config": {"virtual_hosts": [{
                "name": "everything",
                "domains": ["*"],
                "routes": routes,
            }]},
            "http_filters": [{
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": format!("{TYPES}.filters.http.router.v3.Router")},
            }],
        },
    })
}

fn route(prefix: &str) -> Value {
    json!({
        "match": {"prefix": prefix},
        // Streams may last as long as a turn: Envoy's own limit is 15 s.
        "route": {"cluster": "origin", "timeout": "0s"},
        "request_headers_to_add": [{
            "header": {"key": "x-edge", "value": "bench"},
            "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
        }],
    })
}

fn transport_socket(stage: &Stage<'_>) -> Value {
    json!({
        "name": "envoy.transport_sockets.tls",
        "typed_config": {
            "@type": format!("{TYPES}.transport_sockets.tls.v3.DownstreamTlsContext"),
            "common_tls_context": {
                "alpn_protocols": ["h2", "http/1.1"],
                "tls_certificates": [{
                    "certificate_chain": {"filename": stage.certificate},
                    "private_key": {"filename": stage.key},
                }],
            },
        },
    })
}
