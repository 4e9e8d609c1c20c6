//! Upstreams as a registration writes them: where they are bound, and what they are called.

use super::*;
use serde_json::{Value, json};
use std::time::Duration;

fn read(written: Value) -> (Vec<Upstream>, Vec<Rejection>) {
    upstreams(&serde_json::from_value(json!({ "Upstreams": written })).unwrap())
}

fn chain(upstream: &Upstream) -> &ChainQuery {
    match &upstream.destination {
        Destination::Chain(chain) => chain,
        Destination::Prepared(_) => panic!("{upstream:?}"),
    }
}

#[test]
fn a_prepared_query_has_a_label_of_its_own() {
    let (found, rejected) = read(json!([
        {"DestinationName": "a", "LocalBindPort": 1},
        {"DestinationName": "a", "LocalBindPort": 2, "DestinationType": "prepared_query",
            "Datacenter": "dc2"},
    ]));
    assert_eq!(rejected, []);
    let labels: Vec<_> = found.iter().map(|u| u.label.as_str()).collect();
    assert_eq!(labels, ["a", "prepared_query:a?dc=dc2"]);
    let Destination::Prepared(prepared) = &found[1].destination else {
        panic!("{found:?}")
    };
    assert_eq!(prepared.query.datacenter.as_deref(), Some("dc2"));
}

fn tcp(text: &str) -> Bind {
    Bind::Tcp(text.parse().unwrap())
}

#[test]
fn binds_by_address_or_socket() {
    let (found, rejected) = read(json!([
        {"DestinationName": "a", "LocalBindPort": 5000},
        {"DestinationName": "b", "LocalBindAddress": "0.0.0.0", "LocalBindPort": 5001},
        {"DestinationName": "c", "LocalBindSocketPath": "/s", "LocalBindSocketMode": "0640"},
    ]));
    assert_eq!(rejected, []);
    let binds: Vec<_> = found.into_iter().map(|upstream| upstream.bind).collect();
    let socket = Bind::Unix {
        path: "/s".into(),
        mode: Some(0o640),
    };
    assert_eq!(binds, [tcp("127.0.0.1:5000"), tcp("0.0.0.0:5001"), socket]);
}

#[test]
fn defaults_and_central_ones_are_not_bound() {
    let (found, rejected) = read(json!([
        {"DestinationName": "*"},
        {"DestinationName": "a", "CentrallyConfigured": true},
    ]));
    assert_eq!((found, rejected), (Vec::new(), Vec::new()));
}

#[test]
fn a_bad_upstream_rejects_itself_only() {
    let (found, rejected) = read(json!([
        {"DestinationName": "a"},
        {"DestinationName": "b", "LocalBindPort": 1, "DestinationType": "teapot"},
        {"DestinationName": "c", "LocalBindPort": 1, "DestinationPeer": "east"},
        {"DestinationName": "d", "LocalBindSocketPath": "/s", "LocalBindSocketMode": "9"},
        {"DestinationName": "e", "LocalBindPort": 1},
    ]));
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].label, "e");
    let named: Vec<_> = rejected.iter().map(|r| r.resource.as_str()).collect();
    assert_eq!(
        named,
        [
            "upstream a",
            "upstream b",
            "upstream c?peer=east",
            "upstream d"
        ]
    );
}

#[test]
fn labels_stay_short_and_unique() {
    let (found, _) = read(json!([
        {"DestinationName": "a", "LocalBindPort": 1, "DestinationNamespace": "default"},
        {"DestinationName": "a", "LocalBindPort": 2},
        {"DestinationName": "a", "LocalBindPort": 3, "Datacenter": "dc2"},
    ]));
    let labels: Vec<_> = found.iter().map(|u| u.label.as_str()).collect();
    assert_eq!(labels, ["a", "a@127.0.0.1:2", "a?dc=dc2"]);
    assert_eq!(chain(&found[2]).datacenter.as_deref(), Some("dc2"));
}

#[test]
fn settings_reach_chain_limits_and_ejection() {
    let (found, rejected) = read(json!([{"DestinationName": "a", "LocalBindPort": 1,
        "MeshGateway": {"Mode": "local"},
        "Config": {"connect_timeout_ms": 700, "protocol": "http",
            "limits": {"MaxConnections": 5, "MaxPendingRequests": null, "max_concurrent_requests": 0},
            "passive_health_check": {"MaxFailures": 2, "Interval": 3000000000u64,
                "EnforcingConsecutive5xx": 0, "BaseEjectionTime": 600000000000u64}}}]));
    assert_eq!(rejected, []);
    let upstream = &found[0];
    let chain = chain(upstream);
    assert_eq!(chain.connect_timeout, Some(Duration::from_millis(700)));
    assert_eq!(chain.protocol.as_deref(), Some("http"));
    assert_eq!(chain.mesh_gateway.as_deref(), Some("local"));
    let limits = upstream.limits;
    assert_eq!(
        (limits.connections, limits.pending_requests, limits.requests),
        (Some(5), None, Some(0))
    );
    let outlier = upstream.outlier;
    assert_eq!(
        (outlier.consecutive_failures, outlier.enforcing_percent),
        (2, 0)
    );
    assert_eq!(outlier.interval, Duration::from_secs(3));
    assert_eq!(outlier.max_ejection, Duration::from_secs(600));
}
