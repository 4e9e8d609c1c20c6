//! Settings that are written for Envoy alone. None of them passes unnoticed.

use consul::agent::Proxy;
use meridian_model::Rejection;
use serde_json::{Map, Value};

/// Where Consul's Envoy tells metrics to scrapers. It has a meaning here too.
pub(crate) const SCRAPE: &str = "envoy_prometheus_bind_addr";

/// Names every key of a free-form configuration that is raw Envoy configuration or an Envoy
/// address. They have no meaning here.
pub(crate) fn escapes(resource: &str, config: &Map<String, Value>) -> Vec<Rejection> {
    config
        .iter()
        .filter(|(key, value)| key.starts_with("envoy_") && *key != SCRAPE && !is_unset(value))
        .map(|(key, _)| Rejection {
            resource: resource.to_owned(),
            reason: format!("`{key}` is Envoy's own configuration and is not honoured"),
        })
        .collect()
}

/// Names what a proxy asks for that is not served.
pub(crate) fn unserved(resource: &str, proxy: &Proxy) -> Vec<Rejection> {
    let mut rejected = escapes(resource, &proxy.config);
    let mut refuse = |reason: String| {
        rejected.push(Rejection {
            resource: resource.to_owned(),
            reason,
        });
    };
    if proxy.mutual_tls_mode == "permissive" {
        refuse("MutualTLSMode `permissive` is not served: connections need a certificate".into());
    }
    if proxy.mode == "transparent" {
        refuse("Mode `transparent` is not served: only listed upstreams are reachable".into());
    }
    rejected
}

fn is_unset(value: &Value) -> bool {
    value.is_null() || value.as_str() == Some("")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(proxy: Value) -> Vec<Rejection> {
        unserved("proxy web", &serde_json::from_value(proxy).unwrap())
    }

    #[test]
    fn raw_envoy_configuration_is_named_key_by_key() {
        let rejected = read(
            json!({"Config": {"protocol": "http", "envoy_cluster_json": "{}",
            "envoy_listener_json": "", "envoy_tracing_json": null,
            "envoy_prometheus_bind_addr": "0.0.0.0:9102", "envoy_stats_bind_addr": "0.0.0.0:9103"}}),
        );
        let reasons: Vec<_> = rejected.iter().map(|one| one.reason.as_str()).collect();
        assert_eq!(reasons.len(), 2, "{reasons:?}");
        assert!(reasons[0].contains("`envoy_cluster_json`"));
        assert!(reasons[1].contains("`envoy_stats_bind_addr`"));
    }

    #[test]
    fn unserved_modes_are_named() {
        let rejected = read(json!({"Mode": "transparent", "MutualTLSMode": "permissive",
            "AccessLogs": {"Enabled": true}}));
        assert_eq!(rejected.len(), 2);
        let plain = json!({"Mode": "direct", "MutualTLSMode": "strict"});
        assert_eq!(read(plain), Vec::new());
    }
}
