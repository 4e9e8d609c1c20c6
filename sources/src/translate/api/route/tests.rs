//! Hosts and order of rules.

use super::words::destination;
use super::*;
use serde_json::json;

fn route(json: serde_json::Value) -> HttpRouteEntry {
    serde_json::from_value(json).unwrap()
}

#[test]
fn hosts_are_those_of_both() {
    let cases: [(&str, &[&str], &[&str]); 7] = [
        ("", &[], &["*"]),
        ("", &["a.test"], &["a.test"]),
        ("*.test", &[], &["*.test"]),
        ("*.test", &["A.test", "a.other"], &["a.test"]),
        ("a.test", &["a.test", "b.test"], &["a.test"]),
        ("a.test", &["b.test"], &[]),
        ("*.a.test", &["a.test", "b.test"], &["a.test"]),
    ];
    for (listener, written, expected) in cases {
        let written: Vec<_> = written.iter().map(|host| (*host).to_owned()).collect();
        assert_eq!(
            hostnames(listener, &written),
            expected,
            "{listener} {written:?}"
        );
    }
}

#[test]
fn the_longer_path_goes_first_then_more_conditions() {
    let path = |kind: &str, value: &str| json!({"Path": {"Match": kind, "Value": value}});
    let header = json!({"Headers": [{"Match": "present", "Name": "x"}]});
    let query = json!({"Query": [{"Match": "present", "Name": "x"}]});
    let routes = [
        (
            "a",
            route(json!({"Rules": [{}, {"Matches": [{"Method": "GET"}]}]})),
        ),
        (
            "b",
            route(json!({"Rules": [
                {"Matches": [path("exact", "/ab"), path("prefix", "/abc")]},
                {"Matches": [query]},
                {"Matches": [header]},
            ]})),
        ),
    ];
    let hosts = by_host("", &routes);
    let order: Vec<_> = hosts["*"].iter().map(|one| one.name.as_str()).collect();
    assert_eq!(
        order,
        [
            "b/rules[0]",
            "b/rules[0]",
            "b/rules[2]",
            "b/rules[1]",
            "a/rules[0]",
            "a/rules[1]"
        ]
    );
    assert_eq!(hosts["*"][0].matches.path.value, "/abc");
}

#[test]
fn rules_that_ask_for_tokens_are_refused() {
    let asked = route(json!({"Rules": [{"Filters": {"JWT": {}}}, {"Services": [
        {"Name": "web", "Filters": {"JWT": {"Providers": []}}}]}]}));
    for rule in &asked.rules {
        assert!(destination(rule).unwrap_err().contains("JWT"));
    }
    let plain = route(json!({"Rules": [{"Filters": {"JWT": null}}]}));
    assert!(destination(&plain.rules[0]).is_ok());
}
