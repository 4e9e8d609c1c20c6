//! Intentions at work: the verdict over a connection, and over a request.
//!
//! Fails closed: without a proved identity there is no one an intention could
//! allow.

use crate::jwt::{Judgement, Tokens};
use crate::route::{RequestFacts, conditions_hold};
use crate::tls::PeerCertificate;
use meridian_model::JwtRequirement;
use meridian_model::intention::{Authorization, Decision, Intention, RuleOutcome, Verdict};
use meridian_telemetry::metrics;

/// The verdict over a whole connection, of which no request can be told apart.
pub(crate) fn connection(rules: &Authorization, peer: Option<&PeerCertificate>) -> Verdict {
    peer.map_or(Verdict::Deny, |peer| rules.connection_verdict(&peer.spiffe))
}

/// The verdict over one request, of which `tokens` were verified.
pub(crate) fn request(
    rules: &Authorization,
    peer: Option<&PeerCertificate>,
    request: &RequestFacts<'_>,
    tokens: &Tokens<'_>,
) -> Verdict {
    let Some(peer) = peer else {
        return Verdict::Deny;
    };
    match rules.decision(&peer.spiffe) {
        RuleOutcome::Decided(verdict) => verdict,
        RuleOutcome::PerRequest { rule, default } => {
            under_rule(rule, request, tokens, default).unwrap_or_else(|unsettled| unsettled)
        }
    }
}

/// What the rule says, or else what holds where it says nothing.
fn under_rule(
    rule: &Intention,
    request: &RequestFacts<'_>,
    tokens: &Tokens<'_>,
    default: Verdict,
) -> Result<Verdict, Verdict> {
    let demand = |jwt: &[JwtRequirement]| match tokens.judge(jwt) {
        Judgement::Met => Ok(()),
        Judgement::Unmet => Err(default),
        // Keys that are missing must not turn a denial into a pass.
        Judgement::Unknown => Err(Verdict::Deny),
    };
    demand(&rule.jwt)?;
    match &rule.decision {
        Decision::Allow => Ok(Verdict::Allow),
        Decision::Deny => Ok(Verdict::Deny),
        Decision::Permissions(permissions) => {
            let permission = permissions
                .iter()
                .find(|permission| conditions_hold(&permission.matches, request))
                .ok_or(default)?;
            demand(&permission.jwt)?;
            Ok(permission.verdict)
        }
    }
}

