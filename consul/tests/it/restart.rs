//! An agent that goes away and comes back with another state.

use consul::{
    blocking::{Pacing, WatchEvent},
    kv::Put,
};

use crate::{agent::Agent, next};

#[tokio::test]
async fn watch_reports_a_restart_and_reads_everything_again() {
    let mut agent = Agent::plain().await;
    let client = agent.client();
    for round in 0..20 {
        client.kv_put("other", &[round], Put::Always).await.unwrap();
    }
    client.kv_put("key", b"before", Put::Always).await.unwrap();
    let mut watch = client.kv("key").watch(Pacing::default());
    let WatchEvent::Changed { value, meta, .. } = next(&mut watch).await else {
        panic!()
    };
    assert_eq!(
        value.as_ref().as_ref().map(|pair| pair.value.as_slice()),
        Some(&b"before"[..])
    );
    let before = meta.index.unwrap();

    agent.stop();
    let WatchEvent::Failed { consecutive, error } = next(&mut watch).await else {
        panic!()
    };
    assert!(consecutive == 1 && error.is_retryable(), "{error:?}");

    // In development mode the new agent knows nothing of what the old one knew.
    agent.run();
    let index = loop {
        match next(&mut watch).await {
            WatchEvent::Failed { .. } => {}
            WatchEvent::Changed { value, meta, .. } => {
                assert_eq!(*value, None);
                break meta.index.unwrap();
            }
            WatchEvent::Recovered { .. } => panic!("the key should be gone"),
        }
    };
    assert!(index < before, "index {index} didn't go back from {before}");

    agent.ready(&client).await;
    client.kv_put("key", b"after", Put::Always).await.unwrap();
    crate::until(&mut watch, |pair| {
        pair.as_ref().is_some_and(|p| p.value == b"after")
    })
    .await;
}
