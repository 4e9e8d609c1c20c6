//! A router over a splitter over subsets, each of which changes headers.

use std::collections::BTreeMap;

use meridian_tests::sidecar::Kind;
use serde_json::{Value, json};

use super::observe::{Ask, Outcome};

/// The service.
pub(crate) const SERVICE: &str = "split";

/// Requests that are counted.
pub(crate) const DRAWS: usize = 1500;

/// Shares in percent, by the port of the subset's instance.
const SHARES: [(&str, f64); 3] = [("9001", 70.0), ("9002", 29.5), ("9003", 0.5)];

/// Standard deviations from the expected count that pass: once in three million draws
/// an honest proxy would be blamed.
const SIGMAS: f64 = 5.0;

/// One instance for each subset, and one that is in none.
pub(crate) fn instances() -> Vec<(u16, Value)> {
    [(9001, "1"), (9002, "2"), (9003, "3"), (9004, "other")]
        .map(|(port, version)| (port, json!({"version": version})))
        .into()
}

/// Resolver, splitter and router; the resolver first, for the others need it.
pub(crate) fn entries() -> Vec<Value> {
    let subset = |version: &str| json!({"Filter": format!("Service.Meta.version == {version}")});
    let split = |(subset, weight): (&str, f64)| {
        json!({
            "ServiceSubset": subset, "Weight": weight,
            "RequestHeaders": {"Set": {"x-both": "split"}, "Add": {"x-list": "split"}},
            "ResponseHeaders": {"Set": {"x-both": "split"}, "Add": {"x-list": "split"}},
        })
    };
    let shares = ["v1", "v2", "v3"].into_iter().zip(SHARES);
    let splits: Vec<_> = shares
        .map(|(subset, (_, weight))| split((subset, weight)))
        .collect();
    let route = |path: &str, destination: Value| json!({"Match": {"HTTP": {"PathPrefix": path}}, "Destination": destination});
    vec![
        json!({
            "Kind": "service-resolver", "Name": SERVICE,
            "Subsets": {"v1": subset("1"), "v2": subset("2"), "v3": subset("3")},
        }),
        json!({"Kind": "service-splitter", "Name": SERVICE, "Splits": splits}),
        json!({
            "Kind": "service-router", "Name": SERVICE,
            "Routes": [
                route("/v2", json!({"ServiceSubset": "v2"})),
                route("/v3", json!({"ServiceSubset": "v3", "PrefixRewrite": "/"})),
                route("/both", json!({
                    "RequestHeaders": {"Set": {"x-both": "route"}, "Add": {"x-list": "route"}},
                    "ResponseHeaders": {"Set": {"x-both": "route"}, "Add": {"x-list": "route"}},
                })),
            ],
        }),
    ]
}

/// Requests whose outcome is no matter of chance but for the instance.
pub(crate) fn asks() -> Vec<Ask> {
    let reply = "x-both=origin,x-list=origin";
    let ask = |target: &str| Ask::get(target).header("x-reply", reply);
    vec![
        ask("/v2"),
        ask("/v3/x"),
        ask("/v2/x").header("x-list", "client"),
    ]
}

/// A request that goes to any subset.
pub(crate) fn draw() -> Ask {
    Ask::get("/both")
        .header("x-list", "client")
        .header("x-reply", "x-both=origin,x-list=origin")
}

/// Where requests went.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    instances: BTreeMap<String, usize>,
    /// `x-both` and `x-list`, of request and response.
    headers: BTreeMap<[String; 4], usize>,
}

impl Counts {
    /// Counts one.
    pub(crate) fn add(&mut self, outcome: &Outcome) {
        let sight = outcome.sight.as_ref().expect("an answer of an instance");
        *self.instances.entry(sight.instance.clone()).or_default() += 1;
        let values = |headers: &BTreeMap<String, Vec<String>>, name: &str| {
            headers.get(name).cloned().unwrap_or_default().join(",")
        };
        let seen = [
            values(&sight.headers, "x-both"),
            values(&sight.headers, "x-list"),
            values(&outcome.headers, "x-both"),
            values(&outcome.headers, "x-list"),
        ];
        *self.headers.entry(seen).or_default() += 1;
    }

    /// Fails the test unless shares and headers are those of the entries.
    pub(crate) fn check(&self, kind: Kind) {
        for (instance, share) in SHARES {
            let chance = share / 100.0;
            let expected = DRAWS as f64 * chance;
            let deviation = (expected * (1.0 - chance)).sqrt();
            let count = self.instances.get(instance).copied().unwrap_or_default();
            let off = (count as f64 - expected).abs() / deviation;
            assert!(off < SIGMAS, "{kind:?}: {instance} got {count}: {self:?}");
        }
        assert!(!self.instances.contains_key("9004"), "{kind:?}: {self:?}");
        // Envoy applies the split's changes first, and the route's over them.
        let wanted = ["route", "client,split,route", "route", "origin,split,route"];
        let wanted = wanted.map(str::to_owned);
        let only: Vec<_> = self.headers.keys().collect();
        assert_eq!(only, [&wanted], "{kind:?}");
    }
}
