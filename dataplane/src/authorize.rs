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
    use http::{HeaderMap, Method};
    use meridian_model::intention::{Permission, Source};
    use meridian_model::route::{PathMatch, RouteMatch};
    use meridian_model::{SpiffeId, TrustDomain};

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

    #[test]
    fn nobody_without_an_identity_is_allowed() {
        let rules = rules(Verdict::Allow);
        assert_eq!(verdict(&rules, None, "/api"), Verdict::Deny);
        assert_eq!(connection(&rules, None), Verdict::Deny);
    }
}
