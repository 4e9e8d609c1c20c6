//! Intentions: which identity may call a service.
//!
//! The rules are Consul's: intentions stand in evaluation order, the first
//! whose source matches decides, and where none does the default policy does.
//! Everything here is pure, so that the verdict can be tested as a table.

use crate::identity::{ServiceId, SpiffeId, TrustDomain};
use crate::jwt::{JwtProvider, JwtRequirement};
use crate::route::RouteMatch;
use std::fmt;
use std::sync::Arc;

/// All rules of one destination.
#[derive(Debug, Clone, PartialEq)]
pub struct Authorization {
    /// Rules, most specific first (`/v1/connect/intentions/match` order).
    pub intentions: Vec<Intention>,
    /// Verdict where no rule matches (`DefaultIntentionPolicy`).
    pub default: Verdict,
    /// Those whose tokens the rules ask for.
    pub providers: Vec<Arc<JwtProvider>>,
}

/// Whether a call may go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It may.
    Allow,
    /// It may not.
    Deny,
}

/// One rule.
#[derive(Debug, Clone, PartialEq)]
pub struct Intention {
    /// Whom it is about.
    pub source: Source,
    /// Tokens, one of which a request must carry; it needs none where this is empty. Without
    /// one the default policy decides, and no other rule (as measured at Consul's Envoy).
    pub jwt: Vec<JwtRequirement>,
    /// What it says about them.
    pub decision: Decision,
}

/// Whom a rule is about. `None` in a part stands for any (`*`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// Trust domain of the caller: ours, or a peer's.
    pub trust_domain: TrustDomain,
    /// Admin partition.
    pub partition: Option<String>,
    /// Namespace.
    pub namespace: Option<String>,
    /// Service name.
    pub service: Option<String>,
}

/// What a rule says.
#[derive(Debug, Clone, PartialEq)]
pub enum Decision {
    /// Allow.
    Allow,
    /// Deny.
    Deny,
    /// The first permission that matches the request decides, else the
    /// default policy. On a TCP service the rule denies.
    Permissions(Vec<Permission>),
}

/// One permission of an HTTP intention.
#[derive(Debug, Clone, PartialEq)]
pub struct Permission {
    /// What it grants or refuses.
    pub verdict: Verdict,
    /// Which requests it is about.
    pub matches: RouteMatch,
    /// As [`Intention::jwt`]: a request that matches and carries none of them is left to the
    /// default policy, not to the next permission.
    pub jwt: Vec<JwtRequirement>,
}

impl Authorization {
    /// The rule about `peer`: what it decides before any request is seen.
    pub fn decision(&self, peer: &SpiffeId) -> RuleOutcome<'_> {
        let service = peer.service();
        let rule = self
            .intentions
            .iter()
            .find(|rule| rule.source.covers(peer.trust_domain(), service));
        let Some(rule) = rule else {
            return RuleOutcome::Decided(self.default);
        };
        match rule.decision {
            Decision::Allow if rule.jwt.is_empty() => RuleOutcome::Decided(Verdict::Allow),
            Decision::Deny if rule.jwt.is_empty() => RuleOutcome::Decided(Verdict::Deny),
            _ => RuleOutcome::PerRequest {
                rule,
                default: self.default,
            },
        }
    }

    /// The verdict over a whole connection: permissions and tokens deny, since bytes have
    /// neither path nor headers.
    pub fn connection_verdict(&self, peer: &SpiffeId) -> Verdict {
        match self.decision(peer) {
            RuleOutcome::Decided(verdict) => verdict,
            RuleOutcome::PerRequest { .. } => Verdict::Deny,
        }
    }
}

/// What the rules say about a peer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum RuleOutcome<'a> {
    /// The same for all its requests.
    Decided(Verdict),
    /// It depends on the request.
    PerRequest {
        /// The rule, which has permissions or asks for tokens.
        rule: &'a Intention,
        /// Verdict where it says nothing.
        default: Verdict,
    },
}

