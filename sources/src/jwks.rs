//! Key sets: fetched from where a provider publishes them, kept while it is away, fetched again
//! when they are old or when a token names a key that is not among them.
//!
//! Requests never wait for a fetch. One task fetches for all of them, so there is never more than
//! one request under way, and the bell that tokens ring ([`KeyRefresh`]) makes it fetch earlier,
//! but not more often than [`Pace::cool_down`] allows.

mod cache;
mod fetch;
mod parse;
mod past;

pub(crate) use parse::parse;

use crate::causes::chain_of;
use crate::knowledge::{Fact, News, Topic};
use crate::memory::Shelf;
use crate::publish::SourceMetrics;
use cache::{Cache, Pace};
use meridian_model::jwt::{KeyRefresh, KeySet};
use past::Past;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, sleep_until};

/// Where keys are, if not in the entry itself.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum KeyOrigin {
    /// `Local.Filename`.
    File(PathBuf),
    /// `Remote`.
    Remote(RemoteKeys),
}

/// Keys at an address.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct RemoteKeys {
    /// `http` or `https`.
    pub(crate) uri: String,
    /// For a whole fetch.
    pub(crate) timeout: Duration,
    /// For connecting.
    pub(crate) connect_timeout: Duration,
    /// How long an answer is good.
    pub(crate) cache: Duration,
    /// Pause after the first failure; it doubles with each further one.
    pub(crate) first_pause: Duration,
    /// The longest pause.
    pub(crate) longest_pause: Duration,
    /// Who may sign the server's certificate.
    pub(crate) authorities: Authorities,
}

/// Who may sign a server's certificate.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Authorities {
    /// Those that the operating system trusts.
    System,
    /// PEM in a file.
    File(PathBuf),
    /// PEM in an environment variable.
    Environment(String),
    /// PEM.
    Pem(String),
}

/// What is known of a key set.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Keys {
    pub(crate) set: KeySet,
    /// Asks for newer ones.
    pub(crate) refresh: Arc<KeyRefresh>,
}

/// A file is read this often: reading one is cheap, and a rotation by file is soon seen.
const FILE_POLL: Duration = Duration::from_secs(5);

/// Unknown keys make for one fetch in this time, as with most libraries for JWT.
const COOL_DOWN: Duration = Duration::from_secs(30);

impl KeyOrigin {
    /// What is asked of whom, to tell kept keys apart: who is believed counts as well. `None` for
    /// a file, which is there after a restart too.
    pub(crate) fn request(&self) -> Option<String> {
        match self {
            Self::File(_) => None,
            Self::Remote(remote) => Some(format!(
                "GET {} trusting {:?}",
                remote.uri, remote.authorities
            )),
        }
    }

    fn pace(&self) -> Pace {
        match self {
            Self::File(_) => Pace {
                fresh: FILE_POLL,
                first_pause: FILE_POLL,
                longest_pause: FILE_POLL,
                cool_down: FILE_POLL,
            },
            Self::Remote(remote) => Pace {
                fresh: remote.cache,
                first_pause: remote.first_pause,
                longest_pause: remote.longest_pause,
                cool_down: COOL_DOWN.min(remote.cache),
            },
        }
    }
}

/// Keeps a key set up to date, until nobody listens any more. It is remembered on the shelf.
pub(crate) async fn follow(
    origin: KeyOrigin,
    sender: mpsc::Sender<(Topic, News)>,
    metrics: Arc<dyn SourceMetrics>,
    shelf: Option<Shelf>,
) {
    let pace = origin.pace();
    keep(origin, pace, sender, metrics, shelf).await;
}

async fn keep(
    origin: KeyOrigin,
    pace: Pace,
    sender: mpsc::Sender<(Topic, News)>,
    metrics: Arc<dyn SourceMetrics>,
    shelf: Option<Shelf>,
) {
    let asked = Arc::new(Notify::new());
    let waker = Arc::clone(&asked);
    let refresh = Arc::new(KeyRefresh::new(move || waker.notify_one()));
    let topic = Topic::Keys(origin.clone());
    let (mut cache, mut past) = (Cache::new(pace), Past::new(shelf));
    let mut served = None;
    loop {
        let began = Instant::now();
        let outcome = match fetch::fetch(&origin).await {
            Ok(fetched) => {
                past.keep(&fetched.body, SystemTime::now());
                Ok(fetched.keys)
            }
            Err(error) => {
                let reason = chain_of(&error);
                tracing::warn!(?topic, %reason, "keys cannot be fetched");
                metrics.watch_failed(topic.kind());
                if let Some((keys, age)) = past.recall(SystemTime::now()) {
                    cache.remember(keys, age, Instant::now().into_std());
                }
                Err(reason)
            }
        };
        let set = cache.take(outcome, Instant::now().into_std());
        let now = (set, past.since());
        if served.as_ref() != Some(&now) {
            let news = news(&now.0, now.1, &refresh);
            served = Some(now);
            if sender.send((topic.clone(), news)).await.is_err() {
                return;
            }
        }
        refresh.rearm();
        let due = began + cache.pause();
        tokio::select! {
            () = sleep_until(due) => {}
            () = asked.notified() => sleep_until(due.min(began + pace.cool_down)).await,
        }
    }
}

/// What is told of a set, and since when it is known where another run fetched it.
fn news(set: &KeySet, since: Option<SystemTime>, refresh: &Arc<KeyRefresh>) -> News {
    let fact = Fact::Keys(Arc::new(Keys {
        set: set.clone(),
        refresh: Arc::clone(refresh),
    }));
    match (set, since) {
        (KeySet::Known(_), Some(at)) => News::Remembered(fact, at),
        _ => News::Learned(fact),
    }
}

#[cfg(test)]
mod tests;
