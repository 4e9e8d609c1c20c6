//! Consul's intentions, as an authorization.
//!
//! Whatever is not understood denies: an intention with an unknown field keeps its place and its
//! source, and its decision becomes a denial.
//!
//! Intentions about a cluster peer are left out, allows and denials alike. A peer's certificates
//! chain to no root that is trusted here, so nobody who could match them passes the handshake.

use crate::translate::jwt::{Providers, requirements};
use crate::translate::matcher;
use consul::chain::HttpMatch;
use consul::intention::{
    Action, HttpPermission, Intention as Written, Permission as WrittenPermission,
};
use meridian_model::intention::{Authorization, Decision, Intention, Permission, Source};
use meridian_model::jwt::{JwtRequirement, KeySet};
use meridian_model::{Rejection, RouteMatch, TrustDomain, Verdict};

/// An authorization, and the intentions that it could not honour as written.
pub(crate) fn authorization(
    written: &[Written],
    trust_domain: &TrustDomain,
    default: Verdict,
    providers: &Providers,
) -> (Authorization, Vec<Rejection>) {
    let mut rejected = Vec::new();
    let mut intentions = Vec::new();
    for one in written {
        if !one.source_peer.is_empty() {
            rejected.push(refusal(one, "sources in cluster peers are not served"));
            continue;
        }
        let (jwt, decision) = rule(one, providers).unwrap_or_else(|reason| {
            rejected.push(refusal(one, &format!("{reason}; it denies instead")));
            (Vec::new(), Decision::Deny)
        });
        let source = source(one, trust_domain);
        intentions.push(Intention {
            source,
            jwt,
            decision,
        });
    }
    let providers = providers.all();
    for provider in &providers {
        if let KeySet::Unavailable { reason } = &provider.keys {
            rejected.push(Rejection {
                resource: format!("jwt-provider {}", provider.name),
                reason: format!("{reason}; its tokens are refused"),
            });
        }
    }
    let authorization = Authorization {
        intentions,
        default,
        providers,
    };
    (authorization, rejected)
}

fn refusal(one: &Written, reason: &str) -> Rejection {
    let (source, destination) = (&one.source_name, &one.destination_name);
    Rejection {
        resource: format!("intention {source} -> {destination}"),
        reason: reason.to_owned(),
    }
}

/// Consul checks trust domain, partition, namespace and name. A sameness group may lie in any
/// partition, so an intention about one (which only ever denies here) covers all of them.
fn source(one: &Written, trust_domain: &TrustDomain) -> Source {
    let named = |text: &str| match text {
        "*" => None,
        "" => Some("default".to_owned()),
        other => Some(other.to_owned()),
    };
    Source {
        trust_domain: trust_domain.clone(),
        partition: if one.source_sameness_group.is_empty() {
            named(&one.source_partition)
        } else {
            None
        },
        namespace: named(&one.source_namespace),
        service: (one.source_name != "*").then(|| one.source_name.clone()),
    }
}

fn rule(one: &Written, providers: &Providers) -> Result<(Vec<JwtRequirement>, Decision), String> {
    if !one.is_understood() {
        return Err("it has fields or actions that are not known here".to_owned());
    }
    if !one.source_sameness_group.is_empty() {
        return Err("sameness groups are not served".to_owned());
    }
    if !matches!(one.source_type.as_str(), "" | "consul") {
        return Err(format!(
            "its source type `{}` is not known here",
            one.source_type
        ));
    }
    let jwt = requirements(one.jwt.as_ref(), providers)?;
    let decision = match (one.action, one.permissions.as_slice()) {
        (Some(Action::Allow), []) => Ok(Decision::Allow),
        (Some(Action::Deny), []) => Ok(Decision::Deny),
        (None, []) => Err("it has neither action nor permissions".to_owned()),
        (None, permissions) => permissions
            .iter()
            .map(|permission| self::permission(permission, providers))
            .collect::<Result<_, _>>()
            .map(Decision::Permissions),
        (Some(_), _) => Err("it has both action and permissions".to_owned()),
    }?;
    Ok((jwt, decision))
}

fn permission(written: &WrittenPermission, providers: &Providers) -> Result<Permission, String> {
    let verdict = match written.action {
        Some(Action::Allow) => Verdict::Allow,
        Some(Action::Deny) => Verdict::Deny,
        Some(Action::Other) | None => return Err("a permission has no action".to_owned()),
    };
    let matches = match &written.http {
        None => RouteMatch::default(),
        Some(http) => request_match(http)?,
    };
    Ok(Permission {
        verdict,
        matches,
        jwt: requirements(written.jwt.as_ref(), providers)?,
    })
}

