//! Memory: what Consul answered last, kept on disk, so that a proxy which starts while Consul is
//! away still knows what it knew.
//!
//! Kept are Consul's own answers, one file each, and not what was made of them: a newer program
//! reads them with its own understanding, and there is one way from an answer to the model. So are
//! the public keys of issuers, which have an age of their own. Each answer stands for itself here as it does in memory, so that files are written one by one, as
//! they change.
//!
//! Memory speaks only where Consul does not: a topic whose first question found no agent is
//! answered from it, and an agent that says no is believed. Private keys are left out unless they
//! are asked for, and without its key a leaf is no use: then nothing is served before Consul is
//! back, and the status says why.

mod folder;
mod shelf;

pub(crate) use shelf::{Kept, Shelf};

use crate::causes::chain_of;
use crate::knowledge::Topic;
use folder::Folder;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::Notify;

/// Where answers are kept, and how much of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemoryOptions {
    /// A directory of this proxy alone. It is made if need be.
    pub directory: PathBuf,
    /// Whether private keys are kept as well.
    pub keep_keys: bool,
}

/// Why memory cannot be used. Nothing is served from a folder that others may have written, and
/// no key is put where others may read it.
#[derive(Debug, thiserror::Error)]
pub enum MemoryError {
    /// The folder, or a file of it, can't be used.
    #[error("{operation} {}", path.display())]
    File {
        /// What was tried.
        operation: &'static str,
        /// At what.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Others have more rights than they should.
    #[error(
        "{} has mode {mode:03o}, and must not be open to others: chmod {wanted:03o}",
        path.display()
    )]
    Loose {
        /// The folder or file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
        /// One that will do.
        wanted: u32,
    },
    /// Another process holds the folder.
    #[error("{} is in use by another process", path.display())]
    InUse {
        /// The folder.
        path: PathBuf,
    },
}

/// An opened memory. Clones share it.
#[derive(Debug, Clone)]
pub struct Memory {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    folder: Folder,
    keep_keys: bool,
    /// How old the last run's answers are; `None` where there are none.
    last_run: Option<SystemTime>,
    /// When this run began.
    began: Instant,
    state: Mutex<State>,
    news: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// Who the files belong to, and what it found out before it could ask for anything.
    owner: String,
    proxy: Option<String>,
    /// To be written, or to be removed, by name of the file. One entry for each topic at most.
    pending: BTreeMap<String, Option<Vec<u8>>>,
    /// Files of topics that are followed.
    used: BTreeMap<Topic, String>,
    /// Whether Consul answers.
    current: bool,
    confirmed: Option<Instant>,
    pruned: bool,
}

const FORMAT: u64 = 1;

/// The file that says whose the others are, and when all of them were last known to be current.
const OWNER: &str = "owner.json";

/// How often that is written down while Consul answers: the age of a memory is known to half a
/// minute.
const CONFIRM: Duration = Duration::from_secs(30);

/// Answers come in groups: one write for each.
const SETTLE: Duration = Duration::from_millis(500);

/// A service that flaps must not wear out a disk.
const PACE: Duration = Duration::from_secs(5);

/// By then everything that is wanted has answered, or Consul is not current.
const PRUNE_AFTER: Duration = Duration::from_secs(120);

impl Memory {
    /// Opens a folder for the proxy that `owner` describes. What another one left there is
    /// removed.
    ///
    /// # Errors
    /// When the folder can't be used, is used by another process, or is open to others.
    pub fn open(options: &MemoryOptions, owner: &str) -> Result<Self, MemoryError> {
        let folder = Folder::open(&options.directory, options.keep_keys)?;
        let written = folder.read(OWNER)?.and_then(|bytes| header(&bytes));
        let mut last_run = None;
        let mut proxy = None;
        match written {
            Some(Header {
                owner: before,
                proxy: found,
                current,
            }) if before == owner => (last_run, proxy) = (Some(current), found),
            _ => folder.clear(&|_| true)?,
        }
        if !options.keep_keys {
            // Written by a run that kept keys: this one is told not to have them.
            folder.clear(&|name| holds_key(&folder, name))?;
        }
        let state = State {
            owner: owner.to_owned(),
            proxy,
            ..State::default()
        };
        let shared = Shared {
            folder,
            keep_keys: options.keep_keys,
            last_run,
            began: Instant::now(),
            state: Mutex::new(state),
            news: Notify::new(),
        };
        Ok(Self {
            shared: Arc::new(shared),
        })
    }

    /// Where it is.
    pub fn directory(&self) -> &Path {
        self.shared.folder.path()
    }

    /// The ID of the proxy that the last run found.
    pub(crate) fn proxy(&self) -> Option<String> {
        self.shared.last_run?;
        self.state().proxy.clone()
    }

