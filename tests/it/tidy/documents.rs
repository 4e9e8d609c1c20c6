//! What documents name is there.

use std::path::PathBuf;

use super::{members, metadata, read, root, sources};

#[test]
fn the_documents_name_every_crate_and_no_other() {
    let members = members(&metadata());
    for document in ["README.md", "docs/architecture.md"] {
        let text = read(document);
        for name in members.keys() {
            let named = [format!("`{name}/`"), format!("\n{name}/")];
            let found = named.iter().any(|form| text.contains(form));
            assert!(found, "{document} does not name {name}/");
        }
        for folder in folders_named(&text) {
            let exists = root().join(folder).is_dir();
            assert!(exists, "{document} names {folder}/, which does not exist");
        }
    }
}

/// The tables of docs/consul.md say which test shows what: a test that was given another
/// name, or a file that was moved, would leave them without proof.
#[test]
fn the_documents_name_only_files_and_tests_that_are_there() {
    let sources = sources();
    let mut lost = Vec::new();
    for document in documents() {
        let text = read(&document);
        for word in marked(&text) {
            let there = if word.ends_with(".rs") && word.contains('/') {
                root().join(word).is_file()
            } else if is_name_of_a_test(word) {
                sources.iter().any(|source| source.text.contains(word))
            } else {
                true
            };
            if !there {
                lost.push(format!("{}: `{word}`", document.display()));
            }
        }
        for target in links(&text) {
            let beside = root().join(&document).with_file_name(target);
            if !beside.exists() {
                lost.push(format!("{}: link to {target}", document.display()));
            }
        }
    }
    assert!(lost.is_empty(), "\n{}", lost.join("\n"));
}

/// README.md and everything below docs/.
fn documents() -> Vec<PathBuf> {
    let mut found = vec![PathBuf::from("README.md")];
    let mut folders = vec![PathBuf::from("docs")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(root().join(&folder)).expect("a folder") {
            let path = folder.join(entry.expect("an entry of a folder").file_name());
            if root().join(&path).is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "md") {
                found.push(path);
            }
        }
    }
    found
}

/// What stands in code marks.
fn marked(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// Sentences in snake case; settings and metrics are shorter, or begin with a word of their own.
fn is_name_of_a_test(word: &str) -> bool {
    let snake =
        |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '_';
    word.chars().all(snake) && word.matches('_').count() >= 3 && !word.starts_with("meridian_")
}

/// Files that a text links to; sections and other sites are not held.
fn links(text: &str) -> impl Iterator<Item = &str> {
    let targets = text.split("](").skip(1);
    let targets = targets.filter_map(|rest| rest.split([')', '#']).next());
    targets.filter(|target| !target.is_empty() && !target.contains("://"))
}

/// Top-level folders in code marks, such as `model/`, and those in the first
/// column of a block.
fn folders_named(text: &str) -> impl Iterator<Item = &str> {
    marked(text).filter_map(|word| {
        let name = word.strip_suffix('/')?;
        name.chars()
            .all(|letter| letter.is_ascii_lowercase())
            .then_some(name)
    })
}
