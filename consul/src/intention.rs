//! Intentions: who may call a service, and which requests.
//!
//! Whatever this client doesn't know stays visible in a field `unknown`, so that an authorizer can
//! deny what it doesn't understand ([`Intention::is_understood`]).

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::{
    call::Call,
    client::Client,
    query::Query,
    wire::{Unknown, nullable},
};

impl Client {
    /// All intentions that may apply to calls of `destination`, in the order of evaluation
    /// (`GET /v1/connect/intentions/match?by=destination`). Blocks.
    ///
    /// The first one that matches the source decides. None matching leaves it to
    /// [`AgentSelf::default_intention`](crate::agent::AgentSelf::default_intention).
    #[must_use]
    pub fn intentions_to(&self, destination: &str) -> Query<IntentionMatch> {
        self.intentions_to_all([destination])
    }

    /// [`Client::intentions_to`] several services, in one query.
    #[must_use]
    pub fn intentions_to_all<'a>(
        &self,
        destinations: impl IntoIterator<Item = &'a str>,
    ) -> Query<IntentionMatch> {
        let path = ["v1", "connect", "intentions", "match"];
        let call = Call::get("match intentions", path).with("by", "destination");
        let call = destinations
            .into_iter()
            .fold(call, |call, name| call.also("name", name));
        Query::new(self, call)
    }

    /// Whether `source` may call `destination` (`GET /v1/connect/intentions/check`). Doesn't
    /// block.
    ///
    /// Without a matching intention the answer isn't what proxies do: Consul 1.20 says yes under
    /// `default_intention_policy = "deny"`.
    #[must_use]
    pub fn intention_check(&self, source: &str, destination: &str) -> Query<IntentionCheck> {
        let call = Call::get("check intention", ["v1", "connect", "intentions", "check"])
            .with("source", source)
            .with("destination", destination);
        Query::new(self, call)
    }
}

/// Intentions by destination.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(transparent)]
pub struct IntentionMatch(BTreeMap<String, Nullable>);

/// A list that Go may write as `null`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(transparent)]
struct Nullable(#[serde(deserialize_with = "nullable")] Vec<Intention>);

impl IntentionMatch {
    /// Those to `destination` in the order of evaluation; `None` when it wasn't asked for.
    #[must_use]
    pub fn to(&self, destination: &str) -> Option<&[Intention]> {
        self.0.get(destination).map(|list| list.0.as_slice())
    }

    /// All of them with their destinations.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[Intention])> {
        self.0
            .iter()
            .map(|(destination, list)| (destination.as_str(), list.0.as_slice()))
    }
}

/// The answer of [`Client::intention_check`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct IntentionCheck {
    /// Whether the connection is allowed.
    pub allowed: bool,
}

/// One rule about one source and one destination.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Intention {
    /// Its ID, for those written one by one.
    #[serde(rename = "ID")]
    pub id: String,
    /// What its author says.
    pub description: String,
    /// The source's cluster peer; empty is this cluster.
    pub source_peer: String,
    /// The source's sameness group (Enterprise).
    pub source_sameness_group: String,
    /// The source's admin partition (Enterprise).
    pub source_partition: String,
    /// The source's namespace; `default` without Enterprise.
    #[serde(rename = "SourceNS")]
    pub source_namespace: String,
    /// The source's name; `*` is every one.
    pub source_name: String,
    /// `consul`.
    pub source_type: String,
    /// The destination's admin partition (Enterprise).
    pub destination_partition: String,
    /// The destination's namespace; `default` without Enterprise.
    #[serde(rename = "DestinationNS")]
    pub destination_namespace: String,
    /// The destination's name; `*` is every one.
    pub destination_name: String,
    /// The verdict; `None` when permissions have it.
    #[serde(deserialize_with = "action")]
    pub action: Option<Action>,
    /// Verdicts by request, first match first. They need an HTTP protocol: for TCP, an intention
    /// with permissions denies.
    #[serde(deserialize_with = "nullable")]
    pub permissions: Vec<Permission>,
    /// Tokens that every request must carry.
    #[serde(rename = "JWT", deserialize_with = "nullable")]
    pub jwt: Option<JwtRequirement>,
    /// Metadata.
    #[serde(deserialize_with = "nullable")]
    pub meta: BTreeMap<String, String>,
    /// 9 for the most exact names, down to 1.
    pub precedence: u32,
    /// A checksum of the rule.
    #[serde(deserialize_with = "nullable")]
    pub hash: String,
    /// When it was written.
    #[serde(deserialize_with = "nullable")]
    pub created_at: String,
    /// When it was changed.
    #[serde(deserialize_with = "nullable")]
    pub updated_at: String,
    /// Raft index of its creation.
    pub create_index: u64,
    /// Raft index of its last change.
    pub modify_index: u64,
    /// What this client doesn't know.
    #[serde(flatten)]
    pub unknown: Unknown,
}

impl Intention {
    /// Whether nothing in it, at any depth, is unknown to this client. Deny otherwise.
    #[must_use]
    pub fn is_understood(&self) -> bool {
        self.unknown.is_empty()
            && self.action != Some(Action::Other)
            && self.jwt.as_ref().is_none_or(JwtRequirement::is_understood)
            && self.permissions.iter().all(Permission::is_understood)
    }
}

/// A verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// Let it pass.
    Allow,
    /// Refuse it.
    Deny,
    /// A verdict that this client doesn't know: refuse.
    #[serde(other)]
    Other,
}

