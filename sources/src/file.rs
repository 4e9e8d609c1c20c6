//! A configuration file, watched: every good version becomes a blueprint, a bad one changes nothing.
//!
//! Editors write in place or rename a new file over the old one; Kubernetes swaps a symlink two
//! folders up. So the file's folder is watched, not the file, and what decides is not the event
//! but whether the bytes behind the path differ. A slow poll stands behind the notifications,
//! for file systems that send none.

use crate::intent::Intent;
use crate::publish::{SourceMetrics, Task};
use meridian_model::{Blueprint, Rejection, SourceState, SourceStatus, StaleCause};
use notify::event::{AccessKind, AccessMode, ModifyKind};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::sync::{mpsc, watch};

/// A file being watched.
#[derive(Debug)]
pub struct FileSource {
    /// The newest intent.
    pub intents: watch::Receiver<Intent>,
    reload: Reload,
    _task: Task,
}

impl FileSource {
    /// A handle that reads the file again at once, for SIGHUP.
    pub fn reload_handle(&self) -> Reload {
        self.reload.clone()
    }

    /// Reads the file again at once, whether it looks changed or not.
    pub fn reload(&self) {
        self.reload.now();
    }
}

/// Reads the file again at once.
#[derive(Debug, Clone)]
pub struct Reload(mpsc::Sender<()>);

impl Reload {
    /// Asks for it. Several requests before the file is read are one.
    pub fn now(&self) {
        // A full queue already holds a request; a closed one has no reader left to serve.
        let _ = self.0.try_send(());
    }
}

/// Turns the file into a blueprint, or says every error at once. A file that names others returns
/// a [`Loaded`].
pub type Loader<T = Blueprint> = Box<dyn Fn() -> Result<T, String> + Send + Sync>;

/// A blueprint, and what it was made of.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded {
    /// The blueprint.
    pub blueprint: Blueprint,
    /// Other files that were read, such as certificates: a change of one is a change of the
    /// configuration. Those outside of the file's own folder are seen by the poll alone.
    pub inputs: Vec<PathBuf>,
}

impl From<Blueprint> for Loaded {
    fn from(blueprint: Blueprint) -> Self {
        Self {
            blueprint,
            inputs: Vec::new(),
        }
    }
}

/// Why a file cannot be watched.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    /// The first version is no good, so there is nothing to serve.
    #[error("cannot load {}: {reason}", .path.display())]
    Load {
        /// The file.
        path: PathBuf,
        /// The loader's errors.
        reason: String,
    },
    /// The system refuses notifications.
    #[error("cannot watch {}", .path.display())]
    Notify {
        /// The folder.
        path: PathBuf,
        /// Why not.
        #[source]
        source: notify::Error,
    },
}

/// Loads `path` with `loader` and goes on watching it, on the current runtime.
///
/// # Errors
/// When the first version is no good, or the folder cannot be watched.
pub fn watch_file<T: Into<Loaded> + 'static>(
    path: &Path,
    loader: Loader<T>,
    metrics: Arc<dyn SourceMetrics>,
) -> Result<FileSource, WatchError> {
    let loader: Loader<Loaded> = Box::new(move || loader().map(Into::into));
    // Before the loader reads, so that a write in between is seen as one more change.
    let file = Fingerprint::of(path);
    let Loaded { blueprint, inputs } = loader().map_err(|reason| WatchError::Load {
        path: path.to_owned(),
        reason,
    })?;
    let name: Arc<str> = format!("file:{}", path.display()).into();
    let (sender, intents) = watch::channel(Intent {
        blueprint: Arc::new(blueprint),
        status: Some(current(&name)),
        rejected: None,
    });
    // One wake-up waiting is as good as many.
    let (wake, woken) = mpsc::channel(1);
    let watcher = notifications(path, wake)?;
    let (reload, reloads) = mpsc::channel(1);
    let following = Following {
        path: path.to_owned(),
        name,
        loader,
        metrics,
        seen: Seen {
            file,
            inputs: fingerprints(inputs),
        },
        sender,
        _watcher: watcher,
    };
    Ok(FileSource {
        intents,
        reload: Reload(reload),
        _task: Task::spawn(following.run(woken, reloads)),
    })
}

/// Writers of a file often take several steps; the last one counts.
const QUIET: Duration = Duration::from_millis(50);

/// A folder in which something else is written all the time, such as a log, never gets quiet:
/// then the file is looked at this often.
const SETTLED: Duration = Duration::from_millis(500);

/// Network file systems send no notifications; a change there is seen this late.
const POLL: Duration = Duration::from_secs(5);

fn notifications(path: &Path, wake: mpsc::Sender<()>) -> Result<RecommendedWatcher, WatchError> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let failed = |source| WatchError::Notify {
        path: folder.to_owned(),
        source,
    };
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        // Errors of the watcher wake us too: the bytes are compared anyway.
        if event.map_or(true, |event| may_be_a_change(event.kind)) {
            // A full queue already holds a wake-up; a closed one means that nobody watches.
            let _ = wake.try_send(());
        }
    })
    .map_err(failed)?;
    watcher
        .watch(folder, RecursiveMode::NonRecursive)
        .map_err(failed)?;
    Ok(watcher)
}

