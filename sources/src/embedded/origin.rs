//! The registry as an origin of knowledge: it answers at once, and again after every change.

use super::Embedded;
use crate::knowledge::{Knowledge, News, Origin, Topic, Trouble};
use meridian_model::{SourceState, SourceStatus};
use std::collections::BTreeSet;
use std::time::SystemTime;
use tokio::sync::watch;

/// Name of this source in statuses.
const EMBEDDED: &str = "embedded";

/// One source's view of the registry.
pub(super) struct Following {
    embedded: Embedded,
    version: watch::Receiver<u64>,
    wanted: BTreeSet<Topic>,
    /// Whether something is wanted that has not been asked for.
    behind: bool,
    knowledge: Knowledge,
}

impl Following {
    pub(super) fn new(embedded: Embedded) -> Self {
        let version = embedded.shared.version.subscribe();
        Self {
            embedded,
            version,
            wanted: BTreeSet::new(),
            behind: false,
            knowledge: Knowledge::default(),
        }
    }

    fn ask(&mut self) {
        let now = SystemTime::now();
        let mut registry = self.embedded.registry();
        for topic in &self.wanted {
            let news = match registry.answer(topic) {
                Ok(fact) => News::Learned(fact),
                Err(reason) => News::Failed(Trouble::answer(reason)),
            };
            self.knowledge.take(topic.clone(), news, now);
        }
    }
}

impl Origin for Following {
    fn knowledge(&self) -> &Knowledge {
        &self.knowledge
    }

    fn keep(&mut self, wanted: &BTreeSet<Topic>) {
        self.knowledge.keep(wanted);
        self.behind |= !wanted.is_subset(&self.wanted);
        self.wanted.clone_from(wanted);
    }

    async fn learn(&mut self) {
        if !self.behind && self.version.changed().await.is_err() {
            // We hold the sender ourselves, so this cannot be reached.
            return std::future::pending().await;
        }
        self.version.mark_unchanged();
        self.behind = false;
        self.ask();
    }

    fn status(&self) -> Vec<SourceStatus> {
        // It lives in this process: what it doesn't know doesn't exist.
        vec![SourceStatus {
            name: EMBEDDED.into(),
            state: SourceState::Current,
        }]
    }
}
