//! `Expose.Checks`: paths and ports of the service's own checks.
//!
//! The agent lets HTTP and gRPC checks go through the sidecar at ports that it assigns. Of what it
//! assigned, its API tells the port, and the path only in the words of the check's last run. The
//! port of the application it doesn't tell: it is taken to be the service's own.

use consul::agent::{AgentCheck, ExposePath, Proxy};
use consul::health::CheckStatus;
use meridian_model::Rejection;
use std::collections::BTreeMap;

/// What gRPC checks call.
const GRPC_HEALTH: &str = "/grpc.health.v1.Health/Check";

/// Paths to be exposed, and the checks of which they can't be found out.
pub(super) fn paths(
    proxy: &Proxy,
    checks: &BTreeMap<String, AgentCheck>,
) -> (Vec<ExposePath>, Vec<Rejection>) {
    let mut found = Vec::new();
    let mut rejected = Vec::new();
    for (id, check) in checks {
        // Those that don't go through the sidecar, or not yet.
        if check.exposed_port == 0 {
            continue;
        }
        let (path, protocol) = match check.kind.as_str() {
            "grpc" => (Some(GRPC_HEALTH.to_owned()), "http2"),
            _ => (path_of(check), "http"),
        };
        match path {
            Some(path) => found.push(ExposePath {
                listener_port: check.exposed_port,
                path,
                local_path_port: proxy.local_service_port,
                protocol: protocol.to_owned(),
                parsed_from_check: true,
            }),
            // Its first run will tell.
            None if check.status == CheckStatus::Critical => {}
            None => rejected.push(Rejection {
                resource: format!("exposed check {id}"),
                reason: "the agent does not say which path it calls; name it under Expose.Paths"
                    .to_owned(),
            }),
        }
    }
    (found, rejected)
}

/// The path that a check called at its port of the sidecar.
fn path_of(check: &AgentCheck) -> Option<String> {
    let rest = check.called.as_deref()?.strip_prefix("http://")?;
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, target) = rest.split_at(end);
    let (_, port) = authority.rsplit_once(':')?;
    if port.parse() != Ok(check.exposed_port) {
        return None;
    }
    let path = target.split(['?', '#']).next().unwrap_or_default();
    Some(if path.is_empty() { "/" } else { path }.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn read(check: Value) -> (Vec<ExposePath>, Vec<Rejection>) {
        let proxy: Proxy = serde_json::from_value(json!({"LocalServicePort": 8080})).unwrap();
        let checks = BTreeMap::from([("c".to_owned(), serde_json::from_value(check).unwrap())]);
        paths(&proxy, &checks)
    }

    fn http(output: &str) -> (Vec<ExposePath>, Vec<Rejection>) {
        read(json!({"Type": "http", "ExposedPort": 21500, "Status": "passing", "Output": output}))
    }

    #[test]
    fn an_http_check_exposes_the_path_it_called() {
        for (url, path) in [
            ("http://127.0.0.1:21500/health?x=1", "/health"),
            ("http://127.0.0.1:21500", "/"),
            ("http://127.0.0.1:21500?x", "/"),
            ("http://[::1]:21500/a/b", "/a/b"),
        ] {
            let (found, rejected) = http(&format!("HTTP GET {url}: 200 OK Output: x"));
            assert_eq!(rejected, [], "{url}");
            let expected = ExposePath {
                listener_port: 21500,
                path: path.to_owned(),
                local_path_port: 8080,
                protocol: "http".to_owned(),
                parsed_from_check: true,
            };
            assert_eq!(found, [expected], "{url}");
        }
    }

    #[test]
    fn a_grpc_check_exposes_the_health_method() {
        let (found, _) = read(json!({"Type": "grpc", "ExposedPort": 21501}));
        assert_eq!(found[0].path, GRPC_HEALTH);
        assert_eq!(found[0].protocol, "http2");
    }

    #[test]
    fn what_is_not_told_is_named_once_it_should_be_known() {
        let waiting = json!({"Type": "http", "ExposedPort": 21500, "Status": "critical"});
        assert_eq!(read(waiting), (Vec::new(), Vec::new()));
        // The output is discarded, or belongs to a run before the port was assigned.
        for output in ["", "HTTP GET http://127.0.0.1:8080/health: 200 OK"] {
            let (found, rejected) = http(output);
            assert_eq!((found.len(), rejected.len()), (0, 1), "{output}");
        }
    }

    #[test]
    fn other_checks_keep_to_themselves() {
        let tcp = json!({"Type": "tcp", "ExposedPort": 0, "Status": "passing"});
        assert_eq!(read(tcp), (Vec::new(), Vec::new()));
    }
}
