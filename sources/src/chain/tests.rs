//! Chains as Consul compiles them, and what becomes of them.

mod datacenters;

use super::*;
use crate::gateways;
use crate::knowledge::Knowledge;
use meridian_model::cluster::Transport;
use meridian_model::route::{PathMatch, PathRewrite};
use meridian_model::{Health, TlsTerms};
use serde_json::{Value, json};
use std::time::Duration;

/// Instances by service; whatever is not listed has not answered.
struct Answers(BTreeMap<&'static str, Result<Vec<ServiceEntry>, String>>);

impl Instances for Answers {
    fn instances(&self, query: &InstancesQuery) -> Known<'_, Vec<ServiceEntry>> {
        match self.0.get(query.service.as_str()) {
            None => Known::Waiting,
            Some(Ok(instances)) => Known::Value(instances),
            Some(Err(reason)) => Known::Failed(reason),
        }
    }

    fn gateways(&self, datacenter: &str, home: &str) -> Option<Result<Called, String>> {
        let known = self.0.get(format!("gateways {datacenter}").as_str())?;
        let called = |all: &Vec<_>| gateways::as_endpoints(&Knowledge::default(), all, home);
        Some(known.as_ref().map(called).map_err(String::clone))
    }
}

fn instance(id: &str, check: &str) -> ServiceEntry {
    serde_json::from_value(json!({
        "Node": {"Address": "10.0.0.1", "Datacenter": "dc1"},
        "Service": {"ID": id, "Port": 20000},
        "Checks": [{"Status": check}],
    }))
    .unwrap()
}

fn answers() -> Answers {
    Answers(BTreeMap::from([
        (
            "api",
            Ok(vec![
                instance("api-1", "passing"),
                instance("api-2", "critical"),
            ]),
        ),
        ("db", Ok(vec![instance("db-1", "passing")])),
    ]))
}

fn target(service: &str) -> Value {
    json!({"ID": format!("{service}.id"), "Service": service, "Namespace": "default",
        "Partition": "default", "Datacenter": "dc1", "SNI": format!("{service}.sni")})
}

fn resolver(service: &str) -> Value {
    json!({"Type": "resolver", "Name": service, "Resolver": {"ConnectTimeout": "3s",
        "Target": format!("{service}.id")}})
}

/// A chain with resolvers and targets for `api` and `db`, and further nodes.
fn chain(protocol: &str, start: &str, nodes: Value) -> CompiledChain {
    let mut all = json!({"resolver:api": resolver("api"), "resolver:db": resolver("db")});
    let nodes = nodes.as_object().unwrap().clone();
    all.as_object_mut().unwrap().extend(nodes);
    serde_json::from_value(
        json!({"ServiceName": "api", "Protocol": protocol, "StartNode": start,
        "Nodes": all, "Targets": {"api.id": target("api"), "db.id": target("db")}}),
    )
    .unwrap()
}

fn translated_with(chain: &CompiledChain, answers: &Answers) -> Option<Translated> {
    let (identity, trust_domain) = ("web".into(), TrustDomain::new("td"));
    let setting = Setting {
        label: "api",
        identity: &identity,
        trust_domain: &trust_domain,
        datacenter: "dc1",
        limits: CircuitLimits::default(),
        outlier: Some(OutlierPolicy::default()),
        terms: TlsTerms::default(),
    };
    translate(chain, &setting, answers)
}

fn translated(chain: &CompiledChain) -> Translated {
    translated_with(chain, &answers()).expect("everything has answered")
}

fn routes(translated: &Translated) -> &[Route] {
    match &translated.traffic {
        Traffic::Http(table) => &table.hosts[0].routes,
        Traffic::Tcp(_) => panic!("a TCP chain"),
    }
}

fn status(route: &Route) -> Option<u16> {
    match route.action.destination {
        Destination::Unroutable { status, .. } => Some(status),
        _ => None,
    }
}

#[test]
fn a_resolver_is_one_cluster_with_sni_and_identity() {
    let made = translated(&chain("tcp", "resolver:api", json!({})));
    assert_eq!(made.rejected, []);
    assert_eq!(made.traffic, Traffic::Tcp(vec![("api".into(), 1)]));
    let [cluster] = made.clusters.as_slice() else {
        panic!("{made:?}")
    };
    assert_eq!(cluster.protocol, UpstreamProtocol::Tcp);
    assert_eq!(cluster.connect_timeout, Duration::from_secs(3));
    assert!(cluster.outlier.is_some());
    let Transport::Mesh(mesh) = &cluster.targets[0].transport else {
        panic!("{cluster:?}")
    };
    assert_eq!((&*mesh.sni, mesh.identity.as_str()), ("api.sni", "web"));
    assert_eq!(
        mesh.expected[0].as_str(),
        "spiffe://td/ns/default/dc/dc1/svc/api"
    );
    let health: Vec<_> = cluster.targets[0]
        .endpoints
        .iter()
        .map(|one| one.health)
        .collect();
    assert_eq!(health, [Health::Healthy, Health::Unhealthy]);
}

