//! How fresh knowledge is: what answers, what does not and why, and what only the last run knew.

use super::{Failure, Knowledge, Topic};
use meridian_model::{SourceState, StaleCause};
use std::collections::BTreeMap;

impl Failure {
    /// Whether the agent answers, and the token lacks a right.
    fn is_withheld(&self) -> bool {
        self.trouble.cause == StaleCause::Rights
    }
}

impl Knowledge {
    /// How old that is which only the last run knew, and why some of it is not used; `None` where
    /// Consul has answered everything since.
    pub(crate) fn memory(&self) -> Option<SourceState> {
        if let Some((reason, at)) = self.unusable.values().next() {
            return Some(SourceState::Stale {
                since: *at,
                cause: StaleCause::Answer,
                reason: reason.clone(),
            });
        }
        let since = *self.remembered.values().min()?;
        let count = self.remembered.len();
        Some(SourceState::Stale {
            since,
            cause: StaleCause::Unreachable,
            reason: format!("{count} answers are those of the last run"),
        })
    }

    /// Stale from the first failure on, until everything answers again. A refused token comes
    /// before all other reasons, since it explains them. What the token may not read makes nothing
    /// else old: see [`Self::withheld`].
    pub(crate) fn state(&self) -> SourceState {
        let refused = |failure: &Failure| failure.trouble.cause == StaleCause::Token;
        let ours = self.failing().filter(|(_, failure)| !failure.is_withheld());
        match ours.min_by_key(|(_, failure)| (!refused(failure), failure.since)) {
            None => SourceState::Current,
            Some((topic, Failure { since, trouble })) => SourceState::Stale {
                since: *since,
                cause: trouble.cause,
                reason: format!("{}: {}", topic.kind(), trouble.reason),
            },
        }
    }

