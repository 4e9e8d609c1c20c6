//! The agent: does it answer, has its cluster a leader, what version is it, and what time.

use super::report::{Report, Verdict};
use super::trouble::explain;
use consul::Client;
use consul::catalog::CatalogService;
use std::time::{Duration, SystemTime};

/// The oldest version whose discovery chains and intentions are known to be read as they are meant:
/// 1.17 brought JWT providers.
const OLDEST: (u32, u32) = (1, 17);

/// Returns whether there is anything to go on with.
pub(super) async fn check(client: &Client, report: &mut Report) -> bool {
    let before = SystemTime::now();
    let answer = match client.leader().once().await {
        Ok(answer) => answer,
        Err(error) => {
            report.failed(&error, "");
            return false;
        }
    };
    report.good(format!("the agent answers at {}", client.config().address));
    let has_leader = !answer.value.is_empty();
    if has_leader {
        report.good(format!("its cluster has a leader, {}", answer.value));
    } else {
        report.bad(
            "its cluster has no leader",
            "start the servers that are missing: consul operator raft list-peers",
        );
    }
    clocks(before, SystemTime::now(), answer.meta.date, report);
    if has_leader {
        version(client, report).await;
    }
    has_leader
}

/// Servers say their version in the catalog, which a sidecar's token may read.
async fn version(client: &Client, report: &mut Report) {
    let servers = match client.catalog_service("consul").once().await {
        Ok(answer) => answer.value,
        Err(error) => {
            let (finding, remedy) = explain(&error, "service:read and node:read");
            report.warn(format!("versions can't be read: {finding}"), remedy);
            return;
        }
    };
    let version = |one: &CatalogService| one.service_meta.get("version").cloned();
    let Some(oldest) = servers.iter().filter_map(version).min_by_key(|v| number(v)) else {
        report.warn(
            "the servers' version is hidden from the token",
            "grant service:read on \"consul\" to see it",
        );
        return;
    };
    let (major, minor) = OLDEST;
    if number(&oldest) >= Some(OLDEST) {
        report.good(format!("Consul {oldest} is {major}.{minor} or newer"));
    } else {
        report.warn(
            format!(
                "Consul {oldest} is older than {major}.{minor}, the oldest that is known to work"
            ),
            "upgrade the servers",
        );
    }
}

fn number(version: &str) -> Option<(u32, u32)> {
    let mut parts = version.split('.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// Half a second of network is no skew worth a word; the agent tells whole seconds.
const UNSEEN: Duration = Duration::from_secs(5);

/// Consul dates leaves back by a minute: beyond it peers refuse a fresh one.
const REFUSED: Duration = Duration::from_secs(60);

fn clocks(before: SystemTime, after: SystemTime, theirs: Option<SystemTime>, report: &mut Report) {
    let Some(theirs) = theirs else {
        report.warn(
            "the agent tells no time",
            "something between drops its Date header",
        );
        return;
    };
    let skew = skew(before, after, theirs);
    let finding = format!("clocks differ by {} s", skew.as_secs());
    let remedy = "set the clocks of this machine and the agent's by NTP";
    match judge(skew) {
        Verdict::Good => report.good("this clock agrees with the agent's"),
        Verdict::Warning => report.warn(finding, remedy),
        Verdict::Bad => report.bad(
            format!("{finding}: fresh certificates will be refused"),
            remedy,
        ),
    }
}

/// How far their moment lies outside of the time in which it was told.
fn skew(before: SystemTime, after: SystemTime, theirs: SystemTime) -> Duration {
    let early = before.duration_since(theirs).unwrap_or_default();
    let late = theirs.duration_since(after).unwrap_or_default();
    early.max(late)
}

fn judge(skew: Duration) -> Verdict {
    if skew >= REFUSED {
        Verdict::Bad
    } else if skew >= UNSEEN {
        Verdict::Warning
    } else {
        Verdict::Good
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn skew_is_what_lies_outside_of_the_question() {
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        assert_eq!(skew(at(10), at(12), at(11)), Duration::ZERO);
        assert_eq!(skew(at(10), at(12), at(3)), Duration::from_secs(7));
        assert_eq!(skew(at(10), at(12), at(112)), Duration::from_secs(100));
        assert_eq!(judge(Duration::from_secs(1)), Verdict::Good);
        assert_eq!(judge(Duration::from_secs(7)), Verdict::Warning);
        assert_eq!(judge(Duration::from_secs(100)), Verdict::Bad);
    }

    #[test]
    fn versions_are_compared_by_number() {
        assert!(number("1.20.6") > number("1.9.0"));
        assert!(number("1.17.0+ent") >= Some(OLDEST));
        assert_eq!(number("dev"), None);
    }
}
