//! Configuration entries, and the chains and intentions that come of them, on a real agent.

use std::time::Duration;

use consul::{
    agent::MeshGateway,
    blocking::Pacing,
    chain::{ChainOverrides, Node, TimeLimit},
    intention::Action,
};
use serde_json::{Value, json};

use crate::{agent::shared, until};

#[tokio::test]
async fn entry_is_written_under_a_condition_and_followed() {
    let client = shared().await;
    let entry = |protocol: &str| json!({ "Kind": "service-defaults", "Name": "entry-cas", "Protocol": protocol });
    let query = client.service_defaults("entry-cas");
    let mut watch = query.clone().watch(Pacing::default());
    until(&mut watch, Option::is_none).await;

    assert!(
        client
            .write_config_entry_if(&entry("http"), 0)
            .await
            .unwrap()
    );
    assert!(
        !client
            .write_config_entry_if(&entry("grpc"), 0)
            .await
            .unwrap()
    );
    until(&mut watch, |e| {
        e.as_ref().is_some_and(|e| e.protocol == "http")
    })
    .await;
    let read = query.once().await.unwrap().value.unwrap();
    assert!(
        client
            .write_config_entry_if(&entry("grpc"), read.modify_index)
            .await
            .unwrap()
    );
    until(&mut watch, |e| {
        e.as_ref().is_some_and(|e| e.protocol == "grpc")
    })
    .await;

    let listed = client
        .config_entries("service-defaults")
        .once()
        .await
        .unwrap()
        .value;
    assert!(listed.iter().any(|entry| entry["Name"] == "entry-cas"));
    let raw = client
        .config_entry("service-defaults", "entry-cas")
        .once()
        .await
        .unwrap()
        .value;
    assert_eq!(raw.unwrap()["Protocol"], "grpc");

    let deleted = |index| client.delete_config_entry_if("service-defaults", "entry-cas", index);
    assert!(!deleted(read.modify_index).await.unwrap());
    client
        .delete_config_entry("service-defaults", "entry-cas")
        .await
        .unwrap();
    client
        .delete_config_entry("service-defaults", "entry-cas")
        .await
        .unwrap();
    until(&mut watch, Option::is_none).await;
}

#[tokio::test]
async fn mesh_entry_is_read() {
    let client = shared().await;
    assert_eq!(client.mesh_entry().once().await.unwrap().value, None);
    let entry = json!({
        "Kind": "mesh",
        "TLS": { "Incoming": { "TLSMinVersion": "TLSv1_3" } },
        "HTTP": { "SanitizeXForwardedClientCert": true },
    });
    client.write_config_entry(&entry).await.unwrap();
    let read = client.mesh_entry().once().await.unwrap().value.unwrap();
    assert_eq!(read.tls.incoming.min_version, "TLSv1_3");
    assert!(read.http.sanitize_x_forwarded_client_cert);
    client.delete_config_entry("mesh", "mesh").await.unwrap();
}

#[tokio::test]
async fn refused_entry_says_why() {
    let client = shared().await;
    let entry = json!({ "Kind": "service-defaults", "Name": "refused", "Protocol": 7 });
    let error = client.write_config_entry(&entry).await.unwrap_err();
    // 500, although it is the writer's fault.
    assert_eq!(error.status().map(|s| s.as_u16()), Some(500));
    assert!(
        error.to_string().contains("invalid value for protocol"),
        "{error}"
    );
}

#[tokio::test]
async fn intentions_are_matched_with_permissions_and_jwt() {
    let client = shared().await;
    let provider = json!({
        "Kind": "jwt-provider", "Name": "issuer", "Issuer": "test",
        "JSONWebKeySet": { "Local": { "JWKS": "eyJrZXlzIjogW119" } },
    });
    client.write_config_entry(&provider).await.unwrap();
    write_http_defaults(&client, "guarded").await;
    let mut watch = client.intentions_to("guarded").watch(Pacing::default());
    until(&mut watch, |found| {
        found.to("guarded").is_some_and(<[_]>::is_empty)
    })
    .await;

    let jwt = json!({ "Providers": [{ "Name": "issuer",
        "VerifyClaims": [{ "Path": ["role"], "Value": "admin" }] }] });
    let entry = json!({
        "Kind": "service-intentions", "Name": "guarded",
        "JWT": { "Providers": [{ "Name": "issuer" }] },
        "Sources": [
            { "Name": "*", "Action": "deny", "Description": "everyone else" },
            { "Name": "friend", "Permissions": [
                { "Action": "allow", "JWT": jwt, "HTTP": { "PathPrefix": "/admin",
                    "Methods": ["GET"], "Header": [
                        { "Name": "x-a", "Exact": "b", "Invert": true },
                        { "Name": "x-c", "Contains": "d", "IgnoreCase": true }] } },
                { "Action": "deny", "HTTP": { "PathRegex": "/.*" } }] },
        ],
    });
    client.write_config_entry(&entry).await.unwrap();
    until(&mut watch, |found| {
        found.to("guarded").is_some_and(|list| list.len() == 2)
    })
    .await;
    let found = watch.last().unwrap().to("guarded").unwrap();
    assert!(
        found
            .iter()
            .all(consul::intention::Intention::is_understood),
        "{found:?}"
    );
    assert_eq!(
        (found[0].source_name.as_str(), found[0].precedence),
        ("friend", 9)
    );
    assert_eq!(
        (found[1].source_name.as_str(), found[1].action),
        ("*", Some(Action::Deny))
    );
    assert_eq!(found[0].action, None);
    let permission = &found[0].permissions[0];
    assert_eq!(permission.action, Some(Action::Allow));
    assert_eq!(permission.http.as_ref().unwrap().path_prefix, "/admin");
    let header = &permission.http.as_ref().unwrap().header;
    assert!(header[0].invert && header[1].ignore_case && header[1].contains == "d");
    let claims = &permission.jwt.as_ref().unwrap().providers[0].verify_claims;
    assert_eq!(
        (claims[0].path[0].as_str(), claims[0].value.as_str()),
        ("role", "admin")
    );
    assert_eq!(found[0].jwt.as_ref().unwrap().providers[0].name, "issuer");

    let check = client
        .intention_check("stranger", "guarded")
        .once()
        .await
        .unwrap()
        .value;
    assert!(!check.allowed);
}

