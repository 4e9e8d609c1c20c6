//! Ours.

use std::fmt::Write as _;

use meridian_tests::gateway::Gateway;

use super::{Contender, Ports, Stage};

pub(super) async fn start(stage: &Stage<'_>, ports: Ports) -> Contender {
    let configuration = configuration(stage, ports);
    let gateway = Gateway::start(stage.world, "gateway/gateway", &configuration).await;
    Contender {
        ports,
        process: gateway.process,
    }
}

fn configuration(stage: &Stage<'_>, ports: Ports) -> String {
    let protocol = if stage.shape.is_grpc() {
        "grpc"
    } else {
        "http"
    };
    let mut text = format!(
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
  protocol: {protocol}
  discovery: {{static: {{endpoints: [{{address: \"127.0.0.1:{origin}\"}}]}}}}
routes:
",
        log = stage.world.directory().join("gateway-access.log").display(),
        plain = ports.plain,
        tls = ports.tls,
        certificate = stage.certificate.display(),
        key = stage.key.display(),
        origin = stage.shape.application.port(),
    );
    route(&mut text, "everything", "/");
    for (prefix, number) in stage.shape.prefixes().zip(0..) {
        route(&mut text, &format!("service-{number}"), &prefix);
    }
    text
}

fn route(text: &mut String, name: &str, prefix: &str) {
    // Writing to a string can't fail.
    let _ = write!(
        text,
        "\
- name: {name}
  parentRefs: [{{name: plain}}, {{name: tls}}]
  rules:
  - matches: [{{path: {{type: PathPrefix, value: {prefix}}}}}]
    backendRefs: [{{name: origin}}]
    filters:
    - type: RequestHeaderModifier
      requestHeaderModifier: {{set: [{{name: x-edge, value: bench}}]}}
"
    );
}