impl Source {
    /// Consul verifies trust domain, partition, namespace and name of a source,
    /// and on purpose not its datacenter. An identity that is no service (an
    /// agent, a mesh gateway) matches no rule: their pattern ends in `/svc/<name>`.
    fn covers(&self, trust_domain: &TrustDomain, service: Option<&ServiceId>) -> bool {
        if self.trust_domain != *trust_domain {
            return false;
        }
        let Some(service) = service else { return false };
        let fits = |wanted: &Option<String>, actual: &str| {
            wanted.as_ref().is_none_or(|wanted| wanted == actual)
        };
        fits(&self.partition, &service.partition)
            && fits(&self.namespace, &service.namespace)
            && fits(&self.service, &service.service)
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(service: Option<&str>) -> Source {
        Source {
            trust_domain: TrustDomain::new("td"),
            partition: Some("default".into()),
            namespace: Some("default".into()),
            service: service.map(str::to_owned),
        }
    }

    fn rule(service: Option<&str>, decision: Decision) -> Intention {
        Intention {
            source: source(service),
            jwt: Vec::new(),
            decision,
        }
    }

    fn peer(uri: &str) -> SpiffeId {
        SpiffeId::parse(uri).unwrap()
    }

    #[test]
    fn first_matching_rule_decides() {
        let rules = Authorization {
            intentions: vec![
                rule(Some("web"), Decision::Deny),
                rule(None, Decision::Allow),
            ],
            default: Verdict::Deny,
            providers: Vec::new(),
        };
        let verdict = |uri| rules.connection_verdict(&peer(uri));
        assert_eq!(
            verdict("spiffe://td/ns/default/dc/dc1/svc/web"),
            Verdict::Deny
        );
        assert_eq!(
            verdict("spiffe://td/ns/default/dc/dc2/svc/api"),
            Verdict::Allow
        );
        assert_eq!(
            verdict("spiffe://other/ns/default/dc/dc1/svc/api"),
            Verdict::Deny
        );
        assert_eq!(
            verdict("spiffe://td/ns/other/dc/dc1/svc/api"),
            Verdict::Deny
        );
    }

    #[test]
    fn the_default_decides_where_no_rule_matches() {
        for default in [Verdict::Allow, Verdict::Deny] {
            let rules = Authorization {
                intentions: vec![rule(Some("api"), Decision::Deny)],
                default,
                providers: Vec::new(),
            };
            let verdict = rules.connection_verdict(&peer("spiffe://td/ns/default/dc/dc1/svc/web"));
            assert_eq!(verdict, default);
        }
    }

    #[test]
    fn permissions_deny_a_whole_connection() {
        let allow_all = Permission {
            verdict: Verdict::Allow,
            matches: RouteMatch::default(),
            jwt: Vec::new(),
        };
        let rules = Authorization {
            intentions: vec![rule(Some("web"), Decision::Permissions(vec![allow_all]))],
            default: Verdict::Allow,
            providers: Vec::new(),
        };
        let web = peer("spiffe://td/ns/default/dc/dc1/svc/web");
        assert_eq!(rules.connection_verdict(&web), Verdict::Deny);
        assert!(matches!(
            rules.decision(&web),
            RuleOutcome::PerRequest { .. }
        ));
    }

    #[test]
    fn a_rule_that_asks_for_a_token_denies_a_whole_connection() {
        let token = JwtRequirement {
            provider: "okta".into(),
            claims: Vec::new(),
        };
        for decision in [Decision::Allow, Decision::Deny] {
            let rules = Authorization {
                intentions: vec![Intention {
                    jwt: vec![token.clone()],
                    ..rule(Some("web"), decision)
                }],
                default: Verdict::Allow,
                providers: Vec::new(),
            };
            let web = peer("spiffe://td/ns/default/dc/dc1/svc/web");
            assert_eq!(rules.connection_verdict(&web), Verdict::Deny);
            let outcome = rules.decision(&web);
            assert!(matches!(outcome, RuleOutcome::PerRequest { .. }));
        }
    }

    #[test]
    fn an_identity_that_is_no_service_matches_no_rule() {
        let rules = Authorization {
            intentions: vec![rule(None, Decision::Allow)],
            default: Verdict::Deny,
            providers: Vec::new(),
        };
        let gateway = peer("spiffe://td/gateway/mesh/dc/dc1");
        assert_eq!(rules.connection_verdict(&gateway), Verdict::Deny);
    }
}
