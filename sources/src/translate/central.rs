//! Central configuration that a proxy reads for itself: the agent merges `proxy-defaults` and
//! `service-defaults` into the registration that it shows, but leaves extensions out.

use super::extension::{self, Extensions};
use crate::knowledge::{Knowledge, NoEntry, Topic};
use consul::agent::{AgentService, Proxy};
use consul::entry::{Entry, ProxyDefaults, ServiceDefaults};
use meridian_model::Rejection;
use serde_json::Value;
use std::collections::BTreeSet;

/// Name of the only `proxy-defaults` entry.
const GLOBAL: &str = "global";

/// Why there is nothing to build on.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Obstacle {
    /// An entry was not answered yet.
    Waiting,
    /// An entry cannot be had, which may ask for what must be honoured; or it does, and a gateway
    /// can't honour it.
    Refused(String),
}

/// Entries to be followed for a sidecar of `service`, or a gateway that stands in for it.
pub(crate) fn wanted(service: &str) -> BTreeSet<Topic> {
    BTreeSet::from([
        Topic::Entry(ProxyDefaults::KIND, GLOBAL.to_owned()),
        Topic::Entry(ServiceDefaults::KIND, service.to_owned()),
    ])
}

/// Extensions and rate limits of a sidecar.
pub(crate) fn extensions(
    registration: &AgentService,
    proxy: &Proxy,
    knowledge: &Knowledge,
) -> Result<Extensions, Obstacle> {
    let resource = format!("proxy {}", registration.id);
    let everyone: ProxyDefaults = entry(knowledge, GLOBAL)?;
    let service: ServiceDefaults = entry(knowledge, &proxy.destination_service_name)?;
    // Consul's order. An agent that shows the merged list has the last word.
    let mut written = [everyone.envoy_extensions, service.envoy_extensions].concat();
    if !proxy.envoy_extensions.is_empty() {
        written.clone_from(&proxy.envoy_extensions);
    }
    // Consul passes over what is meant for another kind of proxy.
    written.retain(
        |extension| match extension["Arguments"]["ProxyType"].as_str() {
            Some(kind) => matches!(kind, "" | "connect-proxy"),
            None => true,
        },
    );
    let mut all = extension::extensions(&resource, &written, proxy);
    let limits = service.rate_limits.instance_level.as_ref();
    // Whoever registers the instance knows it best.
    let limit = match extension::from_meta(&registration.meta) {
        Ok(None) => limits.map_or(Ok(None), extension::instance_level),
        said => said,
    };
    match limit {
        Ok(limit) => all.inbound.rates.extend(limit),
        Err(reason) => all.rejected.push(Rejection { resource, reason }),
    }
    Ok(all)
}

/// What a terminating gateway does not honour of the extensions that a service asks it for.
pub(crate) fn unserved(service: &str, knowledge: &Knowledge) -> Result<Vec<Rejection>, Obstacle> {
    let everyone: ProxyDefaults = entry(knowledge, GLOBAL)?;
    let own: ServiceDefaults = entry(knowledge, service)?;
    let mut written = [everyone.envoy_extensions, own.envoy_extensions].concat();
    written.retain(is_for_terminating_gateways);
    let resource = format!("service {service}");
    let mut all = extension::extensions(&resource, &written, &Proxy::default());
    match all.refused.pop() {
        Some(refusal) => Err(Obstacle::Refused(refusal.reason)),
        None => Ok(all.rejected),
    }
}

/// Extensions say which kind of proxy they are for, and mean sidecars where they don't; but one
/// has no use anywhere else.
fn is_for_terminating_gateways(extension: &Value) -> bool {
    match extension["Arguments"]["ProxyType"].as_str() {
        Some(kind) => kind == "terminating-gateway",
        None => extension["Name"] == "builtin/aws/lambda",
    }
}

