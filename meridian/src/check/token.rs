//! The token: whether it is valid, what it is, and when it ends.

use super::report::Report;
use consul::acl::AclToken;
use consul::{Client, Token};
use std::time::{Duration, SystemTime};

/// Shorter than this is worth a word: an operator who looks once a day should see it.
const SOON: Duration = Duration::from_secs(24 * 60 * 60);

/// Returns whether there is anything to go on with.
pub(super) async fn check(client: &Client, report: &mut Report) -> bool {
    let is_given = client.config().token != Token::Anonymous;
    match client.token_self().once().await {
        Ok(answer) if is_given => valid(&answer.value, report),
        Err(error) if error.is_without_acls() => {
            report.good("the agent has no ACLs, so no token is needed");
        }
        _ if !is_given => {
            report.warn(
                "no token is given, and the agent has ACLs",
                "give one with --token-file or CONSUL_HTTP_TOKEN_FILE",
            );
        }
        Ok(_) => {}
        Err(error) => {
            report.failed(&error, "");
            return false;
        }
    }
    true
}

fn valid(token: &AclToken, report: &mut Report) {
    let rights = rights(token);
    report.good(format!("{} is valid: {rights}", token.accessor_id));
    let left = token.expires().map(|end| {
        let left = end.duration_since(SystemTime::now());
        left.unwrap_or_default()
    });
    match left {
        None => report.good("it ends when it is deleted"),
        Some(left) if left < SOON => report.warn(
            format!("it ends in {} min", left.as_secs() / 60),
            "write a new one into the file of --token-file: it is taken without a restart",
        ),
        Some(left) => report.good(format!("it ends in {} h", left.as_secs() / 3600)),
    }
}

fn rights(token: &AclToken) -> String {
    let identities = token.service_identities.iter();
    let identities = identities.map(|one| format!("service identity {}", one.service_name));
    let policies = token
        .policies
        .iter()
        .map(|one| format!("policy {}", one.name));
    let roles = token.roles.iter().map(|one| format!("role {}", one.name));
    let all: Vec<_> = identities.chain(policies).chain(roles).collect();
    if all.is_empty() {
        "without any right of its own".to_owned()
    } else {
        all.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use consul::acl::ServiceIdentity;

    #[test]
    fn rights_are_named_by_where_they_come_from() {
        let mut token = AclToken::default();
        assert_eq!(rights(&token), "without any right of its own");
        token.service_identities.push(ServiceIdentity {
            service_name: "web".to_owned(),
        });
        assert_eq!(rights(&token), "service identity web");
    }

    #[test]
    fn a_token_that_ends_soon_is_a_warning() {
        let mut report = Report::default();
        let token = AclToken {
            expiration_time: Some("1970-01-01T00:00:00Z".to_owned()),
            ..AclToken::default()
        };
        valid(&token, &mut report);
        assert!(
            report.to_string().contains("‼ it ends in 0 min"),
            "{report}"
        );
    }
}
