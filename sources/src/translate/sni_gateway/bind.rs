//! Where such a gateway listens: at its own address, and where its configuration adds to that.

use super::SniGateway;
use crate::translate::foreign;
use crate::translate::inbound::ip;
use crate::translate::opaque::{Opaque, whole};
use consul::agent::AgentService;
use meridian_model::Rejection;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

/// What the gateway's `Config` says, and what of it was refused.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Settings {
    /// Addresses to listen at, by the name of their listener. No address is there twice.
    pub(crate) binds: Vec<(String, SocketAddr)>,
    /// `connect_timeout_ms`.
    pub(crate) connect_timeout: Option<Duration>,
    pub(crate) rejected: Vec<Rejection>,
}

/// Keys that are written for Envoy and mean something here, under their old names too.
const HONOURED: [&str; 6] = [
    "envoy_gateway_bind_tagged_addresses",
    "envoy_gateway_bind_addresses",
    "envoy_gateway_no_default_bind",
    "envoy_mesh_gateway_bind_tagged_addresses",
    "envoy_mesh_gateway_bind_addresses",
    "envoy_mesh_gateway_no_default_bind",
];

/// Reads the configuration that Consul merged into a gateway's registration.
pub(crate) fn settings(gateway: &SniGateway, registration: &AgentService) -> Settings {
    let empty = Map::new();
    let config = registration
        .proxy
        .as_ref()
        .map_or(&empty, |proxy| &proxy.config);
    let resource = format!("gateway {}", gateway.name);
    let mut opaque = Opaque::new(&resource, config);
    let connect_timeout = opaque
        .duration("connect_timeout_ms")
        .filter(|timeout| !timeout.is_zero());
    let mut rejected = opaque.rejected;
    let foreign = config
        .iter()
        .filter(|(key, _)| !HONOURED.contains(&key.as_str()))
        .map(|(key, value)| (key.clone(), value.clone()));
    rejected.extend(foreign::escapes(&resource, &foreign.collect()));
    let (binds, refused) = binds(gateway, registration, config);
    rejected.extend(refused.into_iter().map(|reason| Rejection {
        resource: resource.clone(),
        reason,
    }));
    Settings {
        binds,
        connect_timeout,
        rejected,
    }
}

/// In the order of their names, as Consul's Envoy dedupes them.
fn binds(
    gateway: &SniGateway,
    registration: &AgentService,
    config: &Map<String, Value>,
) -> (Vec<(String, SocketAddr)>, Vec<String>) {
    let mut wanted = BTreeMap::new();
    let mut refused = Vec::new();
    if !flag(config, "no_default_bind") {
        wanted.insert("default".to_owned(), gateway.address);
    }
    if flag(config, "bind_tagged_addresses") {
        for (name, tagged) in &registration.tagged_addresses {
            match ip(&tagged.address) {
                Ok(ip) => {
                    wanted.insert(name.clone(), SocketAddr::new(ip, tagged.port));
                }
                Err(reason) => refused.push(format!("cannot listen at address `{name}`: {reason}")),
            }
        }
    }
    match setting(config, "bind_addresses") {
        None | Some(Value::Null) => {}
        Some(Value::Object(table)) => {
            for (name, written) in table {
                match address(written) {
                    Ok(address) => {
                        wanted.insert(name.clone(), address);
                    }
                    Err(reason) => {
                        refused.push(format!("cannot listen at address `{name}`: {reason}"));
                    }
                }
            }
        }
        Some(other) => refused.push(format!(
            "`envoy_gateway_bind_addresses` is {other}, expected a table"
        )),
    }
    let mut binds: Vec<(String, SocketAddr)> = Vec::new();
    for (name, address) in wanted {
        if binds.iter().all(|(_, taken)| *taken != address) {
            binds.push((name, address));
        }
    }
    (binds, refused)
}

fn setting<'a>(config: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    config
        .get(&format!("envoy_gateway_{name}"))
        .or_else(|| config.get(&format!("envoy_mesh_gateway_{name}")))
}

/// Consul decodes weakly: text and numbers may stand for a switch.
fn flag(config: &Map<String, Value>, name: &str) -> bool {
    match setting(config, name) {
        Some(Value::Bool(on)) => *on,
        Some(Value::String(text)) => {
            matches!(text.as_str(), "1" | "t" | "T" | "true" | "TRUE" | "True")
        }
        Some(other) => whole(other).is_some_and(|number| number != 0),
        None => false,
    }
}

/// Keys are matched without case, like everything that Consul decodes.
fn address(written: &Value) -> Result<SocketAddr, String> {
    let table = written.as_object().ok_or("it is no table")?;
    let field = |name: &str| {
        let mut fields = table.iter();
        fields.find_map(|(key, value)| key.eq_ignore_ascii_case(name).then_some(value))
    };
    let host = field("address").and_then(Value::as_str);
    let port = field("port").and_then(whole);
    let port = port.and_then(|port| u16::try_from(port).ok());
    match (host, port) {
        (Some(host), Some(port)) if port != 0 => Ok(SocketAddr::new(ip(host)?, port)),
        _ => Err("it needs an `address` and a `port`".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(config: Value) -> Settings {
        let gateway = SniGateway {
            name: "mgw".to_owned(),
            address: "10.0.0.1:8443".parse().unwrap(),
        };
        let registration = json!({"ID": "mgw", "Proxy": {"Config": config}, "TaggedAddresses": {
            "lan": {"Address": "10.0.0.1", "Port": 8443},
            "wan": {"Address": "1.2.3.4", "Port": 443}}});
        settings(&gateway, &serde_json::from_value(registration).unwrap())
    }

    fn binds(config: Value) -> Vec<String> {
        let settings = read(config);
        assert_eq!(settings.rejected, []);
        let binds = settings.binds.iter();
        binds
            .map(|(name, address)| format!("{name} {address}"))
            .collect()
    }

    #[test]
    fn listens_at_its_address_and_where_it_is_told() {
        let own = "default 10.0.0.1:8443";
        assert_eq!(binds(json!({})), [own]);
        let tagged = json!({"envoy_gateway_bind_tagged_addresses": "true"});
        assert_eq!(binds(tagged), [own, "wan 1.2.3.4:443"], "each address once");
        let added = json!({"envoy_mesh_gateway_no_default_bind": true,
            "envoy_gateway_bind_addresses": {"more": {"Address": "10.0.0.2", "port": 9000}}});
        assert_eq!(binds(added), ["more 10.0.0.2:9000"]);
    }

    #[test]
    fn what_cannot_be_listened_at_is_named() {
        let settings = read(
            json!({"connect_timeout_ms": 700, "envoy_gateway_bind_addresses": {
            "host": {"address": "example.com", "port": 1}, "portless": {"address": "10.0.0.2"},
            "good": {"address": "10.0.0.3", "port": 2}}}),
        );
        assert_eq!(settings.connect_timeout, Some(Duration::from_millis(700)));
        assert_eq!(settings.binds.len(), 2, "{settings:?}");
        let named = |name: &str| {
            let mut reasons = settings.rejected.iter();
            reasons.any(|rejection| rejection.reason.contains(name))
        };
        assert!(named("`host`") && named("`portless`"), "{settings:?}");
    }

    #[test]
    fn other_settings_of_envoy_are_named() {
        let settings = read(json!({"envoy_gateway_remote_tcp_enable_keepalive": true,
            "envoy_dns_discovery_type": "strict_dns"}));
        assert_eq!(settings.rejected.len(), 2, "{settings:?}");
    }
}
