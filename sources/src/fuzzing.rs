//! Entrances for fuzzers: bytes as Consul might answer, through decoding and
//! translation. Each function panics where a promise is broken, and only there.
//!
//! Compiled for tests and with the feature `fuzzing`, which `fuzz/` turns on.

use crate::chain::{Called, Instances, Setting, Traffic, Translated, translate};
use crate::gateways;
use crate::knowledge::{InstancesQuery, Knowledge, Known};
use crate::translate::endpoint::{View, endpoints};
use crate::translate::intention::authorization;
use crate::translate::jwt::Providers;
use consul::chain::CompiledChain;
use consul::health::ServiceEntry;
use consul::intention::Intention;
use meridian_model::intention::{Authorization, Decision};
use meridian_model::policy::CircuitLimits;
use meridian_model::route::Destination;
use meridian_model::{Health, Rejection, RouteMatch, TlsTerms, TrustDomain, Verdict};
use std::collections::BTreeSet;

/// A discovery chain.
pub fn chain(bytes: &[u8]) {
    if let Ok(chain) = serde_json::from_slice::<CompiledChain>(bytes) {
        translated(&chain, &[]);
    }
}

/// The intentions of a destination.
pub fn intentions(bytes: &[u8]) {
    if let Ok(written) = serde_json::from_slice::<Vec<Intention>>(bytes) {
        authorized(&written);
    }
}

/// Instances with their checks.
pub fn health(bytes: &[u8]) {
    if let Ok(instances) = serde_json::from_slice::<Vec<ServiceEntry>>(bytes) {
        listed(&instances);
    }
}

/// Every target has the same instances.
struct Everywhere<'a>(&'a Vec<ServiceEntry>);

impl Instances for Everywhere<'_> {
    fn instances(&self, _: &InstancesQuery) -> Known<'_, Vec<ServiceEntry>> {
        Known::Value(self.0)
    }

    fn gateways(&self, _: &str, home: &str) -> Option<Result<Called, String>> {
        Some(Ok(gateways::as_endpoints(
            &Knowledge::default(),
            self.0,
            home,
        )))
    }
}

/// Translates a chain. Every request gets an answer: a cluster that exists, or an
/// error that is also reported.
pub(crate) fn translated(chain: &CompiledChain, instances: &[ServiceEntry]) -> Translated {
    let (identity, trust_domain) = ("web".into(), TrustDomain::new("td"));
    let setting = Setting {
        label: "upstream",
        identity: &identity,
        trust_domain: &trust_domain,
        datacenter: "dc1",
        limits: CircuitLimits::default(),
        outlier: None,
        terms: TlsTerms::default(),
    };
    let instances = instances.to_vec();
    let translated = translate(chain, &setting, &Everywhere(&instances));
    let translated = translated.expect("a translation, where all instances are known");
    let clusters: BTreeSet<_> = translated.clusters.iter().map(|one| &one.name).collect();
    assert_eq!(clusters.len(), translated.clusters.len(), "a name twice");
    match &translated.traffic {
        Traffic::Tcp(shares) => {
            for (name, _) in shares {
                assert!(clusters.contains(name), "{name:?} does not exist");
            }
            assert!(!shares.is_empty() || !translated.rejected.is_empty());
        }
        Traffic::Http(table) => {
            let routes = table.hosts.iter().flat_map(|host| &host.routes);
            assert!(routes.clone().next().is_some(), "nobody is answered");
            for route in routes {
                match &route.action.destination {
                    Destination::Clusters(shares) => {
                        assert!(!shares.is_empty(), "{route:?} leads nowhere");
                        for share in shares {
                            assert!(clusters.contains(&share.cluster), "{share:?}");
                            assert!(share.weight > 0, "{share:?}");
                        }
                    }
                    Destination::Unroutable { status, reason } => {
                        assert!(*status >= 500, "{route:?}");
                        let said = |rejection: &Rejection| rejection.reason == *reason;
                        assert!(translated.rejected.iter().any(said), "unsaid: {reason}");
                    }
                    Destination::Redirect(_) => panic!("no chain redirects: {route:?}"),
                }
            }
        }
    }
    translated
}

/// Translates intentions. Whatever is not understood denies, in its place.
pub(crate) fn authorized(written: &[Intention]) -> (Authorization, Vec<Rejection>) {
    let domain = TrustDomain::new("td");
    let made = authorization(written, &domain, Verdict::Allow, &Providers::default());
    let ours = written.iter().filter(|one| one.source_peer.is_empty());
    let rules = &made.0.intentions;
    assert_eq!(rules.len(), ours.clone().count(), "one rule for each");
    for (one, rule) in ours.zip(rules) {
        assert_eq!(rule.source.service.is_none(), one.source_name == "*");
        if !one.is_understood() {
            assert_eq!(rule.decision, Decision::Deny, "{one:?}");
        }
        if let Decision::Permissions(permissions) = &rule.decision {
            assert_eq!(permissions.len(), one.permissions.len(), "{one:?}");
            for (permission, one) in permissions.iter().zip(&one.permissions) {
                let unconditional = permission.matches == RouteMatch::default();
                let asked = one.http.as_ref().is_some_and(|http| {
                    !http.header.is_empty()
                        || !http.methods.is_empty()
                        || [&http.path_exact, &http.path_prefix, &http.path_regex]
                            .iter()
                            .any(|path| !path.is_empty())
                });
                assert!(!(unconditional && asked), "conditions were lost: {one:?}");
            }
        }
    }
    made
}

/// Endpoints of instances. Each is an endpoint or a rejection, and none is better
/// than its checks.
pub(crate) fn listed(instances: &[ServiceEntry]) {
    for only_passing in [false, true] {
        let view = View {
            only_passing,
            local_datacenter: Some("dc1"),
        };
        let (found, rejected) = endpoints(instances, view);
        assert_eq!(found.len() + rejected.len(), instances.len());
        for endpoint in found.iter() {
            assert!((1..=128).contains(&endpoint.weight), "{endpoint:?}");
        }
        let healthy = found.iter().filter(|one| one.health == Health::Healthy);
        let usable = instances.iter().filter(|one| match one.status() {
            consul::health::CheckStatus::Passing => true,
            consul::health::CheckStatus::Warning => !only_passing,
            consul::health::CheckStatus::Critical => false,
        });
        assert!(healthy.count() <= usable.count(), "better than its checks");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use meridian_tests::corpus::{Corpus, ROUNDS};

    #[test]
    fn chains_of_the_corpus_and_their_mutations() {
        Corpus::read("chain").mutated(ROUNDS, chain);
    }

    #[test]
    fn intentions_of_the_corpus_and_their_mutations() {
        Corpus::read("intentions").mutated(ROUNDS, intentions);
    }

    #[test]
    fn health_answers_of_the_corpus_and_their_mutations() {
        Corpus::read("health").mutated(ROUNDS, health);
    }
}
