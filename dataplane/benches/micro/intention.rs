//! Whether a peer may call: the last of many intentions, and a permission of it.

use criterion::{BenchmarkId, Criterion};
use http::{HeaderMap, Method};
use meridian_dataplane::route::{RequestFacts, conditions_hold};
use meridian_model::intention::{Decision, Intention, Permission, RuleOutcome, Source};
use meridian_model::route::PathMatch;
use meridian_model::{Authorization, RouteMatch, SpiffeId, TrustDomain, Verdict};
use std::hint::black_box;

pub(crate) fn decide(criterion: &mut Criterion) {
    let peer = SpiffeId::parse("spiffe://bench.consul/ns/default/dc/dc1/svc/web").unwrap();
    let mut group = criterion.benchmark_group("intention check, connection");
    for count in [1, 100, 1_000] {
        let rules = rules(count, Decision::Allow);
        assert_eq!(rules.connection_verdict(&peer), Verdict::Allow);
        group.bench_function(BenchmarkId::from_parameter(count), |bencher| {
            bencher.iter(|| rules.connection_verdict(black_box(&peer)));
        });
    }
    group.finish();

    let permission = |path: &str, verdict| Permission {
        verdict,
        matches: RouteMatch {
            path: PathMatch::Prefix(path.to_owned()),
            ..RouteMatch::default()
        },
        jwt: Vec::new(),
    };
    let mut permissions = vec![permission("/admin/", Verdict::Deny); 10];
    permissions.push(permission("/", Verdict::Allow));
    let rules = rules(100, Decision::Permissions(permissions));
    let headers = HeaderMap::new();
    let request = RequestFacts {
        host: "shop.test",
        path: "/orders/17",
        query: None,
        method: &Method::GET,
        headers: &headers,
    };
    criterion.bench_function("intention check, request with permissions", |bencher| {
        bencher.iter(|| verdict(&rules, black_box(&peer), black_box(&request)));
    });
}

/// As the proxy asks: the rule about the peer, then the first permission that matches.
fn verdict(rules: &Authorization, peer: &SpiffeId, request: &RequestFacts<'_>) -> Verdict {
    match rules.decision(peer) {
        RuleOutcome::Decided(verdict) => verdict,
        RuleOutcome::PerRequest { rule, default } => {
            let Decision::Permissions(permissions) = &rule.decision else {
                return default;
            };
            permissions
                .iter()
                .find(|permission| conditions_hold(&permission.matches, request))
                .map_or(default, |permission| permission.verdict)
        }
    }
}

/// So many rules, of which the last is about `web`.
fn rules(count: usize, decision: Decision) -> Authorization {
    let about = |service: String, decision| Intention {
        source: Source {
            trust_domain: TrustDomain::new("bench.consul"),
            partition: None,
            namespace: None,
            service: Some(service),
        },
        jwt: Vec::new(),
        decision,
    };
    let mut intentions: Vec<_> = (1..count)
        .map(|number| about(format!("other-{number}"), Decision::Allow))
        .collect();
    intentions.push(about("web".to_owned(), decision));
    Authorization {
        intentions,
        default: Verdict::Deny,
        providers: Vec::new(),
    }
}