/// The verdict as a label of metrics.
pub(crate) fn label(verdict: Verdict) -> metrics::Verdict {
    match verdict {
        Verdict::Allow => metrics::Verdict::Allow,
        Verdict::Deny => metrics::Verdict::Deny,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::headers::RequestHeader;
    use crate::jwt::Providers;
    use http::{HeaderMap, Method};
    use meridian_model::JwtProvider;
    use meridian_model::intention::{Permission, Source};
    use meridian_model::jwt::KeySet;
    use meridian_model::route::{PathMatch, RouteMatch};
    use meridian_model::{SpiffeId, TrustDomain};
    use std::sync::Arc;
    use std::time::{Duration, SystemTime};

    fn rules(default: Verdict) -> Authorization {
        let permission = |verdict, path: &str| Permission {
            verdict,
            matches: RouteMatch {
                path: PathMatch::Prefix(path.into()),
                ..RouteMatch::default()
            },
            jwt: Vec::new(),
        };
        Authorization {
            intentions: vec![Intention {
                source: Source {
                    trust_domain: TrustDomain::new("td"),
                    partition: None,
                    namespace: None,
                    service: Some("web".into()),
                },
                jwt: Vec::new(),
                decision: Decision::Permissions(vec![
                    permission(Verdict::Deny, "/admin"),
                    permission(Verdict::Allow, "/a"),
                ]),
            }],
            default,
            providers: Vec::new(),
        }
    }

    fn web() -> PeerCertificate {
        PeerCertificate {
            spiffe: SpiffeId::parse("spiffe://td/ns/default/dc/dc1/svc/web").unwrap(),
            chain: Vec::new(),
            hash: String::new(),
        }
    }

    fn verdict(rules: &Authorization, peer: Option<&PeerCertificate>, path: &str) -> Verdict {
        let headers = HeaderMap::new();
        let facts = RequestFacts {
            host: "x",
            path,
            query: None,
            method: &Method::GET,
            headers: &headers,
        };
        request(rules, peer, &facts, &Tokens::default())
    }

    #[test]
    fn the_first_matching_permission_decides_and_then_the_default() {
        let web = web();
        for default in [Verdict::Allow, Verdict::Deny] {
            let rules = rules(default);
            assert_eq!(verdict(&rules, Some(&web), "/admin"), Verdict::Deny);
            assert_eq!(verdict(&rules, Some(&web), "/api"), Verdict::Allow);
            assert_eq!(verdict(&rules, Some(&web), "/other"), default);
        }
    }

    /// A rule that asks for a token of the only provider.
    fn with_tokens(decision: Decision, default: Verdict, keys: KeySet) -> Authorization {
        let mut rules = rules(default);
        rules.intentions[0].jwt = wants("okta");
        rules.intentions[0].decision = decision;
        rules.providers = vec![Arc::new(JwtProvider {
            name: "okta".into(),
            issuer: "https://okta".into(),
            audiences: Vec::new(),
            locations: JwtProvider::default_locations(),
            forward_token: false,
            payload: None,
            clock_skew: Duration::ZERO,
            keys,
            refresh: None,
        })];
        rules
    }

    fn wants(provider: &str) -> Vec<JwtRequirement> {
        vec![JwtRequirement {
            provider: provider.into(),
            claims: Vec::new(),
        }]
    }

    /// The verdict over a request with a token that nothing verifies, or without one.
    fn verdict_with(rules: &Authorization, token: Option<&str>) -> Verdict {
        let mut head = RequestHeader::build("GET", b"/", None).unwrap();
        if let Some(token) = token {
            let value = format!("Bearer {token}");
            head.insert_header("authorization", value).unwrap();
        }
        let providers = Providers::prepare(&rules.providers).unwrap();
        let tokens = providers.take_in(&mut head, SystemTime::now());
        let facts = RequestFacts {
            host: "x",
            path: "/token",
            query: None,
            method: &Method::GET,
            headers: &head.headers,
        };
        request(rules, Some(&web()), &facts, &tokens)
    }

    #[test]
    fn a_rule_without_its_token_leaves_it_to_the_default() {
        let permission = |verdict, jwt| Permission {
            verdict,
            matches: RouteMatch::default(),
            jwt,
        };
        for default in [Verdict::Allow, Verdict::Deny] {
            for decision in [Decision::Allow, Decision::Deny] {
                let known = KeySet::Known(Arc::new([]));
                let rules = with_tokens(decision, default, known);
                assert_eq!(verdict_with(&rules, None), default);
                assert_eq!(verdict_with(&rules, Some("a.b.c")), default);
            }
            let opposite = match default {
                Verdict::Allow => Verdict::Deny,
                Verdict::Deny => Verdict::Allow,
            };
            let permissions = vec![
                permission(opposite, wants("okta")),
                permission(opposite, Vec::new()),
            ];
            let decision = Decision::Permissions(permissions);
            let mut rules = with_tokens(decision, default, KeySet::Known(Arc::new([])));
            rules.intentions[0].jwt.clear();
            assert_eq!(
                verdict_with(&rules, None),
                default,
                "the next permission is not asked"
            );
        }
    }

    #[test]
    fn keys_that_are_missing_deny_whoever_comes_with_a_token() {
        let keys = || KeySet::Unavailable {
            reason: "away".to_owned(),
        };
        for decision in [Decision::Allow, Decision::Deny] {
            let rules = with_tokens(decision, Verdict::Allow, keys());
            assert_eq!(verdict_with(&rules, Some("a.b.c")), Verdict::Deny);
        }
        let mut unnamed = with_tokens(Decision::Allow, Verdict::Allow, keys());
        unnamed.intentions[0].jwt = wants("another");
        assert_eq!(verdict_with(&unnamed, None), Verdict::Deny);
    }

    #[test]
    fn nobody_without_an_identity_is_allowed() {
        let rules = rules(Verdict::Allow);
        assert_eq!(verdict(&rules, None, "/api"), Verdict::Deny);
        assert_eq!(connection(&rules, None), Verdict::Deny);
    }
}
