//! A terminating gateway from hand-written answers to its contents.

mod world;

use super::*;
use crate::knowledge::{News, Trouble};
use meridian_model::cluster::TlsTransport;
use meridian_model::policy::LoadBalancing;
use meridian_model::sni::SniName;
use meridian_model::{Cluster, HeaderText, Service, Transport};
use serde_json::{Value, json};
use std::time::SystemTime;
use world::{World, gateway};

fn link(service: &str) -> Value {
    json!({"Service": {"Name": service}, "AutoHostRewrite": true})
}

fn tls(service: &str) -> Value {
    json!({"Service": {"Name": service}, "CAFile": "ca.pem", "SNI": "out.test",
        "CertFile": "our.pem", "KeyFile": "our.key"})
}

fn published(contents: &Contents) -> Snapshot {
    Snapshot {
        generation: 1,
        listeners: contents.listeners.clone(),
        clusters: contents.clusters.clone(),
        identities: contents.identities.clone(),
        ..Snapshot::default()
    }
}

fn chains(contents: &Contents) -> Vec<SniChain> {
    match &contents.listeners["default"].service {
        Service::BySni(service) => service.chains.clone(),
        other => panic!("{other:?}"),
    }
}

fn http(contents: &Contents) -> Arc<HttpService> {
    match &chains(contents)[0].action {
        SniAction::Terminate {
            service: TerminatedService::Http(service),
            ..
        } => Arc::clone(service),
        other => panic!("{other:?}"),
    }
}

/// The name that requests are sent on under, if they are given another one.
fn host(contents: &Contents) -> Option<String> {
    let action = &http(contents).routes.hosts[0].routes[0].action.clone();
    let set = &action.request_headers.set;
    let host = set.iter().find(|(name, _)| name == HOST);
    host.map(|(_, text)| match text {
        HeaderText::Fixed(value) => value.to_str().unwrap().to_owned(),
        HeaderText::Composed(parts) => panic!("{parts:?}"),
    })
}

fn addresses(cluster: &Cluster) -> Vec<String> {
    let endpoints = cluster.targets.iter().flat_map(|one| one.endpoints.iter());
    endpoints.map(|one| one.address.to_string()).collect()
}

fn outside(contents: &Contents, cluster: &str) -> TlsTransport {
    match &contents.clusters[cluster].targets[0].transport {
        Transport::Tls(transport) => transport.clone(),
        other => panic!("{other:?}"),
    }
}

fn reasons(contents: &Contents) -> Vec<String> {
    let rejected = contents.rejected.iter();
    rejected
        .map(|one| format!("{}: {}", one.resource, one.reason))
        .collect()
}

#[test]
fn a_gateway_without_services_opens_its_listener() {
    let contents = World::new(Vec::new()).first();
    assert_eq!(chains(&contents), []);
    assert_eq!(reasons(&contents), Vec::<String>::new());
}

#[test]
fn a_service_and_its_subsets_are_clusters_as_consul_makes_them() {
    let mut world = World::new(vec![link("web")]).at("web", &[("10.0.0.1", "passing")]);
    world.registration["Proxy"] = json!({"Config": {"connect_timeout_ms": 700,
        "envoy_dns_discovery_type": "strict_dns"}});
    world.resolvers = vec![
        json!({"Name": "web", "Subsets": {"v1": {"Filter": "a == b"}},
        "RequestTimeout": "2s", "LoadBalancer": {"Policy": "least_request",
            "LeastRequestConfig": {"ChoiceCount": 5}}}),
    ];
    let contents = world.http("web").first();
    let names: Vec<_> = chains(&contents)
        .into_iter()
        .flat_map(|one| one.names)
        .collect();
    let name = |text: &str| SniName::Exact(text.to_owned());
    let expected = [
        name("web.default.dc1.internal.td"),
        name("v1.web.default.dc1.internal.td"),
    ];
    assert_eq!(names, expected);
    let cluster = &contents.clusters["web/v1"];
    assert_eq!(
        cluster.balancing,
        LoadBalancing::LeastRequest { choices: 5 }
    );
    assert_eq!(cluster.connect_timeout, Duration::from_millis(700));
    assert_eq!(cluster.panic_percent, 50);
    assert!(cluster.outlier.is_some());
    let action = http(&contents).routes.hosts[0].routes[0].action.clone();
    assert_eq!(action.timeouts.request, Some(Duration::from_secs(2)));
    assert!(reasons(&contents)[0].contains("`envoy_dns_discovery_type`"));
}

