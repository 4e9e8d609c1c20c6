//! Nodes of a chain: router, splitter, resolver.

use std::time::Duration;

use serde::{Deserialize, Deserializer, de};
use serde_json::Value;

use super::route::{Route, Split};
use crate::wire::{TimeLimit, Unknown, duration, nullable};

/// One node.
#[derive(Clone, Debug, PartialEq)]
pub enum Node {
    /// Picks the next node by request.
    Router(RouterNode),
    /// Picks the next node by chance.
    Splitter(SplitterNode),
    /// Leads to a target.
    Resolver(ResolverNode),
    /// A kind that this client doesn't know: routing through it must fail loudly.
    Unknown {
        /// `Type`, as Consul says it.
        kind: String,
        /// The node, as Consul says it.
        raw: Value,
    },
}

/// A router. Its last route matches everything.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct RouterNode {
    /// Its name.
    pub name: String,
    /// Routes, first match first. They lead to splitters and resolvers.
    #[serde(deserialize_with = "nullable")]
    pub routes: Vec<Route>,
}

/// A splitter. Splitters behind splitters are already multiplied out.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct SplitterNode {
    /// Its name.
    pub name: String,
    /// Splits. They lead to resolvers.
    #[serde(deserialize_with = "nullable")]
    pub splits: Vec<Split>,
    /// How instances are picked.
    #[serde(deserialize_with = "nullable")]
    pub load_balancer: Option<LoadBalancer>,
}

/// A resolver. Redirects are already applied.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ResolverNode {
    /// Its name.
    pub name: String,
    /// No service-resolver entry stands behind it.
    pub default: bool,
    /// Time to connect; `None` is not set.
    pub connect_timeout: Option<Duration>,
    /// Time for a whole request.
    pub request_timeout: TimeLimit,
    /// ID of its target.
    pub target: String,
    /// Where to go when the target has no healthy instance.
    pub failover: Option<Failover>,
    /// How instances are picked.
    pub load_balancer: Option<LoadBalancer>,
}

/// Where to go when a target has no healthy instance.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Failover {
    /// Target IDs in the order of preference.
    #[serde(deserialize_with = "nullable")]
    pub targets: Vec<String>,
    /// How the order is meant.
    #[serde(deserialize_with = "nullable")]
    pub policy: Option<FailoverPolicy>,
}

/// How the order of failover targets is meant.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct FailoverPolicy {
    /// `sequential`, `order-by-locality` or empty.
    pub mode: String,
    /// Regions, nearest first.
    #[serde(deserialize_with = "nullable")]
    pub regions: Vec<String>,
}

/// How instances are picked.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct LoadBalancer {
    /// `random`, `round_robin`, `least_request`, `ring_hash`, `maglev` or empty.
    pub policy: String,
    /// Settings of `ring_hash`.
    #[serde(deserialize_with = "nullable")]
    pub ring_hash_config: Option<RingHashConfig>,
    /// Settings of `least_request`.
    #[serde(deserialize_with = "nullable")]
    pub least_request_config: Option<LeastRequestConfig>,
    /// What is hashed, for `ring_hash` and `maglev`.
    #[serde(deserialize_with = "nullable")]
    pub hash_policies: Vec<HashPolicy>,
    /// What this client doesn't know.
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// Settings of `ring_hash`; 0 is the proxy's default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct RingHashConfig {
    /// Least number of entries in the ring.
    pub minimum_ring_size: u64,
    /// Greatest number of entries in the ring.
    pub maximum_ring_size: u64,
}

/// Settings of `least_request`; 0 is the proxy's default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct LeastRequestConfig {
    /// How many instances are compared.
    pub choice_count: u32,
}

/// One thing to hash: a field of the request, or the source address.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct HashPolicy {
    /// `header`, `cookie` or `query_parameter`; empty for the source address.
    pub field: String,
    /// The field's name.
    pub field_value: String,
    /// How a cookie is made when it is missing.
    #[serde(deserialize_with = "nullable")]
    pub cookie_config: Option<CookieConfig>,
    /// Hash the source address.
    #[serde(rename = "SourceIP")]
    pub source_ip: bool,
    /// Later policies don't count when this one yields something.
    pub terminal: bool,
}

/// How a cookie is made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct CookieConfig {
    /// A session cookie, without a life span.
    pub session: bool,
    /// Its life span.
    #[serde(rename = "TTL", deserialize_with = "duration")]
    pub ttl: Option<Duration>,
    /// Its path.
    pub path: String,
}

/// A resolver as it is on the wire: half of it one level deeper.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct ResolverWire {
    name: String,
    #[serde(deserialize_with = "nullable")]
    resolver: ResolverInner,
    #[serde(deserialize_with = "nullable")]
    load_balancer: Option<LoadBalancer>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct ResolverInner {
    default: bool,
    #[serde(deserialize_with = "duration")]
    connect_timeout: Option<Duration>,
    request_timeout: TimeLimit,
    target: String,
    #[serde(deserialize_with = "nullable")]
    failover: Option<Failover>,
}

impl From<ResolverWire> for ResolverNode {
    fn from(wire: ResolverWire) -> Self {
        let ResolverWire {
            name,
            resolver,
            load_balancer,
        } = wire;
        Self {
            name,
            default: resolver.default,
            connect_timeout: resolver.connect_timeout,
            request_timeout: resolver.request_timeout,
            target: resolver.target,
            failover: resolver.failover,
            load_balancer,
        }
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Value::deserialize(deserializer)?;
        let kind = raw
            .get("Type")
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned();
        match kind.as_str() {
            "router" => serde_json::from_value(raw).map(Self::Router),
            "splitter" => serde_json::from_value(raw).map(Self::Splitter),
            "resolver" => {
                serde_json::from_value::<ResolverWire>(raw).map(|wire| Self::Resolver(wire.into()))
            }
            _ => Ok(Self::Unknown { kind, raw }),
        }
        .map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolver_timeouts_are_text_or_nanoseconds() {
        let node: Node = serde_json::from_str(
            r#"{"Type": "resolver", "Name": "web.default.default.dc1", "Resolver": {
                "ConnectTimeout": "5s", "RequestTimeout": 7000000000, "Target": "t"}}"#,
        )
        .unwrap();
        let expected = ResolverNode {
            name: "web.default.default.dc1".to_owned(),
            connect_timeout: Some(Duration::from_secs(5)),
            request_timeout: TimeLimit::After(Duration::from_secs(7)),
            target: "t".to_owned(),
            ..ResolverNode::default()
        };
        assert_eq!(node, Node::Resolver(expected));
    }

    #[test]
    fn unknown_kind_is_kept() {
        let node: Node = serde_json::from_str(r#"{"Type": "mirror", "To": "a"}"#).unwrap();
        let Node::Unknown { kind, raw } = node else {
            panic!("{node:?}")
        };
        assert_eq!((kind.as_str(), raw["To"].as_str()), ("mirror", Some("a")));
    }
}
