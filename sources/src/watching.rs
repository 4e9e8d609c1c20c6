//! Watching: one blocking query kept running for everything that is wanted.

mod file;
mod following;
mod start;
mod token;

use crate::knowledge::{Knowledge, News, Origin, Topic};
use crate::memory::Memory;
use crate::publish::{SourceMetrics, Task};
use consul::blocking::Pacing;
use consul::{Client, Token};
use meridian_model::{SourceState, SourceStatus, StaleCause, Verdict};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::sync::{Notify, mpsc};

/// How Consul is asked.
#[derive(Debug, Clone)]
pub struct ConsulOptions {
    /// Speed of blocking queries.
    pub pacing: Pacing,
    /// How often the agent is asked for what cannot be waited for: its default intention policy,
    /// which it only reads from its own configuration, and the list of datacenters.
    pub policy_poll: Duration,
    /// How often prepared queries are executed: nobody can wait for their answers to change.
    pub prepared_poll: Duration,
    /// Verdict where no intention matches. `None` asks the agent, which needs `agent:read`; an
    /// agent that refuses to say means deny.
    pub default_intention: Option<Verdict>,
    /// What is kept for a start while Consul is away.
    pub memory: Option<Memory>,
}

impl Default for ConsulOptions {
    /// The policy changes with a reload of the agent; ten seconds later is soon enough. So
    /// it is for prepared queries, which Consul executes every 30 s for its Envoy: an instance
    /// that is gone costs connections until then.
    fn default() -> Self {
        Self {
            pacing: Pacing::default(),
            policy_poll: Duration::from_secs(10),
            prepared_poll: Duration::from_secs(10),
            default_intention: None,
            memory: None,
        }
    }
}

/// Name of this source in statuses and metrics.
pub(crate) const CONSUL: &str = "consul";

/// Name of what is known from the last run only.
const MEMORY: &str = "memory";

/// More than one proxy's watches answer at once at start; a full queue only makes them wait.
const NEWS_QUEUE: usize = 256;

/// Everything being watched, and what has been learned from it.
pub(crate) struct Watching {
    client: Client,
    options: ConsulOptions,
    metrics: Arc<dyn SourceMetrics>,
    running: BTreeMap<Topic, Task>,
    sender: mpsc::Sender<(Topic, News)>,
    receiver: mpsc::Receiver<(Topic, News)>,
    knowledge: Knowledge,
    /// Raised where the token seems to be refused.
    doubt: Arc<Notify>,
    /// Writes what is to be remembered.
    _writer: Option<Task>,
}

impl Watching {
    pub(crate) fn new(
        client: Client,
        options: ConsulOptions,
        metrics: Arc<dyn SourceMetrics>,
    ) -> Self {
        let (sender, receiver) = mpsc::channel(NEWS_QUEUE);
        let memory = options.memory.clone();
        Self {
            client,
            options,
            metrics,
            running: BTreeMap::new(),
            sender,
            receiver,
            knowledge: Knowledge::default(),
            doubt: Arc::default(),
            _writer: memory.map(|memory| Task::spawn(memory.write_forever())),
        }
    }
}

impl Origin for Watching {
    fn knowledge(&self) -> &Knowledge {
        &self.knowledge
    }

    fn keep(&mut self, wanted: &BTreeSet<Topic>) {
        let mut wanted = wanted.clone();
        if self.client.config().token != Token::Anonymous {
            wanted.insert(Topic::Token);
        }
        self.running.retain(|topic, _| wanted.contains(topic));
        self.knowledge.keep(&wanted);
        if let Some(memory) = &self.options.memory {
            memory.keep(&wanted);
        }
        for topic in &wanted {
            if !self.running.contains_key(topic) {
                let task = self.start(topic);
                self.running.insert(topic.clone(), task);
            }
        }
    }

    async fn learn(&mut self) {
        let mut next = self.receiver.recv().await;
        while let Some((topic, news)) = next {
            // Late news of a watch that was stopped since is left unread.
            if self.running.contains_key(&topic) {
                if let News::Failed(trouble) = &news {
                    self.metrics.watch_failed(topic.kind());
                    if trouble.cause == StaleCause::Token && topic != Topic::Token {
                        self.doubt.notify_one();
                    }
                }
                self.knowledge.take(topic, news, SystemTime::now());
            }
            next = self.receiver.try_recv().ok();
        }
        count(&*self.metrics, &self.knowledge.state());
        if let Some(memory) = &self.options.memory {
            memory.note_current(self.knowledge.is_confirmed());
        }
    }

    fn status(&self) -> Vec<SourceStatus> {
        let named = |name: &str, state| SourceStatus {
            name: name.into(),
            state,
        };
        let mut all = vec![named(CONSUL, self.knowledge.state())];
        let withheld = self.knowledge.withheld().into_iter();
        all.extend(withheld.map(|(kind, state)| named(&format!("{CONSUL}/{kind}"), state)));
        all.extend(self.knowledge.memory().map(|state| named(MEMORY, state)));
        all
    }
}

/// Counts how fresh Consul's word is.
pub(crate) fn count(metrics: &dyn SourceMetrics, state: &SourceState) {
    metrics.current(CONSUL, *state == SourceState::Current);
    let refused = matches!(
        state,
        SourceState::Stale {
            cause: StaleCause::Token,
            ..
        }
    );
    metrics.token_refused(CONSUL, refused);
}
