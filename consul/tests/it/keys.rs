//! Keys, locks and sessions on a real agent.

use std::time::{Duration, Instant};

use consul::{
    blocking::Pacing,
    kv::{Delete, Put},
    session::SessionRequest,
};

use crate::{agent::shared, until};

#[tokio::test]
async fn key_is_written_under_a_condition() {
    let client = shared().await;
    let key = "cas/a key?";
    assert_eq!(client.kv(key).once().await.unwrap().value, None);
    assert!(client.kv_put(key, b"one", Put::IfIndex(0)).await.unwrap());
    assert!(!client.kv_put(key, b"two", Put::IfIndex(0)).await.unwrap());
    let pair = client.kv(key).once().await.unwrap().value.unwrap();
    assert_eq!(
        (pair.key.as_str(), pair.value.as_slice()),
        (key, &b"one"[..])
    );
    assert!(
        client
            .kv_put(key, b"", Put::IfIndex(pair.modify_index))
            .await
            .unwrap()
    );
    assert!(
        !client
            .kv_delete(key, Delete::IfIndex(pair.modify_index))
            .await
            .unwrap()
    );
    assert_eq!(
        client.kv(key).once().await.unwrap().value.unwrap().value,
        b""
    );
    assert!(client.kv_delete(key, Delete::Key).await.unwrap());
    assert_eq!(client.kv(key).once().await.unwrap().value, None);
}

#[tokio::test]
async fn keys_are_listed_and_deleted_by_prefix() {
    let client = shared().await;
    for key in ["list/a", "list/b/c", "listless"] {
        client.kv_put(key, b"x", Put::Always).await.unwrap();
    }
    let listed = client.kv_list("list/").once().await.unwrap().value;
    let keys: Vec<_> = listed.iter().map(|pair| pair.key.as_str()).collect();
    assert_eq!(keys, ["list/a", "list/b/c"]);
    assert!(client.kv_delete("list/", Delete::Prefix).await.unwrap());
    assert!(
        client
            .kv_list("list/")
            .once()
            .await
            .unwrap()
            .value
            .is_empty()
    );
    assert_eq!(
        client.kv_list("listless").once().await.unwrap().value.len(),
        1
    );
}

#[tokio::test]
async fn lock_belongs_to_one_session() {
    let client = shared().await;
    let request = SessionRequest {
        name: "lock test".to_owned(),
        ttl: Some(Duration::from_secs(10)),
        lock_delay: Some(Duration::from_millis(1)),
        ..SessionRequest::default()
    };
    let holder = client.create_session(&request).await.unwrap();
    let other = client.create_session(&request).await.unwrap();
    assert!(
        client
            .kv_put("lock", b"1", Put::Acquire(&holder))
            .await
            .unwrap()
    );
    assert!(
        !client
            .kv_put("lock", b"2", Put::Acquire(&other))
            .await
            .unwrap()
    );
    let pair = client.kv("lock").once().await.unwrap().value.unwrap();
    assert_eq!((pair.session.as_ref(), pair.lock_index), (Some(&holder), 1));
    let ttl = client.renew_session(&holder).await.unwrap();
    assert!(ttl >= request.ttl, "{ttl:?}");

    assert!(
        client
            .kv_put("lock", b"1", Put::Release(&holder))
            .await
            .unwrap()
    );
    assert!(
        client
            .kv_put("lock", b"2", Put::Acquire(&other))
            .await
            .unwrap()
    );
    let mut watch = client.kv("lock").watch(Pacing::default());
    until(&mut watch, |pair| {
        pair.as_ref()
            .is_some_and(|p| p.session == Some(other.clone()))
    })
    .await;
    client.destroy_session(&other).await.unwrap();
    client.destroy_session(&other).await.unwrap();
    until(&mut watch, |pair| {
        pair.as_ref().is_some_and(|p| p.session.is_none())
    })
    .await;
    assert!(
        client
            .renew_session(&other)
            .await
            .unwrap_err()
            .is_not_found()
    );
    client.destroy_session(&holder).await.unwrap();
}

#[tokio::test]
async fn quick_changes_are_seen_without_pauses() {
    let client = shared().await;
    let mut watch = client.kv("quick").watch(Pacing::default());
    let start = Instant::now();
    for round in 0..40_u8 {
        client.kv_put("quick", &[round], Put::Always).await.unwrap();
        until(&mut watch, |pair| {
            pair.as_ref().is_some_and(|p| p.value == [round])
        })
        .await;
    }
    // Consul's own numbers would need 38 pauses of 15 s.
    assert!(
        start.elapsed() < Duration::from_secs(10),
        "{:?}",
        start.elapsed()
    );
}
