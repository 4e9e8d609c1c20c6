//! Certificates of Connect's CA on a real agent.

use std::time::SystemTime;

use consul::blocking::{Pacing, WatchEvent};

use crate::{
    agent::{Agent, shared},
    next, until,
};

#[tokio::test]
async fn leaf_belongs_to_the_trust_domain() {
    let client = shared().await;
    let roots = client.roots().once().await.unwrap().value;
    let leaf = client.leaf("certified").once().await.unwrap().value;
    let expected = format!(
        "spiffe://{}/ns/default/dc/dc1/svc/certified",
        roots.trust_domain
    );
    assert_eq!(
        (leaf.service.as_str(), leaf.service_uri.as_str()),
        ("certified", expected.as_str())
    );
    assert!(leaf.certificate_pem.contains("BEGIN CERTIFICATE"));
    assert!(leaf.private_key_pem.expose().contains("PRIVATE KEY"));
    let now = SystemTime::now();
    assert!(leaf.starts().unwrap() < now && leaf.expires().unwrap() > now);
    let root = roots
        .roots
        .iter()
        .find(|root| root.id == roots.active_root_id)
        .unwrap();
    assert!(root.active && root.expires().unwrap() > now);
    assert!(root.root_cert.contains("BEGIN CERTIFICATE"));
}

#[tokio::test]
async fn leaf_is_followed() {
    let client = shared().await;
    let mut leaf = client.leaf("followed").watch(Pacing::default());
    assert!(matches!(next(&mut leaf).await, WatchEvent::Changed { .. }));
    assert_eq!(leaf.last().unwrap().service, "followed");
}

#[tokio::test]
async fn rotation_of_the_root_is_seen_with_both_roots() {
    let agent = Agent::plain().await;
    let client = agent.client();
    let mut watch = client.roots().watch(Pacing::default());
    until(&mut watch, |roots| roots.roots.len() == 1).await;
    let before = watch.last().unwrap().active_root_id.clone();
    let mut configuration = client.ca_configuration().once().await.unwrap().value;
    configuration["Config"]["PrivateKeyBits"] = 384.into();
    client.set_ca_configuration(&configuration).await.unwrap();
    until(&mut watch, |roots| roots.active_root_id != before).await;
    let roots = watch.last().unwrap();
    let old = roots.roots.iter().find(|root| root.id == before).unwrap();
    assert!(roots.roots.len() == 2 && !old.active);
}
