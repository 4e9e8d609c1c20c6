//! Knowledge: everything that Consul has told one proxy, as plain values.
//!
//! Watches write into it, translation reads it. What is known stays known while Consul is away;
//! only what is no longer wanted is forgotten.

mod answers;
mod freshness;
mod news;
mod topic;

pub(crate) use news::{Fact, GatewaysByDatacenter, News, Trouble};
pub(crate) use topic::{ChainQuery, InstancesQuery, PreparedQuery, Topic};

use crate::settling::settled;
use meridian_model::{SourceStatus, StaleCause};
use std::collections::{BTreeMap, BTreeSet};
use std::time::SystemTime;

/// What is known about one topic.
#[derive(Debug, Clone)]
pub(crate) enum Known<'a, T> {
    /// Not asked yet, or no answer yet.
    Waiting,
    /// The first answer was a failure, and nothing is known from before.
    Failed(&'a str),
    /// The last answer.
    Value(&'a T),
}

/// Why there is no entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NoEntry {
    /// There is no answer yet.
    Waiting,
    /// It does not exist.
    Absent,
    /// It cannot be had, or cannot be read.
    Failed(String),
}

/// Where knowledge comes from: Consul, or the embedded registry.
pub(crate) trait Origin: Send {
    /// What is known now.
    fn knowledge(&self) -> &Knowledge;
    /// Starts what is newly wanted, stops and forgets what no longer is.
    fn keep(&mut self, wanted: &BTreeSet<Topic>);
    /// Waits for news and takes in all there are. Cancel safe.
    fn learn(&mut self) -> impl Future<Output = ()> + Send;
    /// How fresh it all is; empty where there is nothing to be fresh.
    fn status(&self) -> Vec<SourceStatus>;
}

/// Everything that is known.
#[derive(Debug, Default)]
pub(crate) struct Knowledge {
    facts: BTreeMap<Topic, Fact>,
    failing: BTreeMap<Topic, Failure>,
    /// Facts of the last run, and how old they are.
    remembered: BTreeMap<Topic, SystemTime>,
    /// Why a fact of the last run is not used.
    unusable: BTreeMap<Topic, (String, SystemTime)>,
}

#[derive(Debug)]
struct Failure {
    since: SystemTime,
    trouble: Trouble,
}

impl Knowledge {
    /// Takes news in.
    pub(crate) fn take(&mut self, topic: Topic, news: News, now: SystemTime) {
        match news {
            News::Learned(fact) => {
                self.failing.remove(&topic);
                self.remembered.remove(&topic);
                self.unusable.remove(&topic);
                let fact = match (self.facts.get(&topic), fact) {
                    (Some(Fact::Instances(before)), Fact::Instances(now)) => {
                        Fact::Instances(settled(before, &now))
                    }
                    (_, fact) => fact,
                };
                self.facts.insert(topic, fact);
            }
            News::Recovered => {
                self.failing.remove(&topic);
            }
            News::Failed(trouble) => {
                let since = self.failing.get(&topic).map_or(now, |before| before.since);
                self.failing.insert(topic, Failure { since, trouble });
            }
            News::Remembered(fact, at) => {
                if !self.facts.contains_key(&topic) {
                    self.remembered.insert(topic.clone(), at);
                    self.facts.insert(topic, fact);
                }
            }
            News::Unusable(reason, at) => {
                self.unusable.insert(topic, (reason, at));
            }
        }
    }

    /// Forgets everything else.
    pub(crate) fn keep(&mut self, wanted: &BTreeSet<Topic>) {
        self.facts.retain(|topic, _| wanted.contains(topic));
        self.failing.retain(|topic, _| wanted.contains(topic));
        self.remembered.retain(|topic, _| wanted.contains(topic));
        self.unusable.retain(|topic, _| wanted.contains(topic));
    }

    /// The right that the token lacks, where that is why nothing is known of a topic.
    pub(crate) fn lacks_right(&self, topic: &Topic) -> Option<&str> {
        let failure = self.failing.get(topic)?;
        let is_reason = failure.trouble.cause == StaleCause::Rights;
        (is_reason && !self.facts.contains_key(topic)).then_some(&*failure.trouble.reason)
    }

    /// Whether there is neither an answer nor a failure yet.
    pub(crate) fn waits_for(&self, topic: &Topic) -> bool {
        !self.facts.contains_key(topic) && !self.failing.contains_key(topic)
    }

    /// Why there is no answer, or none newer than the one before.
    pub(crate) fn failure(&self, topic: &Topic) -> Option<&str> {
        let failure = self.failing.get(topic);
        failure.map(|failure| failure.trouble.reason.as_str())
    }

    fn unknown<T>(&self, topic: &Topic) -> Known<'_, T> {
        match self.failing.get(topic) {
            None => Known::Waiting,
            Some(failure) => Known::Failed(&failure.trouble.reason),
        }
    }
}

#[cfg(test)]
mod tests;