/// A verdict about some requests.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Permission {
    /// The verdict; always present in what Consul accepts.
    #[serde(deserialize_with = "action")]
    pub action: Option<Action>,
    /// Which requests; `None` is every one.
    #[serde(rename = "HTTP", deserialize_with = "nullable")]
    pub http: Option<HttpPermission>,
    /// Tokens that these requests must carry.
    #[serde(rename = "JWT", deserialize_with = "nullable")]
    pub jwt: Option<JwtRequirement>,
    /// What this client doesn't know.
    #[serde(flatten)]
    pub unknown: Unknown,
}

impl Permission {
    fn is_understood(&self) -> bool {
        self.unknown.is_empty()
            && matches!(self.action, Some(Action::Allow | Action::Deny))
            && self.jwt.as_ref().is_none_or(JwtRequirement::is_understood)
            && self.http.as_ref().is_none_or(|http| {
                http.unknown.is_empty() && http.header.iter().all(|h| h.unknown.is_empty())
            })
    }
}

/// Conditions on a request; all of them must hold.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct HttpPermission {
    /// The whole path; at most one of the three is set, the others are empty.
    pub path_exact: String,
    /// The path's start.
    pub path_prefix: String,
    /// A regular expression over the whole path.
    pub path_regex: String,
    /// Headers.
    #[serde(deserialize_with = "nullable")]
    pub header: Vec<HeaderPermission>,
    /// Methods in capitals; empty is every one.
    #[serde(deserialize_with = "nullable")]
    pub methods: Vec<String>,
    /// What this client doesn't know.
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// A condition on one header; one of the tests is set.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct HeaderPermission {
    /// The header's name.
    pub name: String,
    /// It is there.
    pub present: bool,
    /// Its whole value.
    pub exact: String,
    /// Its value's start.
    pub prefix: String,
    /// Its value's end.
    pub suffix: String,
    /// Part of its value.
    pub contains: String,
    /// A regular expression over the whole value.
    pub regex: String,
    /// Compare without regard to case.
    pub ignore_case: bool,
    /// The condition holds when the test fails.
    pub invert: bool,
    /// What this client doesn't know.
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// Tokens that a request must carry: one of the providers' must be valid.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct JwtRequirement {
    /// The providers.
    #[serde(deserialize_with = "nullable")]
    pub providers: Vec<JwtProvider>,
    /// What this client doesn't know.
    #[serde(flatten)]
    pub unknown: Unknown,
}

impl JwtRequirement {
    fn is_understood(&self) -> bool {
        self.unknown.is_empty()
            && self.providers.iter().all(|provider| {
                provider.unknown.is_empty()
                    && provider
                        .verify_claims
                        .iter()
                        .all(|claim| claim.unknown.is_empty())
            })
    }
}

/// A provider, and claims that its token must have.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct JwtProvider {
    /// Name of a `jwt-provider` entry.
    pub name: String,
    /// Claims; all must hold.
    #[serde(deserialize_with = "nullable")]
    pub verify_claims: Vec<JwtClaim>,
    /// What this client doesn't know.
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// A claim with its value.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct JwtClaim {
    /// The claim's place in the token.
    #[serde(deserialize_with = "nullable")]
    pub path: Vec<String>,
    /// Its value.
    pub value: String,
    /// What this client doesn't know.
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// Reads an action that Go leaves empty when permissions decide.
fn action<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Action>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?.unwrap_or_default();
    Ok(match text.as_str() {
        "" => None,
        "allow" => Some(Action::Allow),
        "deny" => Some(Action::Deny),
        _ => Some(Action::Other),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn intention(json: &str) -> Intention {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn known_shape_is_understood() {
        let read = intention(
            r#"{"SourceName": "b", "Action": "", "Precedence": 9, "CreatedAt": null,
                "Permissions": [{"Action": "allow", "HTTP": {"PathPrefix": "/x",
                    "Header": [{"Name": "h", "Exact": "v", "Invert": true}], "Methods": ["GET"]},
                    "JWT": {"Providers": [{"Name": "okta",
                        "VerifyClaims": [{"Path": ["p"], "Value": "v"}]}]}}]}"#,
        );
        assert!(read.is_understood(), "{read:?}");
        assert_eq!(read.action, None);
        assert_eq!(read.permissions[0].action, Some(Action::Allow));
    }

    #[test]
    fn unknown_keys_stay_visible_at_any_depth() {
        for json in [
            r#"{"Action": "allow", "Quota": 3}"#,
            r#"{"Action": "audit"}"#,
            r#"{"Permissions": [{"Action": "allow", "GRPC": {}}]}"#,
            r#"{"Permissions": [{"HTTP": {"PathPrefix": "/"}}]}"#,
            r#"{"Permissions": [{"Action": "allow", "HTTP": {"Host": "a"}}]}"#,
            r#"{"Permissions": [{"Action": "allow", "HTTP": {"Header": [{"Like": "a"}]}}]}"#,
            r#"{"Action": "allow", "JWT": {"Providers": [{"Name": "a", "Audience": "b"}]}}"#,
            r#"{"Action": "allow", "JWT": {"Providers": [{"VerifyClaims": [{"Op": "b"}]}]}}"#,
        ] {
            assert!(!intention(json).is_understood(), "{json}");
        }
    }

    #[test]
    fn no_intention_is_null() {
        let none: IntentionMatch = serde_json::from_str(r#"{"web": null}"#).unwrap();
        assert_eq!(none.to("web"), Some(&[][..]));
        assert_eq!(none.to("db"), None);
    }
}
