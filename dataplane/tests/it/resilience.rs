//! Tries: when there is another, when time is up, and when none is left.

use crate::client::{self, Client};
use crate::http2_origin::{Call, Http2Origin};
use crate::origin::{Origin, nowhere, response};
use crate::proxy::Proxy;
use crate::shapes::{cluster, put_cluster, simple, simple_with};
use meridian_model::UpstreamProtocol::{Http1, Http2};
use meridian_model::policy::{RetryOn, RetryPolicy};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

fn on_gateway_errors(retries: u32) -> RetryPolicy {
    let on = RetryOn {
        gateway_error: true,
        ..RetryOn::default()
    };
    let mut policy = RetryPolicy::new(retries, on);
    policy.backoff = Duration::from_millis(1);
    policy
}

/// Answers 503 so many times, then 200.
async fn flaky(times: usize) -> Origin {
    let left = AtomicUsize::new(times);
    Origin::answering(move |_| {
        let failed = left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
        match failed {
            Ok(_) => response(503, "busy"),
            Err(_) => response(200, "ok"),
        }
    })
    .await
}

#[tokio::test]
async fn statuses_of_the_policy_are_tried_again() {
    let origin = flaky(2).await;
    let with_policy = |action: &mut meridian_model::RouteAction| {
        action.retry = Some(on_gateway_errors(3));
    };
    let proxy = Proxy::start(simple_with(Http1, origin.address, with_policy)).await;
    let mut client = Client::connect(proxy.address("in")).await;
    assert_eq!(client.get("/").await.text(), "ok");
    assert_eq!(origin.seen().len(), 3);
    assert_eq!(proxy.metric(&["retries_total", "\"status\""]), 2.0);
    proxy
        .metric_becomes(&["client_requests_total", "\"503\""], 2.0)
        .await;
}

#[tokio::test]
async fn the_last_answer_is_passed_on_and_posts_are_not_replayed() {
    let origin = flaky(100).await;
    let with_policy = |action: &mut meridian_model::RouteAction| {
        action.retry = Some(on_gateway_errors(2));
    };
    let proxy = Proxy::start(simple_with(Http1, origin.address, with_policy)).await;
    let mut client = Client::connect(proxy.address("in")).await;
    let answer = client.get("/").await;
    assert_eq!((answer.status, answer.text().as_str()), (503, "busy"));
    assert_eq!(origin.seen().len(), 3);
    client
        .send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi")
        .await;
    assert_eq!(client.response().await.status, 503);
    assert_eq!(origin.seen().len(), 4);
    // A body is sent again with the request that is tried again.
    client
        .send("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi")
        .await;
    assert_eq!(client.response().await.status, 503);
    let seen = origin.seen();
    assert_eq!(seen.len(), 7);
    assert!(seen[4..].iter().all(|seen| seen.body == b"hi"));
}

/// Answers the first request of each connection, and closes when it reads a second one.
async fn forgetful() -> Origin {
    Origin::serving(|mut incoming| async move {
        incoming.request().await;
        incoming.write(response(200, "ok")).await;
        incoming.head().await;
    })
    .await
}

#[tokio::test]
async fn a_kept_connection_that_closes_under_a_get_is_replaced_once() {
    let origin = forgetful().await;
    let proxy = Proxy::start(simple(Http1, origin.address)).await;
    let mut client = Client::connect(proxy.address("in")).await;
    for _ in 0..5 {
        assert_eq!(client.get("/").await.status, 200);
    }
    assert_eq!(origin.connections(), 5);
    assert_eq!(proxy.metric(&["retries_total", "\"reset\""]), 4.0);
    // A POST may have been acted upon.
    client
        .send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi")
        .await;
    assert_eq!(client.response().await.status, 503);
    assert_eq!(origin.connections(), 5);
}

#[tokio::test]
async fn a_connection_that_was_closed_while_idle_is_not_used() {
    let origin = Origin::serving(|mut incoming| async move {
        incoming.request().await;
        incoming.write(response(200, "ok")).await;
    })
    .await;
    let proxy = Proxy::start(simple(Http1, origin.address)).await;
    let mut client = Client::connect(proxy.address("in")).await;
    for count in 1..=3 {
        client
            .send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi")
            .await;
        assert_eq!(client.response().await.status, 200);
        origin.has_closed(count).await;
    }
    assert_eq!(proxy.metric(&["retries_total"]), 0.0);
}

