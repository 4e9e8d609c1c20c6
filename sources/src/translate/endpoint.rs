//! Instances with their checks, as endpoints.
//!
//! Health and weight follow Consul's Envoy (`calculateEndpointHealthAndWeight`): any critical
//! check makes an instance unhealthy; a warning has its own weight, and is unhealthy where only
//! passing instances are wanted; weight 0 is unhealthy; 128 is the most.

use consul::health::{CheckStatus, ServiceEntry};
use meridian_model::{Endpoint, EndpointAddress, Health, Rejection};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// How instances are seen.
#[derive(Debug, Clone, Copy)]
pub(crate) struct View<'a> {
    /// Whether a warning is as bad as a critical check (`Subset.OnlyPassing`).
    pub(crate) only_passing: bool,
    /// The proxy's datacenter: instances of others are called at their WAN address. `None` calls
    /// all of them at their LAN address.
    pub(crate) local_datacenter: Option<&'a str>,
}

/// Most that one instance may weigh (Envoy's cap).
const MAX_WEIGHT: u32 = 128;

/// Endpoints in the order of their instances' IDs, so that Consul's shuffling is no change.
/// An instance whose address is no IP address is left out and named.
pub(crate) fn endpoints<'a>(
    instances: impl IntoIterator<Item = &'a ServiceEntry>,
    view: View<'_>,
) -> (Arc<[Endpoint]>, Vec<Rejection>) {
    let mut rejected = Vec::new();
    let mut found = Vec::new();
    for instance in instances {
        match address(instance, view) {
            Ok(address) => {
                let (health, weight) = health_and_weight(instance, view.only_passing);
                found.push(Endpoint {
                    address,
                    weight,
                    health,
                    instance: instance.service.id.as_str().into(),
                });
            }
            Err(reason) => rejected.push(Rejection {
                resource: format!("instance {}", instance.service.id),
                reason,
            }),
        }
    }
    found.sort_by(|a, b| (&a.instance, &a.address).cmp(&(&b.instance, &b.address)));
    (found.into(), rejected)
}

fn address(instance: &ServiceEntry, view: View<'_>) -> Result<EndpointAddress, String> {
    let service = &instance.service;
    if !service.socket_path.is_empty() {
        return Ok(EndpointAddress::Unix(service.socket_path.as_str().into()));
    }
    let (host, port) = place(instance, view.local_datacenter);
    let ip: IpAddr = host
        .parse()
        .map_err(|_| format!("its address `{host}` is no IP address"))?;
    if port == 0 {
        return Err("it has no port".to_owned());
    }
    Ok(EndpointAddress::Tcp(SocketAddr::new(ip, port)))
}

/// Host and port to call, seen from a datacenter, or from the instance's own.
pub(crate) fn place<'a>(instance: &'a ServiceEntry, local: Option<&str>) -> (&'a str, u16) {
    let service = &instance.service;
    let home = &instance.node.datacenter;
    let remote = !home.is_empty() && local.is_some_and(|local| local != home);
    match service.tagged_addresses.wan.as_ref().filter(|_| remote) {
        Some(wan) if wan.port == 0 => (wan.address.as_str(), service.port),
        Some(wan) => (wan.address.as_str(), wan.port),
        None => {
            let node_wan = &instance.node.tagged_addresses.wan;
            let node_wan = node_wan.as_ref().filter(|_| remote);
            match node_wan.filter(|_| service.address.is_empty()) {
                Some(wan) => (wan.as_str(), service.port),
                None => (instance.address(), service.port),
            }
        }
    }
}

