//! `docs/metrics.md` is written from the catalogue of metrics, and must agree with it.

use meridian_telemetry::metrics::{MetricDoc, catalogue};
use std::fmt::Write;
use std::path::Path;

const HEAD: &str = "\
# Metrics

`GET /metrics` of the admin listener answers in the Prometheus text format.
Names follow the OpenTelemetry conventions for HTTP, with `meridian_` in front.
Labels are bounded: past the bound of its scope, a series is counted under `other`, and `meridian_metrics_label_overflow_total` says how often.

This page is generated from the code; `UPDATE=1 cargo test -p meridian metrics_page` writes it anew.

| metric | kind | labels | meaning |
|---|---|---|---|
";

fn page() -> String {
    let mut page = HEAD.to_owned();
    for MetricDoc {
        name,
        kind,
        labels,
        help,
    } in catalogue()
    {
        let labels: Vec<_> = labels.iter().map(|label| format!("`{label}`")).collect();
        let (kind, labels) = (kind.as_str(), labels.join(", "));
        writeln!(page, "| `{name}` | {kind} | {labels} | {help} |").unwrap();
    }
    page
}

#[test]
fn the_page_says_what_the_catalogue_says() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/metrics.md");
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, page()).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == page(),
        "docs/metrics.md is out of date; run: UPDATE=1 cargo test -p meridian metrics_page"
    );
}
