//! The workspace as data, for the tests that hold it to its rules.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// Folders with sources that are not crates of the workspace, or not ours.
const NOT_SOURCES: [&str; 3] = ["target", ".git", "node_modules"];

/// The workspace's root directory.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the workspace around this crate")
}

/// What `cargo metadata` says about everything that is built.
///
/// Not `--offline`: it wants the packages of other platforms too, which no build has
/// fetched on a fresh machine.
pub fn metadata() -> Value {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version=1", "--locked"])
        .current_dir(root())
        .output()
        .expect("cargo runs");
    let problem = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "cargo metadata: {problem}");
    serde_json::from_slice(&output.stdout).expect("metadata as JSON")
}

/// Each member crate, by folder name, with the names of what it depends on:
/// `normal` and `build` ones, not those of its tests.
pub fn members(metadata: &Value) -> BTreeMap<String, BTreeSet<String>> {
    let members: BTreeSet<_> = array(&metadata["workspace_members"])
        .iter()
        .filter_map(Value::as_str)
        .collect();
    array(&metadata["packages"])
        .iter()
        .filter(|package| members.contains(package["id"].as_str().unwrap_or_default()))
        .map(|package| (folder(package), dependencies(package)))
        .collect()
}

/// Folder of a member crate, by what the metadata say of it.
pub fn folder(package: &Value) -> String {
    let manifest = Path::new(package["manifest_path"].as_str().unwrap_or_default());
    let folder = manifest.parent().and_then(Path::file_name);
    folder.unwrap_or_default().to_string_lossy().into_owned()
}

fn dependencies(package: &Value) -> BTreeSet<String> {
    array(&package["dependencies"])
        .iter()
        .filter(|dependency| dependency["kind"] != "dev")
        .filter_map(|dependency| dependency["name"].as_str())
        .map(str::to_owned)
        .collect()
}

fn array(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// One source file.
#[derive(Debug)]
pub struct Source {
    /// Path below the root.
    pub path: PathBuf,
    /// Content.
    pub text: String,
}

/// Every Rust file of the workspace.
pub fn sources() -> Vec<Source> {
    let mut found = Vec::new();
    collect(root(), &mut found);
    found.sort_by(|one, other| one.path.cmp(&other.path));
    found
}

fn collect(directory: &Path, found: &mut Vec<Source>) {
    for entry in std::fs::read_dir(directory).expect("a directory of the workspace") {
        let path = entry.expect("an entry of a directory").path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if path.is_dir() {
            if !NOT_SOURCES.contains(&name.as_ref()) {
                collect(&path, found);
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path).expect("a source file");
            let path = path.strip_prefix(root()).expect("a path below the root");
            found.push(Source {
                path: path.to_owned(),
                text,
            });
        }
    }
}
