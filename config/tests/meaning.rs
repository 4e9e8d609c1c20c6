//! What a sound file means in the model.

use meridian_config::{AccessLogDestination, Gateway, GatewayFile, MeshFile, TokenSource};
use meridian_model::listener::{
    ClientCertificateHeader, ClientTrust, HttpService, PathNormalization,
};
use meridian_model::policy::LoadBalancing;
use meridian_model::route::{
    Destination, PathMatch, PathRewrite, Precedence, ValueMatch, VirtualHost,
};
use meridian_model::{Bind, Discovery, Security, Service, UpstreamProtocol};
use std::sync::Arc;
use std::time::Duration;

const BACKENDS: &str = "\
version: edge/v1
backends:
- {name: web, discovery: {dns: {name: web.internal, port: 80}}}
- {name: next, protocol: grpc, discovery: {static: {endpoints: [{address: '127.0.0.1:1', weight: 3}]}}}
";

fn gateway(blocks: &str) -> Gateway {
    GatewayFile::parse(&format!("{BACKENDS}{blocks}"), "gateway.yaml")
        .unwrap_or_else(|report| panic!("{report}"))
        .value
}

fn http(gateway: &Gateway, listener: usize) -> &HttpService {
    match &gateway.blueprint.listeners[listener].service {
        Service::Http(service) => service,
        Service::Tcp(_) | Service::BySni(_) => panic!("expected HTTP"),
    }
}

fn host<'g>(gateway: &'g Gateway, host: &str) -> &'g VirtualHost {
    let routes = &http(gateway, 0).routes;
    routes.hosts.iter().find(|h| h.hosts == [host]).expect(host)
}

const ROUTES: &str = "\
listeners: [{name: http, port: 8080, protocol: HTTP, hostname: '*.a.test'}]
routes:
- name: site
  parentRefs: [{name: http}]
  hostnames: [X.a.test]
  rules:
  - name: both
    matches:
    - {path: {value: /v1/}, method: GET, headers: [{name: X-Beta, value: 1}]}
    - {path: {type: Exact, value: /one}, queryParams: [{type: RegularExpression, name: q, value: 'a+'}]}
    filters:
    - {type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: X-A, value: b}], remove: [X-C]}}
    backendRefs: [{name: web, weight: 90}, {name: next, weight: 10}]
    timeouts: {request: 0s, backendRequest: 3s}
    retry: {attempts: 2, codes: [503], backoff: 50ms}
  - backendRefs: [{name: web}, {name: next, weight: 0}]
    filters: [{type: URLRewrite, urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /in}}}]
- name: rest
  parentRefs: [{name: http}]
  rules:
  - filters: [{type: RequestRedirect, requestRedirect: {hostname: x.a.test}}]
";

#[test]
fn strangers_are_not_trusted_at_the_edge() {
    let gateway = gateway(ROUTES);
    let listener = &gateway.blueprint.listeners[0];
    assert_eq!(listener.bind, Bind::Tcp("0.0.0.0:8080".parse().unwrap()));
    assert_eq!(listener.security, Security::Plain);
    let service = http(&gateway, 0);
    assert_eq!(service.trust, ClientTrust::Edge);
    assert_eq!(service.normalization, PathNormalization::EDGE);
    assert_eq!(
        service.client_certificate,
        ClientCertificateHeader::Sanitize
    );
    assert_eq!(service.routes.precedence, Precedence::MostSpecific);
}

#[test]
fn alternative_matches_are_routes_that_share_an_action() {
    let gateway = gateway(ROUTES);
    let routes = &host(&gateway, "x.a.test").routes;
    assert_eq!(routes.len(), 3);
    assert!(Arc::ptr_eq(&routes[0].action, &routes[1].action));
    assert_eq!(routes[0].name.as_str(), "site/both");
    assert_eq!(routes[2].name.as_str(), "site/1");
    assert_eq!(
        routes[0].matches.path,
        PathMatch::ElementPrefix("/v1".into())
    );
    assert_eq!(routes[0].matches.methods, [http::Method::GET]);
    assert_eq!(
        routes[0].matches.headers[0].value,
        ValueMatch::Exact("1".into())
    );
    assert_eq!(routes[1].matches.path, PathMatch::Exact("/one".into()));
    assert!(routes[1].matches.query[0].value.accepts("aa"));
}

#[test]
fn actions_hold_what_was_written() {
    let gateway = gateway(ROUTES);
    let routes = &host(&gateway, "x.a.test").routes;
    let action = &routes[0].action;
    assert_eq!(action.timeouts.request, None);
    assert_eq!(action.timeouts.per_try, Some(Duration::from_secs(3)));
    let retry = action.retry.as_ref().unwrap();
    assert_eq!(
        (retry.retries, retry.statuses.as_slice()),
        (2, [503].as_slice())
    );
    assert_eq!(retry.max_backoff, Duration::from_millis(500));
    assert_eq!(action.request_headers.remove, ["x-c"]);
    let weights = |action: &meridian_model::RouteAction| match &action.destination {
        Destination::Clusters(clusters) => clusters
            .iter()
            .map(|c| (c.cluster.to_string(), c.weight))
            .collect::<Vec<_>>(),
        other => panic!("{other:?}"),
    };
    assert_eq!(
        weights(action),
        [("web".to_owned(), 90), ("next".to_owned(), 10)]
    );
    // A weight of 0 gets nothing.
    assert_eq!(weights(&routes[2].action), [("web".to_owned(), 1)]);
    assert_eq!(
        routes[2].action.rewrite,
        Some(PathRewrite::Prefix("/in".into()))
    );
}

