//! A configuration file, watched: every good version becomes a blueprint, a bad one changes nothing.
//!
//! Editors write in place or rename a new file over the old one; Kubernetes swaps a symlink two
//! folders up. So the file's folder is watched, not the file, and what decides is not the event
//! but whether the bytes behind the path differ. A slow poll stands behind the notifications,
//! for file systems that send none.

use crate::intent::Intent;
use crate::publish::{SourceMetrics, Task};
use meridian_model::{Blueprint, Rejection, SourceState, SourceStatus};
use notify::{RecommendedWatcher, RecursiveMode, Watcher};
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

/// Turns the file into a blueprint, or says every error at once.
pub type Loader = Box<dyn Fn() -> Result<Blueprint, String> + Send + Sync>;

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
pub fn watch_file(
    path: &Path,
    loader: Loader,
    metrics: Arc<dyn SourceMetrics>,
) -> Result<FileSource, WatchError> {
    let fingerprint = Fingerprint::of(path);
    let blueprint = loader().map_err(|reason| WatchError::Load {
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
        fingerprint,
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
        // Reading the file ourselves is an access, and would wake us for ever. Errors of the
        // watcher wake us too: the bytes are compared anyway.
        if !event.is_ok_and(|event| event.kind.is_access()) {
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

struct Following {
    path: PathBuf,
    name: Arc<str>,
    loader: Loader,
    metrics: Arc<dyn SourceMetrics>,
    fingerprint: Fingerprint,
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
        if Fingerprint::of(&self.path) != self.fingerprint {
            self.load();
        }
    }

    fn load(&mut self) {
        // Before the loader reads, so that a write in between is seen as one more change.
        self.fingerprint = Fingerprint::of(&self.path);
        match (self.loader)() {
            Ok(blueprint) => self.accept(blueprint),
            Err(reason) => self.refuse(reason),
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

/// Waits until no wake-up came for [`QUIET`].
async fn settle(woken: &mut mpsc::Receiver<()>) {
    while let Ok(Some(())) = tokio::time::timeout(QUIET, woken.recv()).await {}
}

fn current(name: &Arc<str>) -> SourceStatus {
    SourceStatus {
        name: Arc::clone(name),
        state: SourceState::Current,
    }
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
mod tests {
    use super::*;
    use meridian_model::{Backend, Cluster, Discovery, UpstreamProtocol};
    use std::fs;
    use std::os::unix::fs::symlink;

    /// A file's text is the name of its one backend; `bad` is refused.
    fn load(path: &Path) -> Result<Blueprint, String> {
        let text = fs::read_to_string(path).map_err(|error| error.to_string())?;
        if text == "bad" {
            return Err("line 1: bad".to_owned());
        }
        let name = text.as_str().into();
        let backend = Backend {
            cluster: Cluster::new(name, UpstreamProtocol::Tcp, Vec::new()),
            discovery: Discovery::Static(Vec::new()),
            tls: None,
        };
        Ok(Blueprint {
            listeners: Vec::new(),
            backends: vec![backend],
        })
    }

    fn start(path: &Path) -> Result<FileSource, WatchError> {
        let owned = path.to_owned();
        watch_file(path, Box::new(move || load(&owned)), Arc::new(()))
    }

    async fn wait(source: &mut FileSource, accept: impl Fn(&Intent) -> bool) -> Intent {
        let found = tokio::time::timeout(
            Duration::from_secs(10),
            source.intents.wait_for(|state| accept(state)),
        );
        found.await.expect("in time").expect("running").clone()
    }

    fn name_of(state: &Intent) -> &str {
        state.blueprint.backends[0].cluster.name.as_str()
    }

    #[tokio::test]
    async fn a_bad_first_version_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("gateway.yaml");
        fs::write(&path, "bad").unwrap();
        let error = start(&path).unwrap_err();
        assert!(error.to_string().contains("line 1: bad"), "{error}");
    }

    #[tokio::test]
    async fn follows_writes_renames_and_deletion() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("gateway.yaml");
        fs::write(&path, "one").unwrap();
        let mut source = start(&path).unwrap();
        assert_eq!(name_of(&source.intents.borrow()), "one");

        fs::write(&path, "two").unwrap();
        wait(&mut source, |state| name_of(state) == "two").await;

        let other = folder.path().join(".gateway.yaml.swp");
        fs::write(&other, "three").unwrap();
        fs::rename(&other, &path).unwrap();
        wait(&mut source, |state| name_of(state) == "three").await;

        fs::remove_file(&path).unwrap();
        let state = wait(&mut source, |state| state.rejected.is_some()).await;
        assert_eq!(name_of(&state), "three");
    }

    #[tokio::test]
    async fn a_bad_version_keeps_the_last_good_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("gateway.yaml");
        fs::write(&path, "one").unwrap();
        let mut source = start(&path).unwrap();
        fs::write(&path, "bad").unwrap();
        let state = wait(&mut source, |state| state.rejected.is_some()).await;
        assert_eq!(name_of(&state), "one");
        let status = state.status.unwrap();
        assert!(matches!(status.state, SourceState::Stale { .. }));
        fs::write(&path, "one").unwrap();
        let state = wait(&mut source, |state| state.rejected.is_none()).await;
        assert_eq!(state.status.unwrap().state, SourceState::Current);
    }

    #[tokio::test]
    async fn follows_a_symlink_that_is_swapped() {
        let folder = tempfile::tempdir().unwrap();
        for (version, text) in [("v1", "one"), ("v2", "two")] {
            fs::create_dir(folder.path().join(version)).unwrap();
            fs::write(folder.path().join(version).join("gateway.yaml"), text).unwrap();
        }
        symlink("v1", folder.path().join("..data")).unwrap();
        let path = folder.path().join("gateway.yaml");
        symlink("..data/gateway.yaml", &path).unwrap();
        let mut source = start(&path).unwrap();
        assert_eq!(name_of(&source.intents.borrow()), "one");
        symlink("v2", folder.path().join("..data_tmp")).unwrap();
        fs::rename(
            folder.path().join("..data_tmp"),
            folder.path().join("..data"),
        )
        .unwrap();
        wait(&mut source, |state| name_of(state) == "two").await;
    }

    #[tokio::test]
    async fn reload_reads_even_what_looks_unchanged() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("gateway.yaml");
        fs::write(&path, "one").unwrap();
        let (asked, mut asks) = mpsc::unbounded_channel();
        let loader = move || {
            asked.send(()).expect("the test listens");
            Ok(Blueprint::default())
        };
        let source = watch_file(&path, Box::new(loader), Arc::new(())).unwrap();
        asks.recv().await.unwrap();
        source.reload();
        let again = tokio::time::timeout(Duration::from_secs(10), asks.recv()).await;
        assert_eq!(again, Ok(Some(())));
    }
}