/// What the checks say, and the share.
pub(crate) fn health_and_weight(instance: &ServiceEntry, only_passing: bool) -> (Health, u32) {
    let weights = instance.service.weights;
    let (usable, weight) = match instance.status() {
        CheckStatus::Passing => (true, weights.passing),
        CheckStatus::Warning => (!only_passing, weights.warning),
        CheckStatus::Critical => (false, weights.passing),
    };
    let health = if usable && weight > 0 {
        Health::Healthy
    } else {
        Health::Unhealthy
    };
    (health, weight.clamp(1, MAX_WEIGHT))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    const VIEW: View<'_> = View {
        only_passing: false,
        local_datacenter: Some("dc1"),
    };

    fn instance(service: Value, checks: &[&str]) -> ServiceEntry {
        let checks: Vec<_> = checks.iter().map(|c| json!({"Status": c})).collect();
        serde_json::from_value(json!({
            "Node": {"Node": "n", "Address": "10.0.0.1", "Datacenter": "dc1"},
            "Service": service,
            "Checks": checks,
        }))
        .unwrap()
    }

    fn one(instance: ServiceEntry, view: View<'_>) -> Endpoint {
        let (endpoints, rejected) = endpoints(&[instance], view);
        assert_eq!(rejected, []);
        endpoints[0].clone()
    }

    #[test]
    fn health_and_weight_follow_envoy() {
        use Health::{Healthy, Unhealthy};
        let cases: [(&[&str], Value, bool, Health, u32); 8] = [
            (&[], json!(null), false, Healthy, 1),
            (
                &["passing"],
                json!({"Passing": 7, "Warning": 2}),
                false,
                Healthy,
                7,
            ),
            (
                &["passing", "warning"],
                json!({"Passing": 7, "Warning": 2}),
                false,
                Healthy,
                2,
            ),
            (
                &["warning"],
                json!({"Passing": 7, "Warning": 2}),
                true,
                Unhealthy,
                2,
            ),
            (
                &["critical", "passing"],
                json!({"Passing": 7, "Warning": 2}),
                false,
                Unhealthy,
                7,
            ),
            (
                &["passing"],
                json!({"Passing": 1000, "Warning": 1}),
                false,
                Healthy,
                128,
            ),
            (
                &["passing"],
                json!({"Passing": 0, "Warning": 1}),
                false,
                Unhealthy,
                1,
            ),
            (&["odd"], json!(null), false, Unhealthy, 1),
        ];
        for (checks, weights, only_passing, health, weight) in cases {
            let service = json!({"ID": "a", "Port": 1, "Weights": weights});
            let view = View {
                only_passing,
                ..VIEW
            };
            let made = one(instance(service, checks), view);
            assert_eq!((made.health, made.weight), (health, weight), "{checks:?}");
        }
    }

    #[test]
    fn address_falls_back_and_goes_wan_for_other_datacenters() {
        let far = View {
            local_datacenter: Some("dc2"),
            ..VIEW
        };
        let wan = |port| {
            json!({"ID": "a", "Address": "10.0.0.2", "Port": 80,
                "TaggedAddresses": {"wan": {"Address": "1.2.3.4", "Port": port}}})
        };
        let cases = [
            (json!({"ID": "a", "Port": 80}), VIEW, "10.0.0.1:80"),
            (
                json!({"ID": "a", "Address": "::1", "Port": 80}),
                VIEW,
                "[::1]:80",
            ),
            (wan(8080), VIEW, "10.0.0.2:80"),
            (wan(8080), far, "1.2.3.4:8080"),
            (wan(0), far, "1.2.3.4:80"),
            (json!({"ID": "a", "SocketPath": "/s"}), VIEW, "unix:/s"),
        ];
        for (service, view, expected) in cases {
            assert_eq!(
                one(instance(service, &[]), view).address.to_string(),
                expected
            );
        }
    }

    #[test]
    fn a_bad_instance_rejects_itself_only() {
        let good = instance(json!({"ID": "b", "Port": 1}), &[]);
        let host = instance(json!({"ID": "a", "Address": "example.com", "Port": 1}), &[]);
        let portless = instance(json!({"ID": "c"}), &[]);
        let (endpoints, rejected) = endpoints(&[host, good, portless], VIEW);
        assert_eq!(endpoints.len(), 1);
        assert_eq!(rejected.len(), 2);
    }

    #[test]
    fn order_of_the_answer_is_no_change() {
        let (a, b) = (
            instance(json!({"ID": "a", "Port": 1}), &[]),
            instance(json!({"ID": "b", "Port": 1}), &[]),
        );
        let forth = endpoints(&[a.clone(), b.clone()], VIEW).0;
        assert_eq!(forth, endpoints(&[b, a], VIEW).0);
    }
}
