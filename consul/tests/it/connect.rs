//! Certificates of Connect's CA on a real agent.

use std::time::SystemTime;

use consul::blocking::{Pacing, WatchEvent};

use crate::{agent::shared, next};

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
        (leaf.service.as_str(), leaf.service_uri),
        ("certified", expected)
    );
    assert!(leaf.certificate_pem.contains("BEGIN CERTIFICATE"));
    assert!(leaf.private_key_pem.expose().contains("PRIVATE KEY"));
    let expires = leaf.valid_before.clone();
    assert!(rfc3339_is_ahead(&expires), "{expires}");
    let root = roots
        .roots
        .iter()
        .find(|root| root.id == roots.active_root_id)
        .unwrap();
    assert!(root.active && root.expires().unwrap() > SystemTime::now());
    assert!(root.root_cert.contains("BEGIN CERTIFICATE"));
}

fn rfc3339_is_ahead(text: &str) -> bool {
    let leaf = consul::agent::Leaf {
        valid_before: text.to_owned(),
        ..Default::default()
    };
    leaf.expires().is_some_and(|at| at > SystemTime::now())
}

#[tokio::test]
async fn leaf_and_roots_can_be_followed() {
    let client = shared().await;
    let mut leaf = client.leaf("followed").watch(Pacing::default());
    assert!(matches!(next(&mut leaf).await, WatchEvent::Changed { .. }));
    let mut roots = client.roots().watch(Pacing::default());
    assert!(matches!(next(&mut roots).await, WatchEvent::Changed { .. }));
}
