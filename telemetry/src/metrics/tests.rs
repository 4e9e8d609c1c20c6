//! The metrics as a scraper sees them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, UNIX_EPOCH};

use super::*;

const BUILD: BuildInfo = BuildInfo {
    program: "gateway",
    version: "1.2.3",
};

fn labels(route: &str) -> RouteLabels {
    RouteLabels {
        direction: Direction::Edge,
        listener: "public".into(),
        route: route.into(),
        cluster: "orders".into(),
    }
}

/// Uses every handle once, and keeps those that must be held to count.
fn exercise(metrics: &Metrics) -> Vec<Open> {
    let now = Instant::now();
    let route = metrics.route(&labels("cart"));
    route.finished(200, Duration::from_millis(3), 10, 20);
    let cluster = metrics.cluster("orders");
    cluster.responded(503, Duration::from_millis(1));
    cluster.failed(TryError::Reset, Duration::from_millis(1));
    cluster.retried(RetryReason::ConnectFailure);
    cluster.handshake(TlsResult::WrongIdentity);
    let listener = metrics.listener("public");
    listener.limit_reached();
    listener.received(5);
    listener.sent(7);
    listener.rejected(RejectReason::BadRequest);
    listener.over_rate(OverRate::Refused);
    listener.handshake(TlsResult::Expired);
    listener.verdict(Layer::L4, Verdict::Deny);
    metrics
        .identity("spiffe://a/b")
        .expires(UNIX_EPOCH + Duration::from_secs(99));
    metrics.source("consul").answered(now);
    metrics.watch("consul", "leaf").failed();
    metrics.snapshot().published(42, 1, now);
    metrics.access_log().dropped.inc();
    metrics.log_export().queue_full.inc();
    metrics.spans().queue_full.inc();
    vec![
        route.begin(),
        cluster.begin_try(),
        cluster.connected(),
        listener.accepted(),
    ]
}

fn render(metrics: &Metrics) -> String {
    metrics.render(Instant::now()).unwrap()
}

/// The value of a series as it stands in the text.
fn value<'t>(text: &'t str, series: &str) -> Option<&'t str> {
    text.lines()
        .find_map(|line| line.strip_prefix(series)?.strip_prefix(' '))
}

/// The names of the labels in each family's samples, without a histogram's own.
fn sampled_labels(text: &str) -> BTreeMap<String, BTreeSet<String>> {
    let mut families = BTreeMap::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (series, _) = line.rsplit_once(' ').unwrap();
        let (name, labels) = series.split_once('{').unwrap_or((series, ""));
        let names = labels
            .trim_end_matches('}')
            .split("\",")
            .filter_map(|pair| pair.split_once("=\""))
            .map(|(label, _)| label.to_owned())
            .filter(|label| label != "le")
            .collect();
        let previous = families.insert(name.to_owned(), names);
        assert!(previous.is_none_or(|previous| previous == families[name]));
    }
    families
}

#[test]
fn every_registered_family_stands_in_the_catalogue_and_vice_versa() {
    let metrics = Metrics::new(BUILD).unwrap();
    let held = exercise(&metrics);
    let text = render(&metrics);
    let typed: BTreeSet<(&str, &str)> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '))
        .collect();
    let promised: BTreeSet<(&str, &str)> = catalogue()
        .iter()
        .map(|doc| (doc.name, doc.kind.as_str()))
        .collect();
    assert_eq!(typed, promised);

    let sampled = sampled_labels(&text);
    for doc in catalogue() {
        let name = match doc.kind {
            MetricKind::Histogram => format!("{}_count", doc.name),
            MetricKind::Counter | MetricKind::Gauge => doc.name.to_owned(),
        };
        let promised: BTreeSet<String> = doc.labels.iter().map(|l| (*l).to_owned()).collect();
        assert_eq!(sampled[&name], promised, "{name}");
        assert!(text.contains(&format!("# HELP {} {}", doc.name, doc.help)));
    }
    drop(held);
}

#[test]
fn a_route_has_series_from_its_first_request_on() {
    let metrics = Metrics::new(BUILD).unwrap();
    let route = metrics.route(&labels("cart"));
    assert!(!render(&metrics).contains("cart"));
    let under_way = route.begin();
    let series = r#"{cluster="orders",direction="edge",listener="public",route="cart"} 1"#;
    assert!(render(&metrics).contains(&format!("meridian_http_server_active_requests{series}")));
    drop(under_way);
}

#[test]
fn names_follow_the_conventions() {
    for doc in catalogue() {
        assert!(doc.name.starts_with("meridian_"), "{}", doc.name);
        let total = doc.name.ends_with("_total");
        assert_eq!(total, doc.kind == MetricKind::Counter, "{}", doc.name);
        assert!(doc.help.ends_with('.'), "{}", doc.name);
    }
}

