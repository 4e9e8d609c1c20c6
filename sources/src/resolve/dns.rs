//! Names in DNS, resolved again and again. A failure changes nothing: the last addresses stay.

use crate::knowledge::Known;
use crate::publish::{SourceMetrics, Task};
use crate::watching::chain_of;
use hickory_resolver::TokioResolver;
use hickory_resolver::config::LookupIpStrategy;
use meridian_model::{Blueprint, Discovery, SourceState, SourceStatus};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::mpsc;

/// A name, and how often it is asked for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Name {
    host: String,
    refresh: Duration,
}

impl Name {
    pub(super) fn new(host: &str, refresh: Duration) -> Self {
        Self {
            host: host.to_owned(),
            refresh,
        }
    }
}

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

/// Even a TTL of 0 is not asked for more often than this.
const LEAST_PAUSE: Duration = Duration::from_secs(1);
/// A name that failed is asked for again this soon, or after its refresh if that is shorter.
const RETRY: Duration = Duration::from_secs(5);
/// Answers waiting to be taken in; a full queue only makes the look-ups wait.
const ANSWER_QUEUE: usize = 64;
/// Name of this source in statuses and metrics.
const DNS: &str = "dns";

type Answer = Result<Vec<IpAddr>, String>;

/// All names being resolved.
pub(super) struct Names {
    metrics: Arc<dyn SourceMetrics>,
    resolver: Option<Arc<TokioResolver>>,
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
            resolver: None,
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
            match self.resolver() {
                Ok(resolver) => {
                    let work = follow(name.clone(), resolver, self.sender.clone());
                    self.running.insert(name.clone(), Task::spawn(work));
                }
                Err(reason) => self.take(name.clone(), Err(reason)),
            }
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

    /// Made on first use: a gateway without names in DNS needs no resolver.
    fn resolver(&mut self) -> Result<Arc<TokioResolver>, String> {
        if let Some(resolver) = &self.resolver {
            return Ok(Arc::clone(resolver));
        }
        let mut builder = TokioResolver::builder_tokio().map_err(|error| chain_of(&error))?;
        let options = builder.options_mut();
        options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
        // The refresh may be shorter than the TTL, and then asks again.
        options.cache_size = 0;
        let resolver = Arc::new(builder.build().map_err(|error| chain_of(&error))?);
        self.resolver = Some(Arc::clone(&resolver));
        Ok(resolver)
    }
}

async fn follow(name: Name, resolver: Arc<TokioResolver>, sender: mpsc::Sender<(Name, Answer)>) {
    loop {
        let (answer, valid_until) = match resolver.lookup_ip(name.host.as_str()).await {
            Ok(found) => {
                let mut addresses: Vec<IpAddr> = found.iter().collect();
                // Servers rotate the order, which is no change.
                addresses.sort_unstable();
                addresses.dedup();
                (Ok(addresses), found.valid_until())
            }
            Err(error) => (Err(chain_of(&error)), Instant::now() + RETRY),
        };
        if sender.send((name.clone(), answer)).await.is_err() {
            // Nobody listens any more.
            return;
        }
        let left = valid_until.saturating_duration_since(Instant::now());
        tokio::time::sleep(pause(left, name.refresh)).await;
    }
}

/// The shorter of TTL and refresh, but no busy loop.
fn pause(ttl_left: Duration, refresh: Duration) -> Duration {
    ttl_left.min(refresh).max(LEAST_PAUSE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shorter_of_ttl_and_refresh_counts() {
        let seconds = Duration::from_secs;
        assert_eq!(pause(seconds(300), seconds(30)), seconds(30));
        assert_eq!(pause(seconds(5), seconds(30)), seconds(5));
        assert_eq!(pause(seconds(0), seconds(30)), LEAST_PAUSE);
    }

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
