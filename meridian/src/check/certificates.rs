//! Certificates: the authority's roots, and the leaf that the proxy presents.

use super::report::Report;
use consul::Client;
use consul::agent::{Leaf, Roots};
use std::time::{Duration, SystemTime};

/// Returns whether the proxy can prove who it is.
pub(super) async fn check(client: &Client, service: &str, report: &mut Report) -> bool {
    let has_roots = authority(client, report).await;
    let has_leaf = presented(client, service, report).await;
    has_roots && has_leaf
}

/// Returns whether others can be believed.
pub(super) async fn authority(client: &Client, report: &mut Report) -> bool {
    match client.roots().once().await {
        Ok(answer) => roots(&answer.value, SystemTime::now(), report),
        Err(error) => {
            report.failed(&error, "");
            false
        }
    }
}

/// Returns whether there is a leaf of `service` to present.
pub(super) async fn presented(client: &Client, service: &str, report: &mut Report) -> bool {
    let right = format!("service:write on \"{service}\"");
    let found = match client.leaf(service).once().await {
        Ok(answer) => answer.value,
        Err(error) => {
            report.failed(&error, &right);
            return false;
        }
    };
    // An agent shows a leaf that it has to every token, but makes the next one only for a token
    // with the right.
    match client.authorize(service, &found).once().await {
        Err(error) if error.is_forbidden() => {
            report.failed(&error, &right);
            false
        }
        _ => leaf(&found, SystemTime::now(), report),
    }
}

/// Roots live for years; a month is time enough to rotate one.
const ROOT_SOON: Duration = Duration::from_secs(30 * 24 * 60 * 60);

fn roots(roots: &Roots, now: SystemTime, report: &mut Report) -> bool {
    let Some(active) = roots.roots.iter().find(|root| root.active) else {
        report.bad(
            "the authority has no active root",
            "set connect.enabled on the servers, and look into their log for the CA provider",
        );
        return false;
    };
    let left = active
        .expires()
        .map(|end| end.duration_since(now).unwrap_or_default());
    match left {
        Some(Duration::ZERO) => {
            report.bad(
                format!("the root {} has expired", active.name),
                "rotate it: consul connect ca set-config",
            );
            return false;
        }
        Some(left) if left < ROOT_SOON => report.warn(
            format!("the root {} expires in {}", active.name, days(left)),
            "rotate it: consul connect ca set-config",
        ),
        Some(left) => report.good(format!(
            "{} root(s) of {} are known, the active one for {}",
            roots.roots.len(),
            roots.trust_domain,
            days(left)
        )),
        None => report.warn(
            format!("the end of the root {} can't be read", active.name),
            "look at it: consul connect ca get-config",
        ),
    }
    true
}

fn leaf(leaf: &Leaf, now: SystemTime, report: &mut Report) -> bool {
    let (Some(starts), Some(ends)) = (leaf.starts(), leaf.expires()) else {
        report.bad(
            format!(
                "validity of the certificate of {} can't be read",
                leaf.service
            ),
            "see whether something else answers at that address",
        );
        return false;
    };
    if now < starts {
        report.bad(
            "the certificate begins in the future",
            "this clock is behind the servers': set both by NTP",
        );
        return false;
    }
    if ends <= now {
        report.bad(
            format!("the certificate expired at {}", leaf.valid_before),
            "look into the agent's log why it is not renewed",
        );
        return false;
    }
    let left = ends.duration_since(now).unwrap_or_default();
    let life = ends.duration_since(starts).unwrap_or_default();
    // The agent renews between 60 % and 90 % of its life.
    if left < life / 10 {
        report.warn(
            format!(
                "{} expires in {} min and is not renewed",
                leaf.service_uri,
                minutes(left)
            ),
            "look into the agent's log for the CA",
        );
    } else {
        report.good(format!(
            "{} is valid for {} h",
            leaf.service_uri,
            minutes(left) / 60
        ));
    }
    true
}

pub(super) fn days(time: Duration) -> String {
    format!("{} days", time.as_secs() / (24 * 60 * 60))
}

fn minutes(time: Duration) -> u64 {
    time.as_secs() / 60
}

#[cfg(test)]
mod tests {
    use super::*;
    use consul::agent::Root;

    fn at(hours: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(hours * 3600)
    }

    fn ten_hours() -> Leaf {
        Leaf {
            service_uri: "spiffe://td/ns/default/dc/dc1/svc/web".to_owned(),
            valid_after: "1970-01-01T00:00:00Z".to_owned(),
            valid_before: "1970-01-01T10:00:00Z".to_owned(),
            ..Leaf::default()
        }
    }

    #[test]
    fn a_leaf_is_judged_by_the_clock() {
        let said = |now| {
            let mut report = Report::default();
            let usable = leaf(&ten_hours(), now, &mut report);
            (usable, report.to_string())
        };
        let (usable, text) = said(at(1));
        assert!(
            usable && text.contains("√ spiffe://td/ns/default/dc/dc1/svc/web is valid for 9 h")
        );
        let (usable, text) = said(at(10) - Duration::from_secs(600));
        assert!(
            usable && text.contains("‼") && text.contains("not renewed"),
            "{text}"
        );
        let (usable, text) = said(at(11));
        assert!(
            !usable && text.contains("× the certificate expired"),
            "{text}"
        );
        let early = SystemTime::UNIX_EPOCH - Duration::from_secs(90);
        let (usable, text) = said(early);
        assert!(!usable && text.contains("begins in the future"), "{text}");
    }

    #[test]
    fn an_authority_without_a_living_root_is_broken() {
        let mut report = Report::default();
        assert!(!roots(&Roots::default(), at(1), &mut report));
        let expired = Roots {
            roots: vec![Root {
                active: true,
                not_after: "1970-01-01T00:30:00Z".to_owned(),
                ..Root::default()
            }],
            ..Roots::default()
        };
        assert!(!roots(&expired, at(1), &mut report));
        assert!(report.to_string().contains("has expired"), "{report}");
    }
}