#[tokio::test]
async fn a_request_has_its_time_and_so_has_each_try() {
    let origin = Origin::silent().await;
    for per_try in [false, true] {
        let with_timeout = |action: &mut meridian_model::RouteAction| {
            let limit = Some(Duration::from_millis(150));
            match per_try {
                true => action.timeouts.per_try = limit,
                false => action.timeouts.request = limit,
            }
        };
        let proxy = Proxy::start(simple_with(Http1, origin.address, with_timeout)).await;
        let mut client = Client::connect(proxy.address("in")).await;
        let began = Instant::now();
        let answer = client.get("/").await;
        assert_eq!(answer.status, 504);
        assert_eq!(answer.text(), "upstream request timeout");
        let took = began.elapsed();
        assert!(took >= Duration::from_millis(140) && took < Duration::from_secs(1));
        // The connection to the client is none the worse for it.
        assert_eq!(client.get("/").await.status, 504);
        proxy
            .metric_becomes(&["client_errors_total", "\"timeout\""], 2.0)
            .await;
    }
    origin.has_closed(4).await;
}

#[tokio::test]
async fn a_try_that_takes_too_long_may_be_followed_by_another() {
    let origin = Origin::serving(|mut incoming| async move {
        while incoming.request().await.is_some() {
            if incoming.number > 0 {
                incoming.write(response(200, "second")).await;
            }
        }
    })
    .await;
    let with_policy = |action: &mut meridian_model::RouteAction| {
        action.timeouts.per_try = Some(Duration::from_millis(100));
        action.retry = Some(on_gateway_errors(1));
    };
    let proxy = Proxy::start(simple_with(Http1, origin.address, with_policy)).await;
    assert_eq!(client::get(proxy.address("in"), "/").await.text(), "second");
    assert_eq!(proxy.metric(&["retries_total", "\"timeout\""]), 1.0);
}

#[tokio::test]
async fn without_an_endpoint_there_is_an_error_at_once() {
    let mut plan = simple(Http1, nowhere().await);
    put_cluster(&mut plan, cluster("origin", Http1, &[]));
    let proxy = Proxy::start(plan).await;
    let answer = client::get(proxy.address("in"), "/").await;
    assert_eq!(answer.status, 503);
    assert_eq!(answer.text(), "no healthy upstream");
    assert_eq!(answer.header("retry-after"), Some("1"));
    let refused = nowhere().await;
    proxy
        .change(|s| put_cluster(s, cluster("origin", Http1, &[refused])))
        .await;
    let answer = client::get(proxy.address("in"), "/").await;
    assert_eq!(answer.status, 503);
    assert!(answer.text().contains("remote connection failure"));
}

#[tokio::test]
async fn an_answer_that_is_no_http_is_a_bad_gateway() {
    let origin = Origin::serving(|mut incoming| async move {
        incoming.request().await;
        incoming.write("220 smtp.test ESMTP\r\n\r\n").await;
    })
    .await;
    let proxy = Proxy::start(simple(Http1, origin.address)).await;
    let answer = client::get(proxy.address("in"), "/").await;
    assert_eq!(answer.status, 502);
    assert!(answer.text().ends_with("reset reason: protocol error"));
}

/// What a server that drains says to streams that crossed its GOAWAY (RFC 9113, 8.7): nothing was
/// done, so that even a POST may be sent again.
#[tokio::test]
async fn a_stream_that_was_refused_unseen_is_sent_again_once() {
    for (refusals, status) in [(1, 200), (2, 503)] {
        let left = Arc::new(AtomicUsize::new(refusals));
        let origin = Http2Origin::serving(move |mut call: Call| {
            let left = Arc::clone(&left);
            async move {
                let refused = left
                    .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1))
                    .is_ok();
                match refused {
                    true => call.respond.send_reset(h2::Reason::REFUSED_STREAM),
                    false => {
                        let body = call.body().await;
                        call.answer(&String::from_utf8(body).unwrap());
                    }
                }
            }
        })
        .await;
        let proxy = Proxy::start(simple(Http2, origin.address)).await;
        let mut client = Client::connect(proxy.address("in")).await;
        client
            .send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi")
            .await;
        let answer = client.response().await;
        assert_eq!(answer.status, status);
        if status == 200 {
            assert_eq!(answer.text(), "hi");
        }
        assert_eq!(proxy.metric(&["retries_total", "\"refused_stream\""]), 1.0);
    }
}
