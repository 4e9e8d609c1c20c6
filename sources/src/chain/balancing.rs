//! A resolver's `LoadBalancer`.

use consul::chain::{HashPolicy as WrittenHash, LoadBalancer};
use http::HeaderName;
use meridian_model::policy::{HashOn, HashPolicy, LoadBalancing};
use std::time::Duration;

/// Envoy's `choice_count`.
const CHOICES: u32 = 2;
/// Envoy's `minimum_ring_size` and `maximum_ring_size`.
const RING: (u64, u64) = (1024, 8 * 1024 * 1024);

/// Translates it; an error says what is not understood.
pub(crate) fn balancing(written: &LoadBalancer) -> Result<LoadBalancing, String> {
    if let Some(key) = written.unknown.keys().next() {
        return Err(format!("LoadBalancer has the unknown field `{key}`"));
    }
    Ok(match written.policy.as_str() {
        "" | "round_robin" => LoadBalancing::RoundRobin,
        "random" => LoadBalancing::Random,
        "least_request" => LoadBalancing::LeastRequest {
            choices: written
                .least_request_config
                .map(|config| config.choice_count)
                .filter(|count| *count > 0)
                .unwrap_or(CHOICES),
        },
        "ring_hash" => {
            let ring = written.ring_hash_config.unwrap_or_default();
            let or = |size, default| if size == 0 { default } else { size };
            let min_size = or(ring.minimum_ring_size, RING.0);
            LoadBalancing::RingHash {
                min_size,
                max_size: or(ring.maximum_ring_size, RING.1).max(min_size),
                hash: hashes(&written.hash_policies)?,
            }
        }
        "maglev" => LoadBalancing::Maglev {
            hash: hashes(&written.hash_policies)?,
        },
        other => return Err(format!("LoadBalancer has the unknown policy `{other}`")),
    })
}

fn hashes(written: &[WrittenHash]) -> Result<Vec<HashPolicy>, String> {
    written
        .iter()
        .map(|policy| {
            Ok(HashPolicy {
                on: hash_on(policy)?,
                terminal: policy.terminal,
            })
        })
        .collect()
}

fn hash_on(policy: &WrittenHash) -> Result<HashOn, String> {
    let name = &policy.field_value;
    match policy.field.as_str() {
        "" if policy.source_ip => Ok(HashOn::SourceIp),
        "header" => HeaderName::from_bytes(name.as_bytes())
            .map(HashOn::Header)
            .map_err(|_| format!("`{name}` is no header name")),
        "query_parameter" => Ok(HashOn::Query(name.clone())),
        "cookie" => {
            let config = policy.cookie_config.clone().unwrap_or_default();
            Ok(HashOn::Cookie {
                name: name.clone(),
                ttl: if config.session {
                    Some(Duration::ZERO)
                } else {
                    config.ttl
                },
                path: config.path,
            })
        }
        other => Err(format!("hash policy has the unknown field `{other}`")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(written: serde_json::Value) -> Result<LoadBalancing, String> {
        balancing(&serde_json::from_value(written).unwrap())
    }

    #[test]
    fn every_policy_has_envoys_defaults() {
        let cases = [
            (json!({}), LoadBalancing::RoundRobin),
            (json!({"Policy": "random"}), LoadBalancing::Random),
            (
                json!({"Policy": "least_request"}),
                LoadBalancing::LeastRequest { choices: 2 },
            ),
            (
                json!({"Policy": "ring_hash", "RingHashConfig": {"MinimumRingSize": 10}}),
                LoadBalancing::RingHash {
                    min_size: 10,
                    max_size: 8 * 1024 * 1024,
                    hash: Vec::new(),
                },
            ),
        ];
        for (written, expected) in cases {
            assert_eq!(read(written), Ok(expected));
        }
    }

    #[test]
    fn hash_policies_keep_order_and_kind() {
        let made = read(json!({"Policy": "maglev", "HashPolicies": [
            {"Field": "cookie", "FieldValue": "c", "CookieConfig": {"TTL": 3000000000u64, "Path": "/"}},
            {"Field": "cookie", "FieldValue": "s", "CookieConfig": {"Session": true}},
            {"Field": "header", "FieldValue": "X-User"},
            {"SourceIP": true, "Terminal": true},
        ]}));
        let Ok(LoadBalancing::Maglev { hash }) = made else {
            panic!("{made:?}")
        };
        let cookie = |name: &str, ttl, path: &str| HashOn::Cookie {
            name: name.into(),
            ttl: Some(ttl),
            path: path.into(),
        };
        assert_eq!(hash[0].on, cookie("c", Duration::from_secs(3), "/"));
        assert_eq!(hash[1].on, cookie("s", Duration::ZERO, ""));
        assert_eq!(hash[2].on, HashOn::Header("x-user".parse().unwrap()));
        assert_eq!((&hash[3].on, hash[3].terminal), (&HashOn::SourceIp, true));
    }

    #[test]
    fn unknown_policies_are_errors() {
        assert!(read(json!({"Policy": "psychic"})).is_err());
        assert!(read(json!({"SlowStart": {}})).is_err());
        assert!(read(json!({"Policy": "maglev", "HashPolicies": [{"Field": "body"}]})).is_err());
    }
}
