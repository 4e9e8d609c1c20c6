//! What is kept, what is not, and what is refused.

use super::*;
use consul::Raw;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use tempfile::TempDir;

fn options(folder: &TempDir, keep_keys: bool) -> MemoryOptions {
    MemoryOptions {
        directory: folder.path().join("state"),
        keep_keys,
    }
}

fn open(folder: &TempDir, keep_keys: bool) -> Memory {
    Memory::open(&options(folder, keep_keys), "web").unwrap()
}

fn leaf() -> Raw {
    Raw::Body(br#"{"CertPEM": "c", "PrivateKeyPEM": "secret", "Service": "web"}"#.to_vec())
}

fn shelf(memory: &Memory, topic: &Topic) -> Shelf {
    memory.shelf(topic, format!("GET /{topic:?}"))
}

impl Memory {
    /// Writes what is pending, as of a run to which Consul answers.
    pub(crate) fn write_now(&self) {
        self.note_current(true);
        self.confirm(Instant::now());
        let pending = std::mem::take(&mut self.state().pending);
        self.shared.folder.write_all(pending).unwrap();
    }
}

/// A run that keeps a leaf, roots, and that there is no `mesh` entry.
fn run(folder: &TempDir, keep_keys: bool) {
    let memory = open(folder, keep_keys);
    memory.note_proxy("web-proxy");
    shelf(&memory, &Topic::Leaf("web".into())).keep(&leaf());
    shelf(&memory, &Topic::Roots).keep(&Raw::Body(b"{}".to_vec()));
    shelf(&memory, &Topic::Mesh).keep(&Raw::Absent);
    memory.write_now();
}

fn recalled(memory: &Memory, topic: &Topic) -> Option<Raw> {
    match shelf(memory, topic).recall()? {
        Kept::Answer(raw, _) => Some(raw),
        Kept::WithoutKey(_) => None,
    }
}

#[test]
fn answers_come_back_as_they_were_and_keys_only_where_they_are_asked_for() {
    let folder = TempDir::new().unwrap();
    run(&folder, true);
    let memory = open(&folder, true);
    assert_eq!(memory.proxy().as_deref(), Some("web-proxy"));
    assert_eq!(recalled(&memory, &Topic::Leaf("web".into())), Some(leaf()));
    assert_eq!(recalled(&memory, &Topic::Mesh), Some(Raw::Absent));
    assert_eq!(recalled(&memory, &Topic::Agent), None);
    let Some(Kept::Answer(_, age)) = shelf(&memory, &Topic::Roots).recall() else {
        panic!("no roots");
    };
    assert!(age.elapsed().unwrap() < Duration::from_secs(60));
}

#[test]
fn what_has_an_age_of_its_own_keeps_it() {
    let folder = TempDir::new().unwrap();
    let fetched = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000);
    let memory = open(&folder, false);
    shelf(&memory, &Topic::Datacenters).keep_of(&Raw::Body(b"[]".to_vec()), fetched);
    memory.write_now();
    drop(memory);
    let kept = shelf(&open(&folder, false), &Topic::Datacenters).recall();
    assert!(
        matches!(kept, Some(Kept::Answer(_, at)) if at == fetched),
        "{kept:?}"
    );
}

#[test]
fn no_key_reaches_the_disk_unasked() {
    let folder = TempDir::new().unwrap();
    run(&folder, false);
    for entry in fs::read_dir(folder.path().join("state")).unwrap() {
        let path = entry.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        assert!(!text.contains("secret"), "{}", path.display());
        let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{}", path.display());
    }
    let memory = open(&folder, false);
    let kept = shelf(&memory, &Topic::Leaf("web".into())).recall();
    assert!(matches!(kept, Some(Kept::WithoutKey(_))), "{kept:?}");
    let certificate = Topic::Entry("inline-certificate", "edge".into());
    let entry = Raw::Body(br#"{"PrivateKey": "secret"}"#.to_vec());
    shelf(&memory, &certificate).keep(&entry);
    let state = memory.state();
    let written = state.pending.values().flatten().next().unwrap();
    assert!(!String::from_utf8_lossy(written).contains("secret"));
}

#[test]
fn keys_of_an_earlier_run_are_removed_once_they_are_not_wanted() {
    let folder = TempDir::new().unwrap();
    run(&folder, true);
    let memory = open(&folder, false);
    assert!(
        shelf(&memory, &Topic::Leaf("web".into()))
            .recall()
            .is_none()
    );
    assert!(recalled(&memory, &Topic::Roots).is_some());
}

#[test]
fn another_proxys_memory_is_not_ours() {
    let folder = TempDir::new().unwrap();
    run(&folder, true);
    let other = Memory::open(&options(&folder, true), "api").unwrap();
    assert_eq!(other.proxy(), None);
    assert_eq!(recalled(&other, &Topic::Roots), None);
    drop(other);
    assert_eq!(
        recalled(&open(&folder, true), &Topic::Roots),
        None,
        "removed"
    );
}

#[test]
fn one_process_has_the_folder() {
    let folder = TempDir::new().unwrap();
    let _held = open(&folder, false);
    let error = Memory::open(&options(&folder, false), "web").unwrap_err();
    assert!(matches!(error, MemoryError::InUse { .. }), "{error}");
}

#[test]
fn what_others_could_read_or_write_is_refused() {
    let folder = TempDir::new().unwrap();
    run(&folder, true);
    let state = folder.path().join("state");
    let loosen = |path: &Path, mode| fs::set_permissions(path, Permissions::from_mode(mode));
    loosen(&state, 0o750).unwrap();
    let error = Memory::open(&options(&folder, true), "web").unwrap_err();
    assert!(error.to_string().contains("chmod 700"), "{error}");
    loosen(&state, 0o770).unwrap();
    let error = Memory::open(&options(&folder, false), "web").unwrap_err();
    assert!(matches!(error, MemoryError::Loose { .. }), "{error}");

    loosen(&state, 0o700).unwrap();
    let memory = open(&folder, true);
    let leaf = shelf(&memory, &Topic::Leaf("web".into()));
    loosen(&state.join(&leaf.file), 0o640).unwrap();
    assert!(leaf.recall().is_none());
}

#[test]
fn what_is_no_longer_asked_for_is_removed() {
    let folder = TempDir::new().unwrap();
    run(&folder, true);
    let memory = open(&folder, true);
    let roots = shelf(&memory, &Topic::Roots);
    memory.keep(&BTreeSet::from([Topic::Mesh]));
    memory.write_now();
    assert!(roots.recall().is_none());
    assert!(recalled(&memory, &Topic::Mesh).is_some());
    // Files of topics that this run never asked for go once it is settled.
    let late = memory.shared.began + PRUNE_AFTER;
    memory.state().used.clear();
    memory.state().confirmed = None;
    memory.confirm(late);
    assert!(recalled(&memory, &Topic::Mesh).is_none());
}

#[test]
fn a_torn_or_foreign_file_is_no_answer() {
    let folder = TempDir::new().unwrap();
    run(&folder, true);
    let memory = open(&folder, true);
    let roots = shelf(&memory, &Topic::Roots);
    let path = memory.directory().join(&roots.file);
    for content in [
        "",
        "{}",
        "{\"format\":2}\n{}",
        "{\"format\":1,\"request\":\"x\"}\n{}",
    ] {
        fs::write(&path, content).unwrap();
        assert!(roots.recall().is_none(), "{content}");
    }
}