#[test]
fn counts_under_the_labels_that_were_given() {
    let metrics = Metrics::new(BUILD).unwrap();
    let held = exercise(&metrics);
    let text = render(&metrics);
    let route = r#"cluster="orders",direction="edge",listener="public",route="cart""#;
    let coded = r#"cluster="orders",direction="edge",http_response_status_code="200",listener="public",route="cart""#;
    let expected = [
        (format!("meridian_http_server_requests_total{{{coded}}}"), "1"),
        (format!("meridian_http_server_active_requests{{{route}}}"), "1"),
        (format!("meridian_http_server_request_body_size_bytes_sum{{{route}}}"), "10"),
        (format!("meridian_http_server_response_body_size_bytes_sum{{{route}}}"), "20"),
        (r#"meridian_http_client_errors_total{cluster="orders",error_type="reset"}"#.into(), "1"),
        (r#"meridian_tls_handshakes_total{cluster="",listener="public",result="expired",side="server"}"#.into(), "1"),
        (r#"meridian_tls_handshakes_total{cluster="orders",listener="",result="wrong_identity",side="client"}"#.into(), "1"),
        (r#"meridian_authorization_verdicts_total{layer="l4",listener="public",verdict="deny"}"#.into(), "1"),
        (r#"meridian_tcp_sent_bytes_total{listener="public"}"#.into(), "7"),
        (r#"meridian_certificate_expiry_timestamp_seconds{identity="spiffe://a/b"}"#.into(), "99"),
        (r#"meridian_source_connected{source="consul"}"#.into(), "1"),
        ("meridian_snapshot_generation".into(), "42"),
        (r#"meridian_build_info{program="gateway",version="1.2.3"}"#.into(), "1"),
    ];
    for (series, count) in &expected {
        assert_eq!(value(&text, series), Some(*count), "{series}\n{text}");
    }
    drop(held);
    let text = render(&metrics);
    for gauge in [
        format!("meridian_http_server_active_requests{{{route}}}"),
        r#"meridian_http_client_active_requests{cluster="orders"}"#.into(),
        r#"meridian_upstream_connections{cluster="orders"}"#.into(),
        r#"meridian_downstream_connections{listener="public"}"#.into(),
    ] {
        assert_eq!(value(&text, &gauge), Some("0"), "{gauge}");
    }
}

#[test]
fn removes_all_series_of_what_is_gone() {
    let metrics = Metrics::new(BUILD).unwrap();
    let open = exercise(&metrics);
    let kept = metrics.listener("kept");
    let (start, mut step) = (Instant::now(), 0);
    let mut scraped = || {
        step += 1;
        metrics.render(start + step * RETAIN_UNUSED).unwrap()
    };
    scraped();
    assert!(
        scraped().contains("public"),
        "removed while connections are open"
    );
    drop(open);
    assert!(
        scraped().contains("public"),
        "removed before it was scraped"
    );
    let text = scraped();
    for gone in ["public", "orders", "cart", "spiffe://a/b", "consul"] {
        assert!(!text.contains(gone), "{gone} in\n{text}");
    }
    let open = r#"meridian_downstream_connections{listener="kept"}"#;
    assert_eq!(value(&text, open), Some("0"));
    drop(kept);
}

#[test]
fn counts_under_other_what_is_too_much() {
    let metrics = Metrics::with_limit(BUILD, 2).unwrap();
    let held: Vec<_> = ["a", "b", "c", "d"]
        .map(|r| metrics.route(&labels(r)))
        .into();
    held.iter()
        .for_each(|route| route.finished(200, Duration::ZERO, 0, 0));
    let text = render(&metrics);
    let other = r#"meridian_http_server_requests_total{cluster="other",direction="edge",http_response_status_code="200",listener="other",route="other"}"#;
    assert_eq!(value(&text, other), Some("2"), "{text}");
    let overflow = r#"meridian_metrics_label_overflow_total{scope="route"}"#;
    assert_eq!(value(&text, overflow), Some("2"));
    assert!(!text.contains(r#"route="d""#));
}

#[test]
fn computes_ages_when_they_are_read() {
    let metrics = Metrics::new(BUILD).unwrap();
    let start = Instant::now();
    let source = metrics.source("consul");
    source.answered(start);
    source.lost();
    metrics.snapshot().published(1, 0, start);
    let text = metrics.render(start + Duration::from_secs(30)).unwrap();
    let staleness = r#"meridian_source_staleness_seconds{source="consul"}"#;
    assert_eq!(value(&text, staleness), Some("30"));
    assert_eq!(value(&text, "meridian_snapshot_age_seconds"), Some("30"));
    let connected = r#"meridian_source_connected{source="consul"}"#;
    assert_eq!(value(&text, connected), Some("0"));
    metrics
        .snapshot()
        .confirmed(start + Duration::from_secs(29));
    let text = metrics.render(start + Duration::from_secs(30)).unwrap();
    assert_eq!(value(&text, "meridian_snapshot_age_seconds"), Some("1"));
}

#[test]
fn escapes_label_values() {
    let metrics = Metrics::new(BUILD).unwrap();
    metrics
        .route(&labels("a\"b\\c\nd"))
        .finished(200, Duration::ZERO, 0, 0);
    assert!(render(&metrics).contains(r#"route="a\"b\\c\nd""#));
}
