//! The names of a gateway's backends. A failure changes nothing: the last addresses stay.

use crate::dns::{self, Answer, Families, Name};
use crate::knowledge::Known;
use crate::publish::{SourceMetrics, Task};
use meridian_model::{Blueprint, Discovery, SourceState, SourceStatus, StaleCause};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::SystemTime;
use tokio::sync::mpsc;

/// The names of a blueprint.
pub(super) fn wanted(blueprint: &Blueprint) -> BTreeSet<Name> {
    blueprint
        .backends
        .iter()
        .filter_map(|backend| match &backend.discovery {
            Discovery::Dns { host, refresh, .. } => Some(Name::new(host, *refresh)),
            _ => None,
        })
        .collect()
}

/// Answers waiting to be taken in; a full queue only makes the look-ups wait.
const ANSWER_QUEUE: usize = 64;
/// Name of this source in statuses and metrics.
const DNS: &str = "dns";

/// All names being resolved.
pub(super) struct Names {
    metrics: Arc<dyn SourceMetrics>,
    running: BTreeMap<Name, Task>,
    known: BTreeMap<Name, Vec<IpAddr>>,
    failing: BTreeMap<Name, (SystemTime, String)>,
    sender: mpsc::Sender<(Name, Answer)>,
    receiver: mpsc::Receiver<(Name, Answer)>,
}

impl Names {
    pub(super) fn new(metrics: Arc<dyn SourceMetrics>) -> Self {
        let (sender, receiver) = mpsc::channel(ANSWER_QUEUE);
        Self {
            metrics,
            running: BTreeMap::new(),
            known: BTreeMap::new(),
            failing: BTreeMap::new(),
            sender,
            receiver,
        }
    }

    /// Starts what is newly wanted, stops and forgets what no longer is.
    pub(super) fn keep(&mut self, wanted: &BTreeSet<Name>) {
        self.running.retain(|name, _| wanted.contains(name));
        self.known.retain(|name, _| wanted.contains(name));
        self.failing.retain(|name, _| wanted.contains(name));
        for name in wanted {
            if self.running.contains_key(name) {
                continue;
            }
            let (key, sender) = (name.clone(), self.sender.clone());
            let work = dns::follow(name.clone(), Families::Ipv4AndIpv6, sender, move |answer| {
                (key.clone(), answer)
            });
            self.running.insert(name.clone(), Task::spawn(work));
        }
    }

    /// Waits for answers and takes in all there are. Cancel safe.
    pub(super) async fn learn(&mut self) {
        let mut next = self.receiver.recv().await;
        while let Some((name, answer)) = next {
            if self.running.contains_key(&name) {
                self.take(name, answer);
            }
            next = self.receiver.try_recv().ok();
        }
        self.metrics.current(DNS, self.failing.is_empty());
    }

    pub(super) fn addresses(&self, name: &Name) -> Known<'_, Vec<IpAddr>> {
        match (self.known.get(name), self.failing.get(name)) {
            (Some(addresses), _) => Known::Value(addresses),
            (None, Some((_, reason))) => Known::Failed(reason),
            (None, None) => Known::Waiting,
        }
    }

    /// `None` while no name is wanted.
    pub(super) fn status(&self) -> Option<SourceStatus> {
        if self.running.is_empty() && self.failing.is_empty() {
            return None;
        }
        let oldest = self.failing.iter().min_by_key(|(_, (since, _))| *since);
        Some(SourceStatus {
            name: DNS.into(),
            state: match oldest {
                None => SourceState::Current,
                Some((name, (since, reason))) => SourceState::Stale {
                    since: *since,
                    cause: StaleCause::Unreachable,
                    reason: format!("{}: {reason}", name.host),
                },
            },
        })
    }

    fn take(&mut self, name: Name, answer: Answer) {
        match answer {
            Ok(addresses) => {
                self.failing.remove(&name);
                self.known.insert(name, addresses);
            }
            Err(reason) => {
                self.metrics.watch_failed(DNS);
                let since = self
                    .failing
                    .get(&name)
                    .map_or_else(SystemTime::now, |(since, _)| *since);
                self.failing.insert(name, (since, reason));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_failure_keeps_the_last_addresses() {
        let mut names = Names::new(Arc::new(()));
        let name = Name::new("example.com", Duration::from_secs(1));
        assert!(matches!(names.addresses(&name), Known::Waiting));
        names.take(name.clone(), Err("away".to_owned()));
        assert!(matches!(names.addresses(&name), Known::Failed("away")));
        let address: IpAddr = "10.0.0.1".parse().unwrap();
        names.take(name.clone(), Ok(vec![address]));
        assert_eq!(names.failing.len(), 0);
        names.take(name.clone(), Err("away".to_owned()));
        let Known::Value(addresses) = names.addresses(&name) else {
            panic!("forgotten")
        };
        assert_eq!(addresses, &[address]);
        let state = names.status().unwrap().state;
        assert!(matches!(state, SourceState::Stale { .. }));
    }
}
