//! Targets in other datacenters, and the gateways before them.

use super::*;

#[test]
fn remote_targets_are_called_through_mesh_gateways_while_an_instance_lives() {
    let gateway = |id: &str, datacenter: &str| -> ServiceEntry {
        serde_json::from_value(json!({
            "Node": {"Address": "10.0.0.9", "Datacenter": datacenter},
            "Service": {"ID": id, "Port": 8443, "TaggedAddresses": {
                "wan": {"Address": "1.2.3.4", "Port": 443}}},
        }))
        .unwrap()
    };
    let called = |mode: &str, datacenter: &str, check: &str| {
        let mut chain = chain("tcp", "resolver:api", json!({}));
        let target = chain.targets.get_mut("api.id").unwrap();
        target.mesh_gateway.mode = mode.to_owned();
        target.datacenter = datacenter.to_owned();
        let answers = Answers(BTreeMap::from([
            ("api", Ok(vec![instance("api-1", check)])),
            ("db", Ok(Vec::new())),
            ("gateways dc1", Ok(vec![gateway("near", "dc1")])),
            ("gateways dc2", Ok(vec![gateway("far", "dc2")])),
        ]));
        let needed = gateway_datacenters(&chain, "dc1");
        let expected: &[&str] = match (mode, datacenter) {
            ("local", "dc2") => &["dc1"],
            ("remote", "dc2") => &["dc2"],
            _ => &[],
        };
        assert!(needed.iter().eq(expected), "{needed:?}");
        let made = translated_with(&chain, &answers).unwrap();
        assert_eq!(made.rejected, []);
        let target = Arc::clone(&made.clusters[0].targets[0]);
        let Transport::Mesh(mesh) = &target.transport else {
            panic!("{target:?}")
        };
        assert_eq!(&*mesh.sni, "api.sni", "the target's own, end to end");
        let endpoint = &target.endpoints[0];
        (endpoint.address.to_string(), endpoint.health)
    };
    let cases = [
        ("local", "dc2", "passing", "10.0.0.9:8443", Health::Healthy),
        ("remote", "dc2", "passing", "1.2.3.4:443", Health::Healthy),
        (
            "remote",
            "dc2",
            "critical",
            "1.2.3.4:443",
            Health::Unhealthy,
        ),
        ("none", "dc2", "passing", "10.0.0.1:20000", Health::Healthy),
        ("local", "dc1", "passing", "10.0.0.1:20000", Health::Healthy),
    ];
    for (mode, datacenter, check, address, health) in cases {
        let expected = (address.to_owned(), health);
        assert_eq!(
            called(mode, datacenter, check),
            expected,
            "{mode} {datacenter}"
        );
    }
}

#[test]
fn gateways_that_cannot_be_listed_are_named_and_waited_for_before() {
    let mut chain = chain("tcp", "resolver:api", json!({}));
    let target = chain.targets.get_mut("api.id").unwrap();
    target.mesh_gateway.mode = "remote".to_owned();
    target.datacenter = "dc2".to_owned();
    let mut known = answers();
    assert_eq!(translated_with(&chain, &known), None, "not asked for yet");
    known.0.insert("gateways dc2", Err("forbidden".to_owned()));
    let made = translated_with(&chain, &known).unwrap();
    assert!(made.clusters[0].targets[0].endpoints.is_empty());
    let reason = &made.rejected[0].reason;
    assert!(
        reason.contains("dc2") && reason.contains("forbidden"),
        "{reason}"
    );
}

#[test]
fn queries_name_only_what_is_not_the_default() {
    let mut chain = chain("tcp", "resolver:api", json!({}));
    let target = chain.targets.get_mut("db.id").unwrap();
    target.datacenter = "dc2".to_owned();
    target.namespace = "billing".to_owned();
    target.subset.filter = "Service.Meta.v == 1".to_owned();
    let plain = |service: &str| InstancesQuery {
        service: service.to_owned(),
        mesh: true,
        datacenter: None,
        namespace: None,
        partition: None,
        filter: None,
    };
    let far = InstancesQuery {
        datacenter: Some("dc2".to_owned()),
        namespace: Some("billing".to_owned()),
        filter: Some("Service.Meta.v == 1".to_owned()),
        ..plain("db")
    };
    assert_eq!(needs(&chain, "dc1"), [plain("api"), far]);
}