#[test]
fn protocols_become_http_or_bytes() {
    for (protocol, expected) in [
        ("http", UpstreamProtocol::Http1),
        ("http2", UpstreamProtocol::Http2),
        ("grpc", UpstreamProtocol::Http2),
    ] {
        let made = translated(&chain(protocol, "resolver:api", json!({})));
        assert_eq!(made.clusters[0].protocol, expected);
        assert_eq!(routes(&made).len(), 1);
        assert_eq!(
            routes(&made)[0].action.timeouts.request,
            Some(Duration::from_secs(15))
        );
    }
    let odd = translated(&chain("odd", "resolver:api", json!({})));
    assert!(matches!(odd.traffic, Traffic::Tcp(_)));
}

#[test]
fn failover_targets_follow_in_order_with_identities_of_their_own() {
    let node = json!({"resolver:api": {"Type": "resolver", "Name": "api", "Resolver": {
        "RequestTimeout": 4000000000u64, "Target": "api.id", "Failover": {"Targets": ["db.id"]}}}});
    let made = translated(&chain("http", "resolver:api", node));
    let names: Vec<_> = made.clusters[0]
        .targets
        .iter()
        .map(|one| &*one.name)
        .collect();
    assert_eq!(names, ["api.id", "db.id"]);
    let Transport::Mesh(mesh) = &made.clusters[0].targets[1].transport else {
        panic!("{made:?}")
    };
    assert_eq!(mesh.expected[0].service().unwrap().service, "db");
    assert_eq!(
        routes(&made)[0].action.timeouts.request,
        Some(Duration::from_secs(4))
    );
}

#[test]
fn negative_timeouts_are_none_and_a_resolvers_ends_at_the_router() {
    let nodes = json!({
    "resolver:api": {"Type": "resolver", "Name": "api", "Resolver": {
        "RequestTimeout": -1, "Target": "api.id"}},
    "router:api": {"Type": "router", "Name": "api", "Routes": [
        {"NextNode": "resolver:api", "Definition": {
            "Destination": {"RequestTimeout": "-1s", "IdleTimeout": "-1s"}}},
        {"NextNode": "resolver:api"},
    ]}});
    let direct = translated(&chain("http", "resolver:api", nodes.clone()));
    assert_eq!(routes(&direct)[0].action.timeouts.request, None);
    let routed = translated(&chain("http", "router:api", nodes));
    let timeouts: Vec<_> = routes(&routed)
        .iter()
        .map(|one| one.action.timeouts)
        .collect();
    assert_eq!((timeouts[0].request, timeouts[0].idle), (None, None));
    assert_eq!(timeouts[1], Default::default());
}

#[test]
fn waits_for_instances_but_not_for_those_that_cannot_be_had() {
    let chain = chain("tcp", "resolver:api", json!({}));
    let mut answers = answers();
    answers.0.remove("db");
    assert_eq!(translated_with(&chain, &answers), None);
    answers
        .0
        .insert("db", Err("no path to datacenter".to_owned()));
    assert!(translated_with(&chain, &answers).is_some());
    answers
        .0
        .insert("api", Err("no path to datacenter".to_owned()));
    let made = translated_with(&chain, &answers).unwrap();
    assert_eq!(made.clusters[0].targets[0].endpoints.len(), 0);
}

#[test]
fn splits_keep_weights_and_headers() {
    let splitter = json!({"splitter:api": {"Type": "splitter", "Name": "api", "Splits": [
        {"Weight": 33.33, "NextNode": "resolver:api"},
        {"Weight": 66.67, "NextNode": "resolver:db",
         "Definition": {"RequestHeaders": {"Set": {"x-canary": "1"}}}},
        {"Weight": 0, "NextNode": "resolver:db"},
    ]}});
    let made = translated(&chain("http", "splitter:api", splitter));
    assert_eq!(made.rejected, []);
    let Destination::Clusters(split) = &routes(&made)[0].action.destination else {
        panic!("{made:?}")
    };
    let shares: Vec<_> = split
        .iter()
        .map(|one| (one.cluster.as_str(), one.weight))
        .collect();
    assert_eq!(shares, [("api/api", 3333), ("api/db", 6667)]);
    assert_eq!(split[1].request_headers.set.len(), 1);
}