fn request_match(http: &HttpPermission) -> Result<RouteMatch, String> {
    let path = HttpMatch {
        path_exact: http.path_exact.clone(),
        path_prefix: http.path_prefix.clone(),
        path_regex: http.path_regex.clone(),
        ..HttpMatch::default()
    };
    Ok(RouteMatch {
        path: matcher::path(&path)?,
        methods: matcher::methods(&http.methods)?,
        headers: http
            .header
            .iter()
            .map(|header| {
                matcher::header(&matcher::HeaderTest {
                    name: &header.name,
                    present: header.present,
                    exact: &header.exact,
                    prefix: &header.prefix,
                    suffix: &header.suffix,
                    contains: &header.contains,
                    regex: &header.regex,
                    ignore_case: header.ignore_case,
                    invert: header.invert,
                })
            })
            .collect::<Result<_, _>>()?,
        query: Vec::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use meridian_model::SpiffeId;
    use meridian_model::intention::RuleOutcome;
    use meridian_model::route::PathMatch;
    use serde_json::{Value, json};

    fn translate(written: Value) -> (Authorization, Vec<Rejection>) {
        let written: Vec<Written> = serde_json::from_value(written).unwrap();
        let providers = Providers::default();
        authorization(
            &written,
            &TrustDomain::new("td"),
            Verdict::Allow,
            &providers,
        )
    }

    fn web() -> SpiffeId {
        SpiffeId::parse("spiffe://td/ns/default/dc/dc1/svc/web").unwrap()
    }

    #[test]
    fn order_wildcards_and_actions_are_kept() {
        let (rules, rejected) = translate(json!([
            {"SourceName": "web", "SourceNS": "default", "Action": "deny"},
            {"SourceName": "*", "SourceNS": "default", "SourceType": "consul", "Action": "allow"},
            {"SourceName": "*", "SourceNS": "*", "Action": "deny"},
        ]));
        assert_eq!(rejected, []);
        assert_eq!(rules.connection_verdict(&web()), Verdict::Deny);
        let names: Vec<_> = rules
            .intentions
            .iter()
            .map(|i| i.source.service.as_deref())
            .collect();
        assert_eq!(names, [Some("web"), None, None]);
        assert_eq!(rules.intentions[2].source.namespace, None);
        assert_eq!(
            rules.intentions[0].source.partition.as_deref(),
            Some("default")
        );
    }

    #[test]
    fn permissions_become_matches() {
        let (rules, rejected) = translate(json!([{"SourceName": "web", "SourceNS": "default",
        "Permissions": [
            {"Action": "deny", "HTTP": {"PathPrefix": "/admin", "Methods": ["GET", "PUT"],
                "Header": [{"Name": "X-Role", "Exact": "root", "Invert": true}]}},
            {"Action": "allow", "HTTP": {"PathRegex": "/v[0-9]+/.*"}},
            {"Action": "allow"},
        ]}]));
        assert_eq!(rejected, []);
        let RuleOutcome::PerRequest { rule, .. } = rules.decision(&web()) else {
            panic!("{rules:?}")
        };
        let Decision::Permissions(permissions) = &rule.decision else {
            panic!("{rule:?}")
        };
        assert_eq!(permissions[0].verdict, Verdict::Deny);
        assert_eq!(
            permissions[0].matches.path,
            PathMatch::Prefix("/admin".into())
        );
        assert_eq!(permissions[0].matches.methods.len(), 2);
        assert!(permissions[0].matches.headers[0].invert);
        assert!(matches!(permissions[1].matches.path, PathMatch::Regex(_)));
        assert_eq!(permissions[2].matches, RouteMatch::default());
    }

    #[test]
    fn what_is_not_understood_denies_in_its_place() {
        let cases = [
            json!({"Action": "allow", "Quota": 1}),
            json!({"Action": "shrug"}),
            json!({}),
            json!({"Action": "allow", "Permissions": [{"Action": "allow"}]}),
            json!({"Action": "allow", "JWT": {"Providers": [{"Name": "okta"}]}}),
            json!({"Action": "allow", "SourceSamenessGroup": "g"}),
            json!({"Action": "allow", "SourceType": "vm"}),
            json!({"Permissions": [{"Action": "allow", "JWT": {"Providers": []}}]}),
            json!({"Permissions": [{"Action": "allow", "HTTP": {"PathRegex": "("}}]}),
            json!({"Permissions": [{"Action": "allow", "HTTP": {"Header": [{"Name": "x"}]}}]}),
            json!({"Permissions": [{"Action": "allow", "HTTP": {"Host": "x"}}]}),
        ];
        for mut case in cases {
            case["SourceName"] = json!("web");
            let (rules, rejected) = translate(json!([case]));
            assert_eq!(rules.connection_verdict(&web()), Verdict::Deny, "{case}");
            assert_eq!(rules.intentions[0].decision, Decision::Deny, "{case}");
            assert_eq!(rejected.len(), 1, "{case}");
        }
    }

    #[test]
    fn peers_are_left_out_and_named() {
        let (rules, rejected) = translate(json!([
            {"SourceName": "web", "SourcePeer": "east", "Action": "allow"},
        ]));
        assert_eq!(rules.intentions, []);
        assert_eq!(rejected[0].resource, "intention web -> ");
    }
}