    /// Notes the ID of the proxy that was found.
    pub(crate) fn note_proxy(&self, id: &str) {
        self.state().proxy = Some(id.to_owned());
    }

    /// A topic's place, by what is asked of Consul for it.
    pub(crate) fn shelf(&self, topic: &Topic, request: String) -> Shelf {
        let file = format!("{}-{}.json", topic.kind(), digest(&request));
        self.state().used.insert(topic.clone(), file.clone());
        Shelf {
            memory: self.clone(),
            file,
            request,
            secrets: shelf::secrets(topic),
        }
    }

    /// Forgets what nobody asks for any more.
    pub(crate) fn keep(&self, wanted: &BTreeSet<Topic>) {
        let mut state = self.state();
        let State { used, pending, .. } = &mut *state;
        let gone: Vec<_> = used
            .extract_if(.., |topic, _| !wanted.contains(topic))
            .collect();
        if gone.is_empty() {
            return;
        }
        pending.extend(gone.into_iter().map(|(_, file)| (file, None)));
        drop(state);
        self.shared.news.notify_one();
    }

    /// Notes whether everything is as Consul says now.
    pub(crate) fn note_current(&self, current: bool) {
        self.state().current = current;
    }

    /// Has the age written down, if it is time.
    fn confirm(&self, now: Instant) {
        let mut state = self.state();
        let due = |last: Instant| now.saturating_duration_since(last) >= CONFIRM;
        if !state.current || state.confirmed.is_some_and(|last| !due(last)) {
            return;
        }
        state.confirmed = Some(now);
        let written = json!({
            "format": FORMAT,
            "owner": state.owner,
            "proxy": state.proxy,
            "currentAt": seconds(SystemTime::now()),
        });
        let bytes = written.to_string().into_bytes();
        state.pending.insert(OWNER.to_owned(), Some(bytes));
        if !state.pruned && now.saturating_duration_since(self.shared.began) >= PRUNE_AFTER {
            state.pruned = true;
            let used: BTreeSet<_> = state.used.values().cloned().collect();
            drop(state);
            let gone = |name: &str| name != OWNER && !used.contains(name);
            if let Err(error) = self.shared.folder.clear(&gone) {
                tracing::warn!(error = %chain_of(&error), "memory keeps what is no longer asked for");
            }
        }
    }

    /// Writes what is new, at a bounded rate, until it is dropped.
    pub(crate) async fn write_forever(self) {
        let mut said = String::new();
        loop {
            // A timeout is no news but that Consul is still there.
            let _ = tokio::time::timeout(CONFIRM, self.shared.news.notified()).await;
            tokio::time::sleep(SETTLE).await;
            self.confirm(Instant::now());
            let pending = std::mem::take(&mut self.state().pending);
            let shared = Arc::clone(&self.shared);
            let written = tokio::task::spawn_blocking(move || shared.folder.write_all(pending));
            match written.await {
                Ok(Ok(())) => said.clear(),
                Ok(Err(error)) => {
                    let error = chain_of(&error);
                    if error != said {
                        tracing::warn!(%error, "memory of the last state cannot be written");
                        said = error;
                    }
                }
                // The runtime ends, and this task with it.
                Err(_) => return,
            }
            tokio::time::sleep(PACE).await;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere leaves whole entries behind.
        let state = self.shared.state.lock();
        state.unwrap_or_else(PoisonError::into_inner)
    }
}

fn holds_key(folder: &Folder, name: &str) -> bool {
    // What can't be read is removed rather than left.
    let Ok(Some(bytes)) = folder.read(name) else {
        return true;
    };
    split(&bytes).is_some_and(|(head, _)| head["withKey"] == true)
}

/// The first line, and the rest.
fn split(bytes: &[u8]) -> Option<(Value, &[u8])> {
    let end = bytes.iter().position(|byte| *byte == b'\n')?;
    let head: Value = serde_json::from_slice(&bytes[..end]).ok()?;
    (head["format"] == FORMAT).then_some((head, &bytes[end + 1..]))
}

struct Header {
    owner: String,
    proxy: Option<String>,
    current: SystemTime,
}

/// `None` for another format, which is another program's.
fn header(bytes: &[u8]) -> Option<Header> {
    let value: Value = serde_json::from_slice(bytes).ok()?;
    if value["format"] != FORMAT {
        return None;
    }
    Some(Header {
        owner: value["owner"].as_str()?.to_owned(),
        proxy: value["proxy"].as_str().map(str::to_owned),
        current: SystemTime::UNIX_EPOCH + Duration::from_secs(value["currentAt"].as_u64()?),
    })
}

fn seconds(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH);
    since.unwrap_or_default().as_secs()
}

/// Half of a SHA-256, in hex: two requests never meet by chance.
fn digest(text: &str) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
    let half = digest.as_ref().iter().take(16);
    half.map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests;