/// Whether a file in the folder may have got other bytes, or another file its name.
fn may_be_a_change(kind: EventKind) -> bool {
    match kind {
        // The end of a write counts, its pieces don't: a log in the same folder has many pieces
        // and no end. Only Linux tells the end.
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => true,
        EventKind::Modify(ModifyKind::Data(_)) => !cfg!(target_os = "linux"),
        // Reading the file ourselves is an access, and would wake us for ever.
        EventKind::Access(_) => false,
        _ => true,
    }
}

struct Following {
    path: PathBuf,
    name: Arc<str>,
    loader: Loader<Loaded>,
    metrics: Arc<dyn SourceMetrics>,
    seen: Seen,
    sender: watch::Sender<Intent>,
    _watcher: RecommendedWatcher,
}

impl Following {
    async fn run(mut self, mut woken: mpsc::Receiver<()>, mut reloads: mpsc::Receiver<()>) {
        let mut poll = tokio::time::interval(POLL);
        loop {
            tokio::select! {
                Some(()) = reloads.recv() => self.load(),
                Some(()) = woken.recv() => {
                    settle(&mut woken).await;
                    self.load_if_changed();
                }
                _ = poll.tick() => self.load_if_changed(),
            }
        }
    }

    fn load_if_changed(&mut self) {
        if self.seen.is_outdated(&self.path) {
            self.load();
        }
    }

    fn load(&mut self) {
        // Before the loader reads, so that a write in between is seen as one more change.
        self.seen.file = Fingerprint::of(&self.path);
        let mut inputs = fingerprints(self.seen.inputs.keys().cloned());
        match (self.loader)() {
            Ok(loaded) => {
                let named = loaded.inputs.into_iter().map(|path| {
                    let seen = inputs.remove(&path);
                    let seen = seen.unwrap_or_else(|| Fingerprint::of(&path));
                    (path, seen)
                });
                self.seen.inputs = named.collect();
                self.accept(loaded.blueprint);
            }
            Err(reason) => {
                // Tried once; the next change of one of them is worth another try.
                self.seen.inputs = inputs;
                self.refuse(reason);
            }
        }
    }

    fn accept(&self, blueprint: Blueprint) {
        tracing::info!(file = %self.path.display(), "configuration loaded");
        self.metrics.current("file", true);
        self.sender.send_modify(|state| {
            if *state.blueprint != blueprint {
                state.blueprint = Arc::new(blueprint);
            }
            state.status = Some(current(&self.name));
            state.rejected = None;
        });
    }

    fn refuse(&self, reason: String) {
        tracing::error!(file = %self.path.display(), %reason, "configuration refused; the last good one stays");
        self.metrics.watch_failed("file");
        self.metrics.current("file", false);
        self.sender.send_modify(|state| {
            let since = match state.status.as_ref().map(|status| &status.state) {
                Some(SourceState::Stale { since, .. }) => *since,
                _ => SystemTime::now(),
            };
            state.status = Some(SourceStatus {
                name: Arc::clone(&self.name),
                state: SourceState::Stale {
                    since,
                    cause: StaleCause::Answer,
                    reason: "the file on disk is refused".to_owned(),
                },
            });
            state.rejected = Some(Rejection {
                resource: self.name.to_string(),
                reason,
            });
        });
    }
}

/// Waits until no wake-up came for [`QUIET`], at most [`SETTLED`].
async fn settle(woken: &mut mpsc::Receiver<()>) {
    let quiet =
        async { while let Ok(Some(())) = tokio::time::timeout(QUIET, woken.recv()).await {} };
    // A folder that never rests is looked at all the same.
    let _ = tokio::time::timeout(SETTLED, quiet).await;
}

fn current(name: &Arc<str>) -> SourceStatus {
    SourceStatus {
        name: Arc::clone(name),
        state: SourceState::Current,
    }
}

/// What was read last.
struct Seen {
    file: Fingerprint,
    inputs: BTreeMap<PathBuf, Fingerprint>,
}

impl Seen {
    fn is_outdated(&self, path: &Path) -> bool {
        let differs = |(path, seen): (&PathBuf, &Fingerprint)| Fingerprint::of(path) != *seen;
        Fingerprint::of(path) != self.file || self.inputs.iter().any(differs)
    }
}

fn fingerprints(inputs: impl IntoIterator<Item = PathBuf>) -> BTreeMap<PathBuf, Fingerprint> {
    inputs
        .into_iter()
        .map(|path| {
            let seen = Fingerprint::of(&path);
            (path, seen)
        })
        .collect()
}

/// The bytes behind a path, hashed; a missing file has a fingerprint of its own.
#[derive(Debug, PartialEq, Eq)]
struct Fingerprint(Option<u64>);

impl Fingerprint {
    fn of(path: &Path) -> Self {
        // Unreadable is a state like any other: the loader says why.
        Self(std::fs::read(path).ok().map(|bytes| {
            let mut hasher = DefaultHasher::new();
            bytes.hash(&mut hasher);
            hasher.finish()
        }))
    }
}

#[cfg(test)]
mod tests;
