//! The token that requests carry, as Consul sees it.

use std::time::SystemTime;

use serde::Deserialize;

use crate::{
    call::Call,
    client::Client,
    query::Query,
    wire::{nullable, rfc3339},
};

impl Client {
    /// The client's own token (`GET /v1/acl/token/self`). Doesn't block: a watch polls.
    ///
    /// Every token may read itself. A deleted or expired one is refused
    /// ([`Error::is_token_refused`](crate::Error::is_token_refused)), and an agent without ACLs
    /// refuses all ([`Error::is_without_acls`](crate::Error::is_without_acls)).
    #[must_use]
    pub fn token_self(&self) -> Query<AclToken> {
        Query::new(
            self,
            Call::get("read own token", ["v1", "acl", "token", "self"]),
        )
    }
}

/// A token without its secret.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct AclToken {
    /// Its public ID: what operators and logs name it by.
    #[serde(rename = "AccessorID")]
    pub accessor_id: String,
    /// What somebody wrote about it.
    pub description: String,
    /// End of its life; RFC 3339. `None` lives until it is deleted.
    pub expiration_time: Option<String>,
    /// Its policies.
    #[serde(deserialize_with = "nullable")]
    pub policies: Vec<Named>,
    /// Its roles.
    #[serde(deserialize_with = "nullable")]
    pub roles: Vec<Named>,
    /// Services whose rights it has.
    #[serde(deserialize_with = "nullable")]
    pub service_identities: Vec<ServiceIdentity>,
}

/// A policy or a role.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Named {
    /// Its name.
    pub name: String,
}

/// The rights of a service and its sidecar.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ServiceIdentity {
    /// The service's name.
    pub service_name: String,
}

impl AclToken {
    /// End of its life, when it has one that can be read.
    #[must_use]
    pub fn expires(&self) -> Option<SystemTime> {
        rfc3339(self.expiration_time.as_deref()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, UNIX_EPOCH};

    #[test]
    fn reads_what_it_is_and_when_it_ends() {
        let token: AclToken = serde_json::from_str(
            r#"{"AccessorID": "a", "SecretID": "s", "Policies": null,
                "ServiceIdentities": [{"ServiceName": "web"}],
                "ExpirationTime": "1970-01-01T00:01:00Z"}"#,
        )
        .unwrap();
        assert_eq!(token.expires(), Some(UNIX_EPOCH + Duration::from_secs(60)));
        assert_eq!(token.service_identities[0].service_name, "web");
        assert_eq!(AclToken::default().expires(), None);
    }
}
