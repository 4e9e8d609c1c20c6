//! Rules of blocking queries, and errors, against the scripted server.

use std::time::{Duration, Instant};

use consul::{
    Error, Limits, Query,
    blocking::{Backoff, Pacing, Watch, WatchEvent},
};

use crate::{
    next,
    scripted::{Scripted, Step},
};

/// Pauses short enough for tests.
fn quick() -> Pacing {
    let backoff = Backoff {
        first: Duration::from_millis(10),
        most: Duration::from_millis(40),
    };
    Pacing {
        backoff,
        ..Pacing::default()
    }
}

fn small() -> Limits {
    Limits {
        request: Duration::from_millis(200),
        response_body: 1024,
        ..Limits::default()
    }
}

fn query(server: &Scripted, limits: Limits) -> Query<Vec<String>> {
    server.client(limits).datacenters()
}

async fn changed(watch: &mut Watch<Vec<String>>) -> Vec<String> {
    match next(watch).await {
        WatchEvent::Changed { value, .. } => (*value).clone(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn watch_passes_the_index_on_and_keeps_unchanged_answers_to_itself() {
    let steps = [
        Step::Value(7, r#"["a"]"#),
        Step::Value(8, r#"[ "a" ]"#),
        Step::Value(9, r#"["b"]"#),
    ];
    let server = Scripted::start(steps).await;
    let mut watch = query(&server, Limits::default()).watch(quick());
    assert_eq!(changed(&mut watch).await, ["a"]);
    assert_eq!(changed(&mut watch).await, ["b"]);
    let targets = server.targets();
    assert_eq!(targets[0], "/v1/catalog/datacenters");
    assert!(targets[1].contains("index=7&wait=") && targets[2].contains("index=8&wait="));
}

#[tokio::test]
async fn index_going_backwards_asks_from_scratch() {
    let steps = [
        Step::Value(7, r#"["a"]"#),
        Step::Value(3, r#"["b"]"#),
        Step::Value(3, r#"["c"]"#),
        Step::Value(4, r#"["d"]"#),
    ];
    let server = Scripted::start(steps).await;
    let mut watch = query(&server, Limits::default()).watch(quick());
    for expected in ["a", "b", "c", "d"] {
        assert_eq!(changed(&mut watch).await, [expected]);
    }
    let targets = server.targets();
    assert!(targets[1].contains("index=7"));
    assert!(!targets[2].contains("index="), "{}", targets[2]);
    assert!(targets[3].contains("index=3"));
}

#[tokio::test]
async fn index_zero_becomes_one() {
    let server = Scripted::start([Step::Value(0, r#"["a"]"#), Step::Value(0, r#"["b"]"#)]).await;
    let mut watch = query(&server, Limits::default()).watch(quick());
    assert_eq!(changed(&mut watch).await, ["a"]);
    assert_eq!(changed(&mut watch).await, ["b"]);
    assert!(server.targets()[1].contains("index=1&"));
}

#[tokio::test]
async fn failures_are_counted_and_followed_by_a_full_read() {
    let steps = [
        Step::Value(7, r#"["a"]"#),
        Step::Status(500, "No cluster leader"),
        Step::Status(429, "rate limit reached"),
        Step::Truncated,
        Step::Value(7, r#"["a"]"#),
        Step::Value(8, r#"["b"]"#),
    ];
    let server = Scripted::start(steps).await;
    let mut watch = query(&server, Limits::default()).watch(quick());
    assert_eq!(changed(&mut watch).await, ["a"]);
    for expected in 1..=3 {
        let WatchEvent::Failed { error, consecutive } = next(&mut watch).await else {
            panic!("failure {expected} wasn't reported");
        };
        assert_eq!(consecutive, expected);
        assert!(error.is_retryable(), "{error:?}");
    }
    assert!(matches!(
        next(&mut watch).await,
        WatchEvent::Recovered { .. }
    ));
    assert_eq!(changed(&mut watch).await, ["b"]);
    let targets = server.targets();
    assert!(targets[1].contains("index=7"));
    assert!(
        targets[2..5]
            .iter()
            .all(|target| !target.contains("index=")),
        "{targets:?}"
    );
}

#[tokio::test]
async fn blocking_query_outlasts_the_wait_and_its_jitter() {
    let server = Scripted::start([Step::Value(7, r#"["a"]"#), Step::Hang]).await;
    let pacing = Pacing {
        wait: Duration::from_millis(320),
        ..quick()
    };
    let mut watch = query(&server, small()).watch(pacing);
    changed(&mut watch).await;
    let start = Instant::now();
    let WatchEvent::Failed {
        error: Error::Timeout { .. },
        ..
    } = next(&mut watch).await
    else {
        panic!("a hanging agent must time out");
    };
    // The client's own jitter takes off up to a 16th; the request's time comes on top.
    let shortest = (pacing.wait - pacing.wait / 16) * 17 / 16 + small().request;
    assert!(start.elapsed() >= shortest, "{:?}", start.elapsed());
}

#[tokio::test]
async fn cancelled_next_goes_on_with_the_same_query() {
    let server = Scripted::start([Step::Slow(Duration::from_millis(300), r#"["a"]"#)]).await;
    let mut watch = query(&server, Limits::default()).watch(quick());
    let brief = Duration::from_millis(20);
    for _ in 0..5 {
        assert!(tokio::time::timeout(brief, watch.next()).await.is_err());
    }
    assert_eq!(changed(&mut watch).await, ["a"]);
    assert_eq!(server.seen().len(), 1);
}

#[tokio::test]
async fn status_is_kept_with_index_and_excerpt() {
    let long: &'static str = Box::leak("x".repeat(5_000).into_boxed_str());
    let server =
        Scripted::start([Step::Status(429, "slow\ndown\n"), Step::Status(500, long)]).await;
    let query = query(&server, Limits::default());
    let error = query.once().await.unwrap_err();
    assert_eq!(error.status().map(|s| s.as_u16()), Some(429));
    assert_eq!(error.index(), Some(9));
    let expected = "cannot list datacenters (/v1/catalog/datacenters): status 429: slow down";
    assert_eq!(error.to_string(), expected);
    let Error::Status { excerpt, .. } = query.once().await.unwrap_err() else {
        panic!()
    };
    assert_eq!(excerpt.len(), Error::EXCERPT);
}

#[tokio::test]
async fn broken_answers_are_told_apart() {
    let steps = [
        Step::Truncated,
        Step::Hang,
        Step::Endless(2_000),
        Step::Value(1, r#"{"not": "a list"}"#),
        Step::Value(1, "<html>"),
    ];
    let server = Scripted::start(steps).await;
    let query = query(&server, small());
    assert!(matches!(query.once().await, Err(Error::Interrupted { .. })));
    assert!(matches!(query.once().await, Err(Error::Timeout { .. })));
    assert!(matches!(
        query.once().await,
        Err(Error::TooLarge { limit: 1024, .. })
    ));
    assert!(matches!(query.once().await, Err(Error::Decode { .. })));
    assert!(matches!(query.once().await, Err(Error::Decode { .. })));
    drop(server);
    assert!(matches!(query.once().await, Err(Error::Unreachable { .. })));
}

#[tokio::test]
async fn announced_oversize_is_refused_before_it_is_read() {
    let body: &'static str = Box::leak(" ".repeat(2_000).into_boxed_str());
    let server = Scripted::start([Step::Value(1, body)]).await;
    let error = query(&server, small()).once().await.unwrap_err();
    assert!(matches!(error, Error::TooLarge { .. }) && !error.is_retryable());
}

#[tokio::test]
async fn parameters_are_sent() {
    let server = Scripted::start([Step::Value(1, "[]")]).await;
    let client = server.client(Limits::default());
    let query = client.health_connect("web");
    let query = query
        .datacenter("dc2")
        .namespace("n")
        .partition("p")
        .peer("far")
        .passing();
    let query = query.filter("Service.Meta.v == 1").near("_agent").cached();
    let query = query
        .merge_central_config()
        .consistency(consul::Consistency::Stale);
    query.once().await.unwrap();
    let target = server.targets().remove(0);
    let expected = "/v1/health/connect/web?dc=dc2&ns=n&partition=p&peer=far&passing=true\
                    &filter=Service.Meta.v+%3D%3D+1&near=_agent&cached=&merge-central-config=&stale=";
    assert_eq!(target, expected);
}
