//! Health checks that have not run yet.
//!
//! An agent that restarts, or a registration that is written again, begins every check as
//! critical without output, until its first run. That says nothing of the instance: taken at its
//! word, each restart of an agent would take every instance beside it out of service for an
//! interval. So a known instance keeps the state that its check had, and is not judged by a check
//! that the agent added at its start (Consul 1.20 adds "Connect Sidecar Listening" to sidecars that
//! were registered with checks of their own); a new one stays out until its checks have run, as
//! Consul means it.

use consul::health::{Check, CheckStatus, ServiceEntry};
use std::sync::Arc;

/// `now`, with the last known state of checks that have not run.
pub(crate) fn settled(
    before: &[ServiceEntry],
    now: &Arc<Vec<ServiceEntry>>,
) -> Arc<Vec<ServiceEntry>> {
    if !now.iter().flat_map(|entry| &entry.checks).any(has_not_run) {
        return Arc::clone(now);
    }
    let mut entries = now.as_ref().clone();
    for entry in &mut entries {
        let Some(known) = before.iter().find(|known| is_same(known, entry)) else {
            continue;
        };
        for check in entry.checks.iter_mut().filter(|check| has_not_run(check)) {
            let mut checks = known.checks.iter();
            let last = checks.find(|last| last.check_id == check.check_id);
            check.status = match last {
                Some(last) => last.status,
                // A check that the agent added has nothing to say yet, for or against.
                None if is_run(&check.kind) => CheckStatus::Passing,
                // Somebody said so: the service itself, or whoever wrote it into the catalog.
                None => continue,
            };
        }
    }
    Arc::new(entries)
}

fn has_not_run(check: &Check) -> bool {
    // Maintenance is an operator's word, and needs no output.
    check.status == CheckStatus::Critical && !check.has_output && check.kind != "maintenance"
}

/// Whether an agent runs checks of this kind.
fn is_run(kind: &str) -> bool {
    const RUN: [&str; 9] = [
        "tcp",
        "udp",
        "http",
        "h2ping",
        "grpc",
        "script",
        "docker",
        "alias",
        "os_service",
    ];
    RUN.contains(&kind)
}

/// Another address is another instance, whatever its ID.
fn is_same(one: &ServiceEntry, other: &ServiceEntry) -> bool {
    one.node.node == other.node.node
        && one.service.id == other.service.id
        && one.address() == other.address()
        && one.service.port == other.service.port
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn entry(port: u16, status: &str, output: &str) -> ServiceEntry {
        serde_json::from_value(json!({
            "Node": {"Node": "n", "Address": "10.0.0.1"},
            "Service": {"ID": "web-1", "Service": "web", "Port": port},
            "Checks": [
                {"CheckID": "tcp", "Type": "tcp", "Status": status, "Output": output},
            ],
        }))
        .unwrap()
    }

    fn status(before: &[ServiceEntry], now: ServiceEntry) -> CheckStatus {
        settled(before, &Arc::new(vec![now]))[0].status()
    }

    #[test]
    fn a_check_that_has_not_run_keeps_its_last_state() {
        let passing = [entry(80, "passing", "connected")];
        assert_eq!(
            status(&passing, entry(80, "critical", "")),
            CheckStatus::Passing
        );
        let critical = [entry(80, "critical", "refused")];
        assert_eq!(
            status(&critical, entry(80, "critical", "")),
            CheckStatus::Critical
        );
    }

    #[test]
    fn a_check_that_ran_is_believed() {
        let passing = [entry(80, "passing", "connected")];
        let refused = entry(80, "critical", "refused");
        assert_eq!(status(&passing, refused), CheckStatus::Critical);
    }

    #[test]
    fn a_check_that_was_added_does_not_judge_before_it_has_run() {
        let mut now = entry(80, "critical", "");
        now.checks[0].check_id = "added".to_owned();
        let passing = [entry(80, "passing", "connected")];
        assert_eq!(status(&passing, now.clone()), CheckStatus::Passing);
        now.checks[0].kind = "ttl".to_owned();
        assert_eq!(status(&passing, now.clone()), CheckStatus::Critical);
        now.checks[0].has_output = true;
        assert_eq!(status(&passing, now), CheckStatus::Critical);
    }

    /// `consul maint` writes a critical check without output, while the others pass.
    #[test]
    fn maintenance_is_believed_at_once() {
        let before = [entry(80, "passing", "connected")];
        let mut now = entry(80, "passing", "connected");
        let mut maintenance = now.checks[0].clone();
        maintenance.check_id = "_service_maintenance:web-1".to_owned();
        maintenance.kind = "maintenance".to_owned();
        maintenance.status = CheckStatus::Critical;
        maintenance.has_output = false;
        now.checks.push(maintenance);
        assert_eq!(status(&before, now), CheckStatus::Critical);
    }

    #[test]
    fn a_check_that_nobody_runs_is_believed() {
        let mut now = entry(80, "critical", "");
        now.checks[0].check_id = "external".to_owned();
        now.checks[0].kind = String::new();
        let before = [entry(80, "passing", "connected")];
        assert_eq!(status(&before, now), CheckStatus::Critical);
    }

    #[test]
    fn a_new_instance_waits_for_its_first_check() {
        assert_eq!(
            status(&[], entry(80, "critical", "")),
            CheckStatus::Critical
        );
        let elsewhere = [entry(81, "passing", "connected")];
        assert_eq!(
            status(&elsewhere, entry(80, "critical", "")),
            CheckStatus::Critical
        );
    }
}