#[test]
fn routes_keep_order_conditions_and_refinements() {
    let router = json!({"router:api": {"Type": "router", "Name": "api", "Routes": [
        {"NextNode": "resolver:db", "Definition": {
            "Match": {"HTTP": {"PathPrefix": "/x", "Methods": ["get"],
                "Header": [{"Name": "h", "Exact": "v"}],
                "QueryParam": [{"Name": "q", "Present": true}]}},
            "Destination": {"PrefixRewrite": "/", "RequestTimeout": "9s", "NumRetries": 3,
                "RetryOn": ["gateway-error", "unavailable", "moonphase"],
                "RetryOnStatusCodes": [503]}}},
        {"NextNode": "resolver:api", "Definition": {
            "Match": {"HTTP": {"PathExact": "/y"}}, "Destination": {"RetryOnConnectFailure": true}}},
        {"NextNode": "resolver:api", "Definition": {"Match": {"HTTP": {"PathPrefix": "/"}}}},
    ]}});
    let made = translated(&chain("http", "router:api", router));
    let routes = routes(&made);
    assert_eq!(routes.len(), 3);
    assert_eq!(routes[0].matches.path, PathMatch::Prefix("/x".into()));
    assert_eq!(routes[0].matches.methods, [http::Method::GET]);
    assert_eq!(
        (
            routes[0].matches.headers.len(),
            routes[0].matches.query.len()
        ),
        (1, 1)
    );
    let action = &routes[0].action;
    assert_eq!(action.rewrite, Some(PathRewrite::Prefix("/".into())));
    assert_eq!(action.timeouts.request, Some(Duration::from_secs(9)));
    let retry = action.retry.as_ref().unwrap();
    assert_eq!((retry.retries, retry.statuses.as_slice()), (3, &[503][..]));
    assert!(retry.on.gateway_error && retry.on.retriable_status_codes);
    assert_eq!(retry.on.grpc_statuses, 1 << 14);
    assert_eq!(made.rejected.len(), 1, "moonphase: {:?}", made.rejected);
    assert_eq!(routes[1].action.retry.as_ref().unwrap().retries, 1);
    assert_eq!(routes[2].action.retry, None);
    assert_eq!(routes[0].name.as_str(), "api/routes[0]");
}

#[test]
fn an_unknown_condition_answers_for_everything_behind_it() {
    let router = json!({"router:api": {"Type": "router", "Name": "api", "Routes": [
        {"NextNode": "resolver:db", "Definition": {"Match": {"HTTP": {"PathPrefix": "/x"}}}},
        {"NextNode": "resolver:db", "Definition": {"Match": {"HTTP": {"Moon": "full"}}}},
        {"NextNode": "resolver:api", "Definition": {"Match": {"HTTP": {"PathPrefix": "/"}}}},
    ]}});
    let made = translated(&chain("http", "router:api", router));
    let statuses: Vec<_> = routes(&made).iter().map(status).collect();
    assert_eq!(statuses, [None, Some(500)]);
    assert_eq!(*routes(&made)[1].matches, RouteMatch::default());
    assert!(
        made.rejected[0].reason.contains("Moon"),
        "{:?}",
        made.rejected
    );
}

#[test]
fn what_cannot_be_honoured_fails_loud_by_itself() {
    let unknown = json!({"mirror:api": {"Type": "mirror", "Name": "api"}});
    let made = translated(&chain("http", "mirror:api", unknown.clone()));
    assert_eq!(status(&routes(&made)[0]), Some(500));
    assert!(made.rejected[0].reason.contains("mirror"));

    let missing = translated(&chain("http", "resolver:nowhere", json!({})));
    assert_eq!(status(&routes(&missing)[0]), Some(500));

    let bytes = translated(&chain("tcp", "mirror:api", unknown));
    assert_eq!(bytes.traffic, Traffic::Tcp(Vec::new()));

    let router = json!({"router:api": {"Type": "router", "Name": "api", "Routes": [
        {"NextNode": "resolver:api", "Definition": {"Match": {"HTTP": {"PathPrefix": "/x"}},
            "Destination": {"Teleport": true}}},
        {"NextNode": "resolver:api"},
    ]}});
    let made = translated(&chain("http", "router:api", router));
    let statuses: Vec<_> = routes(&made).iter().map(status).collect();
    assert_eq!(statuses, [Some(500), None]);
}

#[test]
fn an_order_by_distance_is_named_and_the_written_one_holds() {
    let preferring = |mode: &str, preference: &str| {
        let nodes = json!({"resolver:api": {"Type": "resolver", "Name": "api", "Resolver": {
            "Target": "api.id", "Failover": {"Targets": ["db.id"], "Policy": {"Mode": mode}}}}});
        let mut chain = chain("tcp", "resolver:api", nodes);
        let target = chain.targets.get_mut("api.id").unwrap();
        target.prioritize_by_locality =
            Some(serde_json::from_value(json!({"Mode": preference})).unwrap());
        let made = translated(&chain);
        let targets = made.clusters[0].targets.iter();
        let targets: Vec<_> = targets.map(|target| target.name.to_string()).collect();
        assert_eq!(targets, ["api.id", "db.id"]);
        made.rejected
            .into_iter()
            .map(|one| one.reason)
            .collect::<Vec<_>>()
    };
    assert_eq!(preferring("sequential", "none"), [""; 0]);
    let named = preferring("order-by-locality", "failover");
    assert!(
        named[0].contains("order-by-locality") && named[1].contains("failover"),
        "{named:?}"
    );
}

#[test]
fn targets_behind_peers_are_left_out_and_named() {
    let mut peered = chain("tcp", "resolver:api", json!({}));
    peered.targets.get_mut("api.id").unwrap().peer = "east".to_owned();
    let made = translated(&peered);
    assert_eq!(made.clusters[0].targets, []);
    assert!(made.rejected[0].reason.contains("east"));
}