#[test]
fn one_name_counts_and_the_rest_is_named() {
    let instances = [
        ("10.0.0.1", "passing"),
        ("ill.test", "critical"),
        ("one.test", "passing"),
        ("two.test", "passing"),
    ];
    let mut world = World::new(vec![link("web")])
        .http("web")
        .at("web", &instances)
        .resolved("one.test", &["10.1.0.1", "10.1.0.2"]);
    let contents = world.first();
    let cluster = &contents.clusters["web"];
    assert_eq!(addresses(cluster), ["10.1.0.1:80", "10.1.0.2:80"]);
    assert_eq!(host(&contents).as_deref(), Some("one.test"));
    let reasons = reasons(&contents);
    assert_eq!(reasons.len(), 3, "{reasons:?}");
    assert!(reasons[0].starts_with("instance web-0: "));
    assert!(reasons[0].contains("`one.test`"));
}

#[test]
fn without_a_healthy_name_the_last_one_counts() {
    let instances = [("a.test", "critical"), ("b.test", "critical")];
    let mut world = World::new(vec![link("web")])
        .at("web", &instances)
        .resolved("b.test", &["10.1.0.1"]);
    assert_eq!(addresses(&world.first().clusters["web"]), ["10.1.0.1:80"]);
}

#[test]
fn the_host_stays_where_it_is_told_to_or_there_is_no_name() {
    let stay = json!({"Service": {"Name": "web"}, "AutoHostRewrite": false});
    let named = World::new(vec![stay]).at("web", &[("one.test", "passing")]);
    let mut named = named.http("web").resolved("one.test", &["10.1.0.1"]);
    assert_eq!(host(&named.first()), None);
    let numbered = World::new(vec![link("web")]).at("web", &[("10.0.0.1", "passing")]);
    assert_eq!(host(&numbered.http("web").first()), None);
}

#[test]
fn addresses_outlive_the_failure_of_dns_which_is_named() {
    let mut world = World::new(vec![link("web")])
        .at("web", &[("one.test", "passing")])
        .resolved("one.test", &["10.1.0.1"]);
    world.first();
    world.names.clear();
    let topic = gateway()
        .wanted(&world.knowledge)
        .into_iter()
        .find(|topic| topic.kind() == "dns")
        .unwrap();
    let failed = News::Failed(Trouble::answer("timed out"));
    world.knowledge.take(topic, failed, SystemTime::UNIX_EPOCH);
    let contents = world.first();
    assert_eq!(addresses(&contents.clusters["web"]), ["10.1.0.1:80"]);
    assert!(reasons(&contents)[0].contains("`one.test`: timed out; its last addresses"));
}

#[test]
fn a_new_name_is_called_only_once_it_is_known() {
    let mut world = World::new(vec![link("web")])
        .at("web", &[("one.test", "passing")])
        .resolved("one.test", &["10.1.0.1"]);
    assert_eq!(
        World::new(vec![link("web")])
            .at("web", &[("one.test", "passing")])
            .contents(&Snapshot::default()),
        None,
        "the first generation waits"
    );
    let before = published(&world.first());
    let mut world = world.at("web", &[("other.test", "passing")]);
    let contents = world.contents(&before).unwrap();
    assert_eq!(addresses(&contents.clusters["web"]), ["10.1.0.1:80"]);
    let mut world = world.resolved("other.test", &["10.1.0.9"]);
    let contents = world.contents(&before).unwrap();
    assert_eq!(addresses(&contents.clusters["web"]), ["10.1.0.9:80"]);
}

#[test]
fn files_become_tls_and_a_certificate() {
    let mut world = World::new(vec![tls("web")])
        .at("web", &[("10.0.0.1", "passing")])
        .certificate("ca.pem", "ca.key")
        .certificate("our.pem", "our.key");
    let transport = outside(&world.first(), "web");
    assert_eq!(transport.server_name.as_deref(), Some("out.test"));
    assert_eq!(transport.roots.len(), 1);
    assert!(transport.certificate.is_some());
    world.links = vec![json!({"Service": {"Name": "web"}, "CAFile": "ca.pem"})];
    let transport = outside(&world.first(), "web");
    assert_eq!((transport.server_name, transport.certificate), (None, None));
}

#[test]
fn tls_that_is_not_there_is_never_left_out() {
    let mut world = World::new(vec![tls("web"), link("other")])
        .at("web", &[("10.0.0.1", "passing")])
        .at("other", &[("10.0.0.2", "passing")]);
    let contents = world.first();
    assert_eq!(contents.clusters["web"].targets, []);
    assert_eq!(addresses(&contents.clusters["other"]), ["10.0.0.2:80"]);
    assert_eq!(reasons(&contents), ["service web: CAFile: no such file"]);
}

