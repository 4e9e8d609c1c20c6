//! One topic being followed: what its watch says, what is kept of it, and what the last run knew.

use crate::causes::chain_of;
use crate::knowledge::{Fact, News, Topic, Trouble};
use crate::memory::{Kept, Shelf};
use consul::blocking::{Watch, WatchEvent};
use consul::xds::{CertificateWatch, GatewayCertificate};
use consul::{Meta, Query, Raw};
use std::sync::Arc;
use std::time::SystemTime;
use tokio::sync::mpsc;

/// What goes on telling of one thing.
pub(super) trait Events<T> {
    fn next(&mut self) -> impl Future<Output = WatchEvent<T>> + Send;
}

impl<T: PartialEq + Send + Sync + 'static> Events<T> for Watch<T> {
    async fn next(&mut self) -> WatchEvent<T> {
        Self::next(self).await
    }
}

impl Events<Option<GatewayCertificate>> for CertificateWatch {
    async fn next(&mut self) -> WatchEvent<Option<GatewayCertificate>> {
        Self::next(self).await
    }
}

/// Reads what is a fact as it is.
pub(super) fn plain<T>(fact: impl Fn(Arc<T>) -> Fact) -> impl FnMut(WatchEvent<T>) -> News {
    move |event| match event {
        WatchEvent::Changed { value, .. } => News::Learned(fact(value)),
        WatchEvent::Recovered { .. } => News::Recovered,
        WatchEvent::Failed { error, .. } => News::Failed(Trouble::of(&error)),
    }
}

/// One topic being followed.
pub(super) struct Following<T, W, F> {
    pub(super) topic: Topic,
    pub(super) watch: W,
    /// Where answers are kept, and what makes facts of them again.
    pub(super) kept: Option<(Shelf, Query<T>)>,
    pub(super) sender: mpsc::Sender<(Topic, News)>,
    pub(super) read: F,
}

impl<T, W, F> Following<T, W, F>
where
    T: Send + Sync + 'static,
    W: Events<T> + Send,
    F: FnMut(WatchEvent<T>) -> News + Send,
{
    pub(super) async fn run(mut self) {
        let mut is_first = true;
        loop {
            let mut event = self.watch.next().await;
            let raw = match &mut event {
                WatchEvent::Changed { raw, .. } => Some(std::mem::replace(raw, Raw::Absent)),
                WatchEvent::Recovered { .. } | WatchEvent::Failed { .. } => None,
            };
            // An agent that says no is believed.
            let away = matches!(&event, WatchEvent::Failed { error, .. } if error.is_retryable());
            let news = (self.read)(event);
            if let News::Failed(trouble) = &news {
                tracing::debug!(topic = ?self.topic, reason = %trouble.reason, "watch failed");
            }
            if let (News::Learned(_), Some((shelf, _))) = (&news, &self.kept) {
                // A refusal that is as good as an answer is kept as an empty one.
                shelf.keep(&raw.unwrap_or_else(|| Raw::Body(b"{}".to_vec())));
            }
            if self.tell(news).await.is_err() {
                return;
            }
            if std::mem::take(&mut is_first)
                && away
                && let Some(news) = self.recall()
                && self.tell(news).await.is_err()
            {
                return;
            }
        }
    }

    /// An error means that nobody listens any more.
    async fn tell(&mut self, news: News) -> Result<(), ()> {
        let sent = self.sender.send((self.topic.clone(), news)).await;
        sent.map_err(drop)
    }

    /// What the last run knew.
    fn recall(&mut self) -> Option<News> {
        let (shelf, query) = self.kept.as_ref()?;
        let (raw, at) = match shelf.recall()? {
            Kept::Answer(raw, at) => (raw, at),
            Kept::WithoutKey(at) => {
                let reason = "the private key of the last run's certificate was not kept \
                              (--keep-keys), so nothing is served before Consul is back";
                return Some(News::Unusable(reason.to_owned(), at));
            }
        };
        let value = match query.read(&raw) {
            Ok(value) => Arc::new(value),
            Err(error) => {
                tracing::warn!(topic = ?self.topic, error = %chain_of(&error), "memory is not used");
                return None;
            }
        };
        let event = WatchEvent::Changed {
            value,
            meta: Meta::default(),
            raw: Raw::Absent,
        };
        match (self.read)(event) {
            News::Learned(fact) => Some(remembered(fact, at)),
            _ => None,
        }
    }
}

/// A certificate that is over proves nobody.
fn remembered(fact: Fact, at: SystemTime) -> News {
    if let Fact::Leaf(leaf) = &fact
        && leaf.expires().is_none_or(|end| end <= SystemTime::now())
    {
        let reason = format!(
            "the last run's certificate of `{}` expired at {}, so nothing is served before Consul \
             is back",
            leaf.service, leaf.valid_before
        );
        return News::Unusable(reason, at);
    }
    News::Remembered(fact, at)
}