#[tokio::test]
async fn chain_of_router_splitter_and_resolver_is_read() {
    let client = shared().await;
    for service in ["routed", "routed-next"] {
        write_http_defaults(&client, service).await;
    }
    for entry in routed() {
        client.write_config_entry(&entry).await.unwrap();
    }
    let query = client.discovery_chain("routed", &ChainOverrides::default());
    let chain = query.once().await.unwrap().value;
    let Some(Node::Router(router)) = chain.start() else {
        panic!("{chain:?}")
    };
    let route = &router.routes[0];
    let matches = route.definition.matches.as_ref().unwrap();
    let http = matches.http.as_ref().unwrap();
    assert_eq!(
        (http.path_prefix.as_str(), http.query_param[0].name.as_str()),
        ("/a", "q")
    );
    let destination = route.definition.destination.as_ref().unwrap();
    assert_eq!(
        destination.request_timeout,
        TimeLimit::After(Duration::from_secs(3))
    );
    assert_eq!(destination.request_headers.add["x-a"], "b");
    let unknown = [&http.unknown, &matches.unknown, &destination.unknown];
    assert!(unknown.iter().all(|keys| keys.is_empty()), "{unknown:?}");

    let splitter = &chain.nodes[&router.routes[1].next_node];
    let Node::Splitter(splitter) = splitter else {
        panic!("{splitter:?}")
    };
    assert_eq!(
        (splitter.splits[0].weight, splitter.splits[1].weight),
        (90.5, 9.5)
    );
    let resolver = &chain.nodes[&splitter.splits[0].next_node];
    let Node::Resolver(resolver) = resolver else {
        panic!("{resolver:?}")
    };
    assert_eq!(
        resolver.request_timeout,
        TimeLimit::After(Duration::from_secs(7))
    );
    assert_eq!(resolver.connect_timeout, Some(Duration::from_secs(5)));
    let balancer = resolver.load_balancer.as_ref().unwrap();
    let cookie = balancer.hash_policies[0].cookie_config.as_ref().unwrap();
    assert_eq!(cookie.ttl, Some(Duration::from_secs(3)));
    let target = &chain.targets[&resolver.target];
    assert_eq!(target.subset.filter, "Service.Meta.v == 1");
    assert!(
        target.sni.starts_with("v1.routed.default.dc1.internal."),
        "{}",
        target.sni
    );
    let failover = resolver.failover.as_ref().unwrap();
    assert_eq!(chain.targets[&failover.targets[0]].datacenter, "dc2");
}

#[tokio::test]
async fn chain_overrides_are_sent() {
    let client = shared().await;
    let overrides = ChainOverrides {
        protocol: Some("http".to_owned()),
        connect_timeout: Some(Duration::from_millis(1_500)),
        mesh_gateway: MeshGateway {
            mode: "local".to_owned(),
        },
        ..ChainOverrides::default()
    };
    let query = client.discovery_chain("overridden", &overrides);
    let mut watch = query.watch(Pacing::default());
    until(&mut watch, |chain| {
        chain.protocol == "http" && !chain.customization_hash.is_empty()
    })
    .await;
    let chain = watch.last().unwrap().clone();
    let target = chain.targets.values().next().unwrap();
    assert_eq!(target.connect_timeout, Some(Duration::from_millis(1_500)));
    assert_eq!(target.mesh_gateway.mode, "local");
    // The watch also blocks and wakes when it is a POST.
    let resolver = json!({
        "Kind": "service-resolver", "Name": "overridden",
        "Redirect": { "Service": "elsewhere" },
    });
    client.write_config_entry(&resolver).await.unwrap();
    until(&mut watch, |chain| {
        chain.targets.values().any(|t| t.service == "elsewhere")
    })
    .await;
}

async fn write_http_defaults(client: &consul::Client, service: &str) {
    let entry = json!({ "Kind": "service-defaults", "Name": service, "Protocol": "http" });
    client.write_config_entry(&entry).await.unwrap();
}

fn routed() -> [Value; 3] {
    [
        json!({
            "Kind": "service-resolver", "Name": "routed",
            "Subsets": { "v1": { "Filter": "Service.Meta.v == 1" } },
            "RequestTimeout": "7s",
            "LoadBalancer": { "Policy": "ring_hash", "HashPolicies": [
                { "Field": "cookie", "FieldValue": "c", "CookieConfig": { "TTL": "3s" } }] },
            "Failover": { "*": { "Datacenters": ["dc2"] } },
        }),
        json!({
            "Kind": "service-splitter", "Name": "routed",
            "Splits": [
                { "Weight": 90.5, "ServiceSubset": "v1" },
                { "Weight": 9.5, "Service": "routed-next" },
            ],
        }),
        json!({
            "Kind": "service-router", "Name": "routed",
            "Routes": [{
                "Match": { "HTTP": { "PathPrefix": "/a", "QueryParam": [
                    { "Name": "q", "Exact": "1" }], "Header": [{ "Name": "h", "Present": true }] } },
                "Destination": { "Service": "routed-next", "RequestTimeout": "3s",
                    "NumRetries": 2, "RetryOnStatusCodes": [503],
                    "RequestHeaders": { "Add": { "x-a": "b" } } },
            }],
        }),
    ]
}