#[test]
fn a_pair_that_does_not_fit_leaves_the_last_one_in_place() {
    let mut world = World::new(vec![tls("web")])
        .at("web", &[("10.0.0.1", "passing")])
        .certificate("ca.pem", "ca.key")
        .certificate("our.pem", "our.key");
    let before = published(&world.first());
    let transport = outside(&world.first(), "web");
    // The certificate was replaced, its key not yet.
    let mut world = world.certificate("our.pem", "another.key");
    let contents = world.contents(&before).unwrap();
    assert_eq!(outside(&contents, "web"), transport);
    assert!(reasons(&contents)[0].contains("not the certificate's"));
    let new = world.files["another.key"].clone();
    world.files.insert("our.key".to_owned(), new);
    let contents = world.contents(&before).unwrap();
    assert_ne!(outside(&contents, "web"), transport);
}

#[test]
fn a_destination_is_a_name_for_each_of_its_addresses() {
    let linked = json!({"Service": {"Name": "web"}, "ServiceKind": "destination",
        "CAFile": "ca.pem", "SNI": "out.test"});
    let mut world = World::new(vec![linked])
        .http("web")
        .certificate("ca.pem", "ca.key")
        .resolved("one.test", &["10.1.0.1", "10.1.0.2"]);
    world.defaults.insert(
        "web",
        json!({"Name": "web", "Destination": {"Addresses": ["10.0.0.1", "one.test"], "Port": 443}}),
    );
    let contents = world.first();
    let names: Vec<_> = chains(&contents)
        .into_iter()
        .flat_map(|one| one.names)
        .collect();
    let name = |text: &str| SniName::Exact(format!("{text}.web.default.dc1.internal.td"));
    assert_eq!(
        names,
        [name("destination.10-0-0-1"), name("destination.one-test")]
    );
    assert_eq!(
        addresses(&contents.clusters["web/one.test"]),
        ["10.1.0.1:443", "10.1.0.2:443"]
    );
    let transport = outside(&contents, "web/10.0.0.1");
    assert_eq!(transport.server_name.as_deref(), Some("out.test"));
    assert_eq!(host(&contents), None);
}

#[test]
fn an_extension_is_named_and_a_required_one_keeps_its_service_out() {
    let mut world = World::new(vec![link("web"), link("other")])
        .at("web", &[("10.0.0.1", "passing")])
        .at("other", &[("10.0.0.2", "passing")]);
    for (service, required) in [("web", true), ("other", false)] {
        let extension = json!({"Name": "builtin/aws/lambda", "Required": required});
        world
            .defaults
            .insert(service, json!({"EnvoyExtensions": [extension]}));
    }
    let sidecars = json!([{"Name": "builtin/lua", "Required": true,
        "Arguments": {"ProxyType": "connect-proxy"}}]);
    world
        .defaults
        .insert("global", json!({"EnvoyExtensions": sidecars}));
    let contents = world.first();
    assert_eq!(chains(&contents).len(), 1);
    let expected = [
        "service web: the required extension `builtin/aws/lambda`: it is not served",
        "service other: the extension `builtin/aws/lambda`: it is not served",
    ];
    assert_eq!(reasons(&contents), expected);
}

#[test]
fn a_right_that_is_missing_refuses_that_service_only() {
    let mut world = World::new(vec![link("web"), link("other")])
        .at("web", &[("10.0.0.1", "passing")])
        .at("other", &[("10.0.0.2", "passing")]);
    world.forbidden = vec!["web"];
    let contents = world.first();
    assert_eq!(chains(&contents).len(), 1);
    assert_eq!(
        reasons(&contents),
        ["service web: its leaf cannot be had: 403: service:write is missing"]
    );
}

#[test]
fn the_callers_certificate_can_be_withheld() {
    let web = || World::new(vec![link("web")]).at("web", &[("10.0.0.1", "passing")]);
    let header = |world: World| http(&world.http("web").first()).client_certificate;
    assert_eq!(header(web()), ClientCertificateHeader::AppendForward);
    let mut withheld = web();
    withheld.mesh = json!({"HTTP": {"SanitizeXForwardedClientCert": true}});
    assert_eq!(header(withheld), ClientCertificateHeader::Sanitize);
}

#[test]
fn paths_are_brought_into_one_form_where_permissions_look_at_them() {
    let web = || World::new(vec![link("web")]).at("web", &[("10.0.0.1", "passing")]);
    let contents = web().http("web").first();
    assert_eq!(http(&contents).normalization, PathNormalization::NONE);
    let mut world = web().http("web");
    world.intentions = json!([{"SourceName": "api", "DestinationName": "web",
        "Permissions": [{"Action": "allow", "HTTP": {"PathPrefix": "/a"}}]}]);
    let normalization = http(&world.first()).normalization;
    assert_eq!(normalization, PathNormalization::MESH_INBOUND);
}