#[test]
fn a_route_without_hosts_takes_the_listeners() {
    let gateway = gateway(ROUTES);
    let routes = &host(&gateway, "*.a.test").routes;
    assert_eq!(routes[0].name.as_str(), "rest");
    let Destination::Redirect(redirect) = &routes[0].action.destination else {
        panic!("expected a redirect");
    };
    assert_eq!(
        (redirect.status, redirect.host.as_deref()),
        (302, Some("x.a.test"))
    );
}

#[test]
fn a_named_policy_goes_before_the_general_one() {
    let policies = "
backendPolicies:
- {name: all, targets: [{name: '*'}], loadBalancing: {type: Random}, connectTimeout: 2s, circuitBreaker: {maxPending: 7}}
- {name: one, targets: [{name: next}], loadBalancing: {type: LeastRequest}, passiveHealth: {maxEjected: 50%}}
";
    let gateway = gateway(&format!("{ROUTES}{policies}"));
    let [web, next] = gateway.blueprint.backends.as_slice() else {
        panic!("expected two backends");
    };
    assert_eq!(web.cluster.balancing, LoadBalancing::Random);
    assert_eq!(web.cluster.outlier, None);
    assert_eq!(
        next.cluster.balancing,
        LoadBalancing::LeastRequest { choices: 2 }
    );
    assert_eq!(next.cluster.connect_timeout, Duration::from_secs(2));
    assert_eq!(next.cluster.limits.pending_requests, Some(7));
    assert_eq!(next.cluster.outlier.unwrap().max_ejected_percent, 50);
    assert_eq!(next.cluster.protocol, UpstreamProtocol::Http2);
}

#[test]
fn discovery_goes_through_the_mesh_unless_told_otherwise() {
    let gateway = GatewayFile::parse(
        "
version: edge/v1
service: {name: edge}
listeners: [{name: tcp, port: 1, protocol: TCP}]
backends:
- {name: a, protocol: tcp, discovery: {consul: {service: a, datacenter: dc2}}}
- {name: b, protocol: tcp, discovery: {consul: {service: b, mesh: false}}}
- {name: c, protocol: tcp, discovery: {static: {endpoints: [{address: 'c.internal:80'}]}}, tls: {}}
routes:
- name: t
  parentRefs: [{name: tcp}]
  rules: [{backendRefs: [{name: a}, {name: b, weight: 2}, {name: c}]}]
",
        "gateway.yaml",
    )
    .unwrap_or_else(|report| panic!("{report}"))
    .value;
    assert_eq!(gateway.service.as_deref(), Some("edge"));
    let [a, b, c] = gateway.blueprint.backends.as_slice() else {
        panic!("expected three backends");
    };
    let Discovery::ConsulConnect(service) = &a.discovery else {
        panic!("{:?}", a.discovery);
    };
    assert_eq!(service.datacenter.as_deref(), Some("dc2"));
    assert!(matches!(b.discovery, Discovery::Consul(_)));
    assert!(matches!(&c.discovery, Discovery::Dns { host, port: 80, .. } if host == "c.internal"));
    assert_eq!(
        c.tls.as_ref().unwrap().server_name.as_deref(),
        Some("c.internal")
    );
    let Service::Tcp(service) = &gateway.blueprint.listeners[0].service else {
        panic!("expected TCP");
    };
    assert_eq!(service.clusters.len(), 3);
    assert_eq!(service.idle_timeout, Some(Duration::from_secs(3600)));
}

#[test]
fn start_up_blocks_come_out_plain() {
    let text = "
version: mesh/v1
consul: {address: 'unix:///run/consul.sock', tokenFile: token}
telemetry: {logLevel: debug, accessLog: {destination: access.log}, tracing: {endpoint: 'http://127.0.0.1:4318'}}
drain: {deadline: 1m}
threads: 2
";
    let startup = MeshFile::parse(text, "mesh.yaml")
        .unwrap_or_else(|report| panic!("{report}"))
        .value
        .startup;
    assert_eq!(
        startup.consul.token,
        Some(TokenSource::File("token".into()))
    );
    let destination = AccessLogDestination::File("access.log".into());
    assert_eq!(startup.telemetry.access_log.destination, destination);
    assert_eq!(startup.telemetry.log_level.as_str(), "debug");
    assert_eq!(startup.drain_deadline, Duration::from_secs(60));
    let empty = MeshFile::parse("version: mesh/v1\n", "mesh.yaml").unwrap();
    assert_eq!(empty.value.startup, meridian_config::Startup::default());
}
