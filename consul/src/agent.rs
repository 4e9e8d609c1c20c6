//! The agent's own endpoints: itself, the services registered with it, and Connect certificates.

mod check;
mod connect;
mod proxy;
mod registration;
mod service;

use std::collections::BTreeMap;

use serde::Deserialize;

pub use check::AgentCheck;
pub use connect::{Leaf, Root, Roots};
pub use proxy::{Expose, ExposePath, MeshGateway, Proxy, TransparentProxy, Upstream, UpstreamKind};
pub use registration::{
    CheckRegistration, ConnectRegistration, ServiceRegistration, TaggedAddress,
};
pub use service::{AgentService, ServiceKind, Weights};

use crate::{
    call::Call, client::Client, error::Error, intention::Action, query::Query, wire::nullable,
};

impl Client {
    /// The agent itself (`GET /v1/agent/self`). Doesn't block: a watch polls.
    #[must_use]
    pub fn agent_self(&self) -> Query<AgentSelf> {
        Query::new(self, Call::get("read agent", ["v1", "agent", "self"]))
    }

    /// All services registered with the agent, by ID (`GET /v1/agent/services`). Doesn't block.
    #[must_use]
    pub fn agent_services(&self) -> Query<BTreeMap<String, AgentService>> {
        Query::new(
            self,
            Call::get("list agent services", ["v1", "agent", "services"]),
        )
    }

    /// One service registered with the agent, with central configuration merged in
    /// (`GET /v1/agent/service/:id`). Blocks by content hash. An unknown ID is a 404 error at
    /// once, so a watch on it retries with backoff until the service is registered.
    #[must_use]
    pub fn agent_service(&self, id: &str) -> Query<AgentService> {
        Query::new(
            self,
            Call::get("read agent service", ["v1", "agent", "service", id]),
        )
    }

    /// Registers a service, or replaces it together with its checks
    /// (`PUT /v1/agent/service/register`).
    pub async fn register_service(&self, service: &ServiceRegistration) -> Result<(), Error> {
        let path = ["v1", "agent", "service", "register"];
        let call = Call::put("register service", path)
            .with("replace-existing-checks", "true")
            .json(service);
        self.send_unit(&call).await
    }

    /// Takes a service and its checks out (`PUT /v1/agent/service/deregister/:id`). An unknown ID
    /// is a 404 error.
    pub async fn deregister_service(&self, id: &str) -> Result<(), Error> {
        let path = ["v1", "agent", "service", "deregister", id];
        self.send_unit(&Call::put("deregister service", path)).await
    }
}

/// What an agent says about itself, as far as a proxy cares.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct AgentSelf {
    /// The settings that Consul promises to keep.
    pub config: AgentConfig,
    /// More settings, without a promise: absent fields are the empty value.
    pub debug_config: DebugConfig,
    /// Where it serves proxies over gRPC.
    #[serde(rename = "xDS", deserialize_with = "nullable")]
    pub xds: XdsSettings,
    /// The agent as others of its cluster know it.
    #[serde(deserialize_with = "nullable")]
    pub member: Member,
}

/// `Member` of [`AgentSelf`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Member {
    /// The advertised address; empty where it is not known.
    pub addr: String,
}

/// `xDS` of [`AgentSelf`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct XdsSettings {
    /// Its ports.
    #[serde(deserialize_with = "nullable")]
    pub ports: XdsPorts,
}

/// gRPC ports of an agent. A number that is no port stands for none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct XdsPorts {
    plaintext: i32,
    #[serde(rename = "TLS")]
    tls: i32,
}

impl XdsPorts {
    /// Consul's usual ports.
    pub const USUAL: Self = Self {
        plaintext: 8502,
        tls: 8503,
    };

    /// The port in plain text.
    #[must_use]
    pub fn plaintext(&self) -> Option<u16> {
        u16::try_from(self.plaintext).ok().filter(|port| *port > 0)
    }

    /// The port over TLS.
    #[must_use]
    pub fn tls(&self) -> Option<u16> {
        u16::try_from(self.tls).ok().filter(|port| *port > 0)
    }
}

/// `Config` of [`AgentSelf`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct AgentConfig {
    /// The agent's datacenter.
    pub datacenter: String,
    /// The datacenter whose CA and ACLs count.
    pub primary_datacenter: String,
    /// The agent's node.
    pub node_name: String,
    /// The node's ID.
    #[serde(rename = "NodeID")]
    pub node_id: String,
    /// The admin partition (Enterprise), else empty.
    pub partition: String,
    /// Whether the agent is a server.
    pub server: bool,
    /// Consul's version.
    pub version: String,
}

/// `DebugConfig` of [`AgentSelf`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct DebugConfig {
    /// `default_intention_policy`: `allow`, `deny`, or empty when not set.
    pub default_intention_policy: String,
    /// `domain`, with its final dot: the last part of names in DNS and in servers' certificates.
    #[serde(rename = "DNSDomain")]
    pub dns_domain: String,
    /// ACL settings.
    #[serde(rename = "ACLResolverSettings", deserialize_with = "nullable")]
    pub acl: AclSettings,
    /// Whether ACLs are enforced.
    #[serde(rename = "ACLsEnabled")]
    pub acls_enabled: bool,
}

/// `ACLResolverSettings` of [`DebugConfig`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct AclSettings {
    /// `acl.default_policy`: `allow` or `deny`.
    #[serde(rename = "ACLDefaultPolicy")]
    pub default_policy: String,
}

impl AgentSelf {
    /// What happens to a connection that no intention matches: `default_intention_policy`, or
    /// else `acl.default_policy`, which proxies obey even while ACLs are off. Neither one known
    /// denies.
    #[must_use]
    pub fn default_intention(&self) -> Action {
        let DebugConfig {
            default_intention_policy,
            acl,
            ..
        } = &self.debug_config;
        match (
            default_intention_policy.as_str(),
            acl.default_policy.as_str(),
        ) {
            ("allow", _) | ("", "allow") => Action::Allow,
            _ => Action::Deny,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(intention: &str, acl: &str) -> Action {
        AgentSelf {
            debug_config: DebugConfig {
                default_intention_policy: intention.to_owned(),
                acl: AclSettings {
                    default_policy: acl.to_owned(),
                },
                ..DebugConfig::default()
            },
            ..AgentSelf::default()
        }
        .default_intention()
    }

    #[test]
    fn default_intention_prefers_its_own_setting() {
        assert_eq!(policy("allow", "deny"), Action::Allow);
        assert_eq!(policy("deny", "allow"), Action::Deny);
        assert_eq!(policy("", "allow"), Action::Allow);
        assert_eq!(policy("", "deny"), Action::Deny);
    }

    #[test]
    fn unknown_default_intention_denies() {
        assert_eq!(policy("", ""), Action::Deny);
        assert_eq!(policy("maybe", "allow"), Action::Deny);
    }
}