/// The entry; where there is none, one that says nothing.
fn entry<E: Entry + Default>(knowledge: &Knowledge, name: &str) -> Result<E, Obstacle> {
    match knowledge.entry(name) {
        Ok(entry) => Ok(entry),
        Err(NoEntry::Absent) => Ok(E::default()),
        Err(NoEntry::Waiting) => Err(Obstacle::Waiting),
        Err(NoEntry::Failed(reason)) => {
            let kind = E::KIND;
            Err(Obstacle::Refused(format!("no {kind} {name}: {reason}")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::knowledge::{Fact, News};
    use meridian_model::RateLimit;
    use serde_json::json;
    use std::sync::Arc;
    use std::time::SystemTime;

    fn known(proxy_defaults: Value, service_defaults: Value) -> Knowledge {
        let mut knowledge = Knowledge::default();
        for (kind, name, entry) in [
            (ProxyDefaults::KIND, GLOBAL, proxy_defaults),
            (ServiceDefaults::KIND, "web", service_defaults),
        ] {
            let topic = Topic::Entry(kind, name.to_owned());
            let fact = Fact::Entry(Arc::new(Some(entry).filter(|entry| !entry.is_null())));
            knowledge.take(topic, News::Learned(fact), SystemTime::UNIX_EPOCH);
        }
        knowledge
    }

    fn read(knowledge: &Knowledge, meta: Value) -> Result<Extensions, Obstacle> {
        let registration: AgentService = serde_json::from_value(json!({"ID": "web-proxy",
            "Meta": meta, "Proxy": {"DestinationServiceName": "web"}}))
        .unwrap();
        let proxy = registration.proxy.clone().unwrap();
        extensions(&registration, &proxy, knowledge)
    }

    fn limited(tokens: u32) -> Value {
        json!({"Name": "builtin/http/localratelimit", "Arguments": {"ProxyType": "connect-proxy",
            "MaxTokens": tokens, "FillInterval": 1, "FilterEnabled": 100, "FilterEnforced": 100}})
    }

    fn capacities(rates: &[RateLimit]) -> Vec<u32> {
        let buckets = rates.iter().filter_map(|rate| rate.bucket);
        buckets.map(|bucket| bucket.capacity.get()).collect()
    }

    #[test]
    fn extensions_of_all_proxies_come_before_those_of_the_service() {
        let knowledge = known(
            json!({"EnvoyExtensions": [limited(1)]}),
            json!({"EnvoyExtensions": [limited(2)],
                "RateLimits": {"InstanceLevel": {"RequestsPerSecond": 3}}}),
        );
        let all = read(&knowledge, json!({})).unwrap();
        assert_eq!(capacities(&all.inbound.rates), [1, 2, 3]);
        assert_eq!(all.rejected, []);
    }

    #[test]
    fn what_is_meant_for_another_kind_of_proxy_is_passed_over() {
        let lua = |kind| json!({"Name": "builtin/lua", "Required": true, "Arguments": {"ProxyType": kind}});
        let entry = |kind| json!({ "EnvoyExtensions": [lua(kind)] });
        let other = known(entry("terminating-gateway"), Value::Null);
        assert_eq!(read(&other, json!({})), Ok(Extensions::default()));
        let ours = known(entry("connect-proxy"), Value::Null);
        assert_eq!(read(&ours, json!({})).unwrap().refused.len(), 1);
    }

    #[test]
    fn the_registrations_own_limit_wins_over_the_entrys() {
        let entry = json!({"RateLimits": {"InstanceLevel": {"RequestsPerSecond": 3}}});
        let knowledge = known(Value::Null, entry);
        let meta = |text: &str| json!({"meridian-rate-limit": text});
        let all = read(&knowledge, meta(r#"{"RequestsPerSecond": 7}"#)).unwrap();
        assert_eq!(capacities(&all.inbound.rates), [7]);
        let all = read(&knowledge, meta("{")).unwrap();
        assert_eq!(all.inbound.rates, []);
        assert_eq!(all.rejected.len(), 1);
    }

    #[test]
    fn nothing_is_served_without_entries_that_cannot_be_had() {
        let empty = Knowledge::default();
        assert_eq!(read(&empty, json!({})), Err(Obstacle::Waiting));
        let none = known(Value::Null, Value::Null);
        assert_eq!(read(&none, json!({})), Ok(Extensions::default()));
        let mut failing = known(Value::Null, Value::Null);
        failing.keep(&BTreeSet::new());
        let topic = Topic::Entry(ProxyDefaults::KIND, GLOBAL.to_owned());
        let news = News::Failed(crate::knowledge::Trouble::answer("away"));
        failing.take(topic, news, SystemTime::UNIX_EPOCH);
        let Err(Obstacle::Refused(reason)) = read(&failing, json!({})) else {
            panic!("an unread entry may hold a required extension");
        };
        assert!(reason.contains("proxy-defaults") && reason.contains("away"));
    }
}
