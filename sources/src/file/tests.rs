//! Real files, changed as editors, operators and Kubernetes change them.

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
    let loader: Loader = Box::new(move || load(&owned));
    watch_file(path, loader, Arc::new(()))
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
async fn a_change_of_an_input_is_a_change() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gateway.yaml");
    let certificate = folder.path().join("edge.pem");
    fs::write(&path, "ignored").unwrap();
    fs::write(&certificate, "one").unwrap();
    let input = certificate.clone();
    let loader: Loader<Loaded> = Box::new(move || {
        Ok(Loaded {
            inputs: vec![input.clone()],
            blueprint: load(&input)?,
        })
    });
    let mut source = watch_file(&path, loader, Arc::new(())).unwrap();
    fs::write(&certificate, "bad").unwrap();
    wait(&mut source, |state| state.rejected.is_some()).await;
    fs::write(&certificate, "two").unwrap();
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
    let loader: Loader = Box::new(loader);
    let source = watch_file(&path, loader, Arc::new(())).unwrap();
    asks.recv().await.unwrap();
    source.reload();
    let again = tokio::time::timeout(Duration::from_secs(10), asks.recv()).await;
    assert_eq!(again, Ok(Some(())));
}

#[tokio::test]
async fn follows_changes_beside_a_file_that_is_written_all_the_time() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gateway.yaml");
    fs::write(&path, "one").unwrap();
    let mut source = start(&path).unwrap();
    let log = folder.path().join("access.log");
    let noise = tokio::spawn(async move {
        let mut ticks = tokio::time::interval(Duration::from_millis(5));
        for line in 0.. {
            ticks.tick().await;
            fs::write(&log, line.to_string()).unwrap();
        }
    });
    fs::write(&path, "two").unwrap();
    // Well before the poll would have seen it.
    let seen = tokio::time::timeout(
        Duration::from_secs(3),
        wait(&mut source, |intent| name_of(intent) == "two"),
    );
    seen.await.expect("the change is seen while the log grows");
    noise.abort();
}
