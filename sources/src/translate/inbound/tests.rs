//! A registration, as the listener that peers call.

use super::*;
use meridian_model::listener::{Alpn, PathNormalization};
use meridian_model::{UpstreamProtocol, Verdict};
use serde_json::{Value, json};

fn translate(mut registration: Value) -> Result<Contents, String> {
    registration["ID"] = json!("web-sidecar-proxy");
    let registration: AgentService = serde_json::from_value(registration).unwrap();
    let proxy = registration.proxy.clone().unwrap();
    let rules = Authorization {
        intentions: Vec::new(),
        default: Verdict::Deny,
        providers: Vec::new(),
    };
    inbound(
        &registration,
        &proxy,
        &"web".into(),
        &Arc::new(rules),
        Around {
            mesh: &MeshRules::default(),
            extensions: Extensions::default(),
            agent: None,
            checks: &BTreeMap::new(),
        },
    )
}

fn with_config(config: Value) -> Contents {
    translate(json!({"Port": 21000, "Proxy": {"LocalServicePort": 80, "Config": config}})).unwrap()
}

fn http(contents: &Contents) -> Arc<HttpService> {
    match &contents.listeners[LISTENER].service {
        Service::Http(service) => Arc::clone(service),
        Service::Tcp(_) | Service::BySni(_) => panic!("not an HTTP service"),
    }
}

#[test]
fn protocol_decides_service_alpn_and_forwarded_certificate() {
    use ClientCertificateHeader::{AppendForward, Sanitize};
    let cases = [
        (
            "http",
            vec![Alpn::Http1],
            UpstreamProtocol::Http1,
            AppendForward,
        ),
        (
            "HTTP2",
            vec![Alpn::H2, Alpn::Http1],
            UpstreamProtocol::Http2,
            AppendForward,
        ),
        (
            "grpc",
            vec![Alpn::H2, Alpn::Http1],
            UpstreamProtocol::Http2,
            Sanitize,
        ),
    ];
    for (protocol, offered, upstream, header) in cases {
        let contents = with_config(json!({"protocol": protocol}));
        let service = http(&contents);
        assert_eq!(service.client_certificate, header, "{protocol}");
        assert_eq!(service.normalization, PathNormalization::MESH_INBOUND);
        assert!(service.authorization.is_some());
        assert_eq!(contents.clusters[CLUSTER].protocol, upstream, "{protocol}");
        let Security::Mesh { identity, alpn, .. } = &contents.listeners[LISTENER].security else {
            panic!("{contents:?}")
        };
        assert_eq!((identity.as_str(), alpn), ("web", &offered), "{protocol}");
    }
    for config in [
        json!({}),
        json!({"protocol": "tcp"}),
        json!({"protocol": "odd"}),
    ] {
        let contents = with_config(config);
        assert!(matches!(
            contents.listeners[LISTENER].service,
            Service::Tcp(_)
        ));
        assert_eq!(contents.clusters[CLUSTER].protocol, UpstreamProtocol::Tcp);
    }
}

#[test]
fn addresses_are_honoured_in_their_order() {
    let bind = |registration: Value| {
        let contents = translate(registration).unwrap();
        contents.listeners[LISTENER].bind.clone()
    };
    let tcp = |text: &str| Bind::Tcp(text.parse().unwrap());
    let proxy = json!({"LocalServicePort": 80});
    let unnamed = json!({"Port": 21000, "Proxy": proxy});
    assert_eq!(bind(unnamed), tcp("0.0.0.0:21000"));
    let named = json!({"Address": "127.0.0.2", "Port": 21000, "Proxy": proxy});
    assert_eq!(bind(named), tcp("127.0.0.2:21000"));
    let config = json!({"bind_address": "10.0.0.1", "bind_port": "22000"});
    let opaque = json!({"Address": "127.0.0.2", "Port": 21000,
        "Proxy": {"LocalServicePort": 80, "Config": config}});
    assert_eq!(bind(opaque), tcp("10.0.0.1:22000"));
}

#[test]
fn application_is_an_address_or_a_socket() {
    let application = |proxy: Value| {
        let contents = translate(json!({"Port": 1, "Proxy": proxy})).unwrap();
        let target = &contents.clusters[CLUSTER].targets[0];
        target.endpoints[0].address.to_string()
    };
    assert_eq!(application(json!({"LocalServicePort": 80})), "127.0.0.1:80");
    let named = json!({"LocalServiceAddress": "10.0.0.9", "LocalServicePort": 80});
    assert_eq!(application(named), "10.0.0.9:80");
    assert_eq!(
        application(json!({"LocalServiceSocketPath": "/s"})),
        "unix:/s"
    );
}

#[test]
fn timeouts_and_limits_come_from_the_configuration() {
    let contents = with_config(json!({"protocol": "http", "local_request_timeout_ms": 1234,
        "local_connect_timeout_ms": 700, "max_inbound_connections": 7,
        "max_request_headers_kb": 96}));
    let action = &http(&contents).routes.hosts[0].routes[0].action.clone();
    assert_eq!(action.timeouts.request, Some(Duration::from_millis(1234)));
    assert_eq!(
        contents.clusters[CLUSTER].connect_timeout,
        Duration::from_millis(700)
    );
    assert_eq!(contents.listeners[LISTENER].limits.connections, 7);
    assert_eq!(contents.listeners[LISTENER].limits.head_bytes, 96 * 1024);

    let contents = with_config(json!({"protocol": "http", "local_request_timeout_ms": 0}));
    assert_eq!(
        http(&contents).routes.hosts[0].routes[0]
            .action
            .timeouts
            .request,
        None
    );
    let contents = with_config(json!({"protocol": "http"}));
    let action = &http(&contents).routes.hosts[0].routes[0].action.clone();
    assert_eq!(action.timeouts.request, Some(Duration::from_secs(15)));
}

#[test]
fn scrapers_find_metrics_where_they_found_envoys() {
    for (written, address) in [
        ("0.0.0.0:9102", Some("0.0.0.0:9102")),
        ("localhost:9102", Some("127.0.0.1:9102")),
        ("[::]:9102", Some("[::]:9102")),
        ("9102", None),
        ("example.com:9102", None),
    ] {
        let contents = with_config(json!({"envoy_prometheus_bind_addr": written}));
        let expected = address.map(|address| address.parse().unwrap());
        assert_eq!(contents.scrape, expected, "{written}");
        assert_eq!(contents.rejected.len(), usize::from(address.is_none()));
    }
}

#[test]
fn a_registration_without_ports_is_refused() {
    assert!(translate(json!({"Port": 0, "Proxy": {"LocalServicePort": 80}})).is_err());
    assert!(translate(json!({"Port": 1, "Proxy": {}})).is_err());
    let named = json!({"Port": 1, "Address": "example.com", "Proxy": {"LocalServicePort": 80}});
    assert!(translate(named).is_err());
}