    /// What the token may not read, by kind: since when, and the right that it lacks.
    pub(crate) fn withheld(&self) -> BTreeMap<&'static str, SourceState> {
        let mut kinds: BTreeMap<_, (&Failure, usize)> = BTreeMap::new();
        for (topic, failure) in self.failing().filter(|(_, one)| one.is_withheld()) {
            let (first, count) = kinds.entry(topic.kind()).or_insert((failure, 0));
            if failure.since < first.since {
                *first = failure;
            }
            *count += 1;
        }
        let state = |(first, count): (&Failure, usize)| {
            let mut reason = first.trouble.reason.clone();
            if count > 1 {
                reason.push_str(&format!(" (and {} more)", count - 1));
            }
            SourceState::Stale {
                since: first.since,
                cause: StaleCause::Rights,
                reason,
            }
        };
        let kinds = kinds.into_iter();
        kinds.map(|(kind, found)| (kind, state(found))).collect()
    }

    /// Whether all that is known is as Consul says now.
    pub(crate) fn is_confirmed(&self) -> bool {
        self.failing()
            .all(|(topic, failure)| failure.is_withheld() && !self.facts.contains_key(topic))
    }

    /// What Consul does not answer. DNS is not Consul: whoever wants a name says what is wrong
    /// with it.
    fn failing(&self) -> impl Iterator<Item = (&Topic, &Failure)> {
        let failing = self.failing.iter();
        failing.filter(|(topic, _)| !matches!(topic, Topic::Addresses(_)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::knowledge::{ChainQuery, Fact, News, Trouble};
    use std::sync::Arc;
    use std::time::{Duration, SystemTime};

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn failed() -> News {
        News::Failed(Trouble::answer("refused"))
    }

    #[test]
    fn is_stale_from_the_first_failure_until_all_answer() {
        let mut knowledge = Knowledge::default();
        assert_eq!(knowledge.state(), SourceState::Current);
        knowledge.take(Topic::Roots, failed(), at(5));
        knowledge.take(Topic::Agent, failed(), at(7));
        knowledge.take(Topic::Roots, failed(), at(9));
        let stale = |seconds, topic: &str| SourceState::Stale {
            since: at(seconds),
            cause: StaleCause::Answer,
            reason: format!("{topic}: refused"),
        };
        assert_eq!(knowledge.state(), stale(5, "roots"));
        knowledge.take(Topic::Roots, News::Recovered, at(10));
        assert_eq!(knowledge.state(), stale(7, "agent"));
        let agent = Fact::Agent(Arc::default());
        knowledge.take(Topic::Agent, News::Learned(agent), at(11));
        assert_eq!(knowledge.state(), SourceState::Current);
    }

    #[test]
    fn a_refused_token_is_the_reason_for_everything_else() {
        let mut knowledge = Knowledge::default();
        knowledge.take(Topic::Roots, failed(), at(5));
        let refused = Trouble {
            cause: StaleCause::Token,
            reason: "ACL not found".to_owned(),
        };
        knowledge.take(Topic::Token, News::Failed(refused), at(7));
        let expected = SourceState::Stale {
            since: at(7),
            cause: StaleCause::Token,
            reason: "token: ACL not found".to_owned(),
        };
        assert_eq!(knowledge.state(), expected);
        knowledge.take(Topic::Token, News::Recovered, at(8));
        let SourceState::Stale { cause, .. } = knowledge.state() else {
            panic!("the other failure is still there");
        };
        assert_eq!(cause, StaleCause::Answer);
    }

    #[test]
    fn what_the_token_may_not_read_makes_nothing_else_stale() {
        let lacks = |what: &str| {
            News::Failed(Trouble {
                cause: StaleCause::Rights,
                reason: format!("it needs {what}"),
            })
        };
        let chain = |name: &str| {
            Topic::Chain(ChainQuery {
                service: name.to_owned(),
                ..ChainQuery::default()
            })
        };
        let mut knowledge = Knowledge::default();
        knowledge.take(chain("b"), lacks("b"), at(7));
        knowledge.take(chain("a"), lacks("a"), at(8));
        knowledge.take(Topic::Mesh, lacks("mesh"), at(9));
        assert_eq!(knowledge.state(), SourceState::Current);
        assert!(knowledge.is_confirmed(), "nothing is known of them");
        let stale = |seconds, reason: &str| SourceState::Stale {
            since: at(seconds),
            cause: StaleCause::Rights,
            reason: reason.to_owned(),
        };
        let expected = [
            ("chain", stale(7, "it needs b (and 1 more)")),
            ("mesh", stale(9, "it needs mesh")),
        ];
        assert_eq!(knowledge.withheld(), BTreeMap::from(expected));

        // A right that is taken back leaves behind what was known.
        knowledge.take(
            Topic::Roots,
            News::Learned(Fact::Roots(Arc::default())),
            at(9),
        );
        knowledge.take(Topic::Roots, lacks("roots"), at(10));
        assert_eq!(knowledge.state(), SourceState::Current);
        assert!(!knowledge.is_confirmed());
        knowledge.take(Topic::Agent, failed(), at(11));
        assert_ne!(knowledge.state(), SourceState::Current);
    }

    #[test]
    fn what_is_remembered_counts_until_it_is_learned_anew() {
        let mut knowledge = Knowledge::default();
        let roots = || Fact::Roots(Arc::default());
        assert_eq!(knowledge.memory(), None);
        knowledge.take(Topic::Roots, News::Remembered(roots(), at(3)), at(9));
        assert!(knowledge.roots().is_some());
        let expected = SourceState::Stale {
            since: at(3),
            cause: StaleCause::Unreachable,
            reason: "1 answers are those of the last run".to_owned(),
        };
        assert_eq!(knowledge.memory(), Some(expected));
        knowledge.take(Topic::Roots, News::Learned(roots()), at(10));
        assert_eq!(knowledge.memory(), None);

        let leaf = Topic::Leaf("web".to_owned());
        knowledge.take(
            leaf.clone(),
            News::Unusable("no key".to_owned(), at(3)),
            at(11),
        );
        assert!(matches!(
            knowledge.memory(),
            Some(SourceState::Stale {
                cause: StaleCause::Answer,
                ..
            })
        ));
        knowledge.take(leaf, News::Learned(Fact::Leaf(Arc::default())), at(12));
        assert_eq!(knowledge.memory(), None);
    }
}
