//! The rules of the workspace, read from its manifests and files, so that a plain
//! `cargo test` holds them.

use std::collections::BTreeSet;
use std::path::Path;

use meridian_tests::workspace::{Source, members, metadata, root, sources};
use serde_json::Value;

/// Who may know whom, by folder. What a crate's tests use is not held here.
const ARROWS: [(&str, &[&str]); 13] = [
    ("model", &[]),
    ("config", &["model"]),
    ("consul", &[]),
    ("nomad", &[]),
    ("sources", &["consul", "nomad", "model"]),
    ("telemetry", &[]),
    ("dataplane", &["model", "telemetry"]),
    ("program", PARTS),
    ("gateway", ANY),
    ("meshd", ANY),
    ("meridian", ANY),
    ("tests", ANY),
    ("bench", &["tests", "dataplane", "model", "telemetry"]),
];

/// The frame of the programs maps all sides onto each other at start-up.
const PARTS: &[&str] = &[
    "config",
    "consul",
    "nomad",
    "sources",
    "telemetry",
    "dataplane",
    "model",
];

/// Programs and tests see everything but each other.
const ANY: &[&str] = &[
    "program",
    "config",
    "consul",
    "nomad",
    "sources",
    "telemetry",
    "dataplane",
    "model",
];

/// What the model may use from outside: values only, nothing that reads, writes,
/// waits or says how it is written down.
const MODEL_USES: [&str; 3] = ["http", "ipnet", "regex"];

/// Longer files are listed, for the eye of whoever touches them next.
const SOFT_CAP: usize = 400;

/// Longer files hold more than one idea.
const HARD_CAP: usize = 800;

/// Names that say nothing about what is inside.
const EMPTY_NAMES: [&str; 4] = ["utils", "common", "helpers", "manager"];

#[test]
fn crates_know_only_whom_they_may() {
    let members = members(&metadata());
    let names: BTreeSet<_> = members.keys().map(String::as_str).collect();
    let ruled: BTreeSet<_> = ARROWS.iter().map(|(name, _)| *name).collect();
    assert_eq!(
        names, ruled,
        "each crate of the workspace needs its rule here"
    );
    for (name, allowed) in ARROWS {
        for inner in members[name]
            .iter()
            .filter_map(|package| inner_folder(package))
        {
            assert!(
                allowed.contains(&inner),
                "{name} must not depend on {inner}"
            );
        }
    }
}

#[test]
fn the_model_is_made_of_plain_values() {
    let members = members(&metadata());
    let outside: Vec<_> = members["model"]
        .iter()
        .filter(|package| !MODEL_USES.contains(&package.as_str()))
        .collect();
    assert!(outside.is_empty(), "model must not depend on {outside:?}");
}

#[test]
fn only_the_data_plane_knows_pingora() {
    for (name, packages) in members(&metadata()) {
        let pingora = packages
            .iter()
            .any(|package| package.starts_with("pingora"));
        assert!(
            !pingora || name == "dataplane",
            "{name} must not depend on Pingora"
        );
    }
}

#[test]
fn pingora_is_pinned() {
    let manifest = read("Cargo.toml");
    let lines = manifest.lines().filter(|line| line.starts_with("pingora"));
    for line in lines {
        assert!(line.contains("\"=0.9.1\""), "not pinned: {line}");
    }
}

/// `deny.toml` is cargo-deny's to enforce, which not every machine has. Licences
/// are what must never slip, and Cargo knows them.
#[test]
fn every_dependency_has_an_allowed_licence() {
    let policy = read("deny.toml");
    let list = between(&policy, "\nallow = [", "\n]");
    let allowed: BTreeSet<_> = list
        .lines()
        .filter_map(|line| line.trim().strip_prefix('"')?.split('"').next())
        .collect();
    assert!(
        allowed.contains("Apache-2.0"),
        "no list of licences in deny.toml"
    );
    let metadata = metadata();
    for package in metadata["packages"].as_array().into_iter().flatten() {
        let licence = package["license"].as_str().unwrap_or_default();
        assert!(
            permits(licence, &allowed),
            "{}: licence {licence:?}",
            package["name"]
        );
    }
}

#[test]
fn every_dependency_is_a_released_crate() {
    let metadata = metadata();
    for package in metadata["packages"].as_array().into_iter().flatten() {
        let from = &package["source"];
        let released = from
            .as_str()
            .is_some_and(|source| source.starts_with("registry+"));
        assert!(
            released || *from == Value::Null,
            "{} comes from {from}",
            package["name"]
        );
    }
}

#[test]
fn every_file_says_what_lives_in_it() {
    each_source(|source| {
        let opens = source.text.starts_with("//!");
        (!opens).then(|| "does not open with `//!`".to_owned())
    });
}

#[test]
#[expect(
    clippy::print_stdout,
    reason = "the list is for the reader of the test's output"
)]
fn files_stay_short() {
    for source in sources() {
        let lines = source.text.lines().count();
        if lines > SOFT_CAP {
            println!(
                "{}: {lines} lines, soft cap {SOFT_CAP}",
                source.path.display()
            );
        }
    }
    each_source(|source| {
        let lines = source.text.lines().count();
        (lines > HARD_CAP).then(|| format!("{lines} lines, hard cap {HARD_CAP}"))
    });
}

#[test]
fn modules_are_named_after_what_they_hold() {
    each_source(|source| {
        let stem = source.path.file_stem()?.to_str()?;
        let parent = source.path.parent()?.file_name()?.to_str()?;
        if stem == "mod" {
            return Some("`mod.rs`: use `name.rs` beside `name/`".to_owned());
        }
        let empty = EMPTY_NAMES
            .iter()
            .find(|name| [stem, parent].contains(name))?;
        Some(format!("`{empty}` says nothing about what is inside"))
    });
}

#[test]
fn no_test_is_switched_off() {
    // Put together here, so that this file does not find itself.
    let switch = ["#[", "ignore"].concat();
    each_source(|source| {
        source
            .text
            .contains(&switch)
            .then(|| format!("contains {switch}"))
    });
}

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

/// The fuzz targets stand outside the workspace, where no stable build meets them:
/// what they call is run here by a test over their seeds.
#[test]
fn every_fuzz_target_has_seeds_and_a_test_that_runs_them() {
    let sources = sources();
    let targets = sources
        .iter()
        .filter(|source| source.path.starts_with("fuzz/fuzz_targets"));
    let mut count = 0;
    for target in targets {
        count += 1;
        let name = target.path.file_stem().unwrap_or_default();
        let name = name.to_string_lossy();
        let corpus = root().join("fuzz/corpus").join(&*name);
        let seeds = std::fs::read_dir(&corpus).map_or(0, Iterator::count);
        assert!(seeds > 0, "no seeds in {}", corpus.display());
        let call = format!("Corpus::read(\"{name}\")");
        let run = sources.iter().any(|source| source.text.contains(&call));
        assert!(run, "no test runs the seeds of {name}");
    }
    assert!(count > 0, "no fuzz targets");
    assert!(read("docs/architecture.md").contains("`fuzz/`"));
}

#[test]
fn every_crate_says_what_it_is_for() {
    let metadata = metadata();
    for package in metadata["packages"].as_array().into_iter().flatten() {
        if package["source"] == Value::Null {
            let said = package["description"]
                .as_str()
                .is_some_and(|text| !text.is_empty());
            assert!(said, "{} has no description", package["name"]);
        }
    }
}

/// Reports every file that breaks a rule, not the first one only.
fn each_source(rule: impl Fn(&Source) -> Option<String>) {
    let broken: Vec<_> = sources()
        .iter()
        .filter_map(|source| Some(format!("{}: {}", source.path.display(), rule(source)?)))
        .collect();
    assert!(broken.is_empty(), "\n{}", broken.join("\n"));
}

/// Folder of a crate of ours, from its package name.
fn inner_folder(package: &str) -> Option<&str> {
    let name = package.strip_prefix("meridian-").unwrap_or(package);
    ARROWS
        .iter()
        .map(|(folder, _)| *folder)
        .find(|folder| *folder == name)
}

/// Top-level folders in code marks, such as `model/`, and those in the first
/// column of a block.
fn folders_named(text: &str) -> impl Iterator<Item = &str> {
    let marked = text.split('`').skip(1).step_by(2);
    marked.filter_map(|word| {
        let name = word.strip_suffix('/')?;
        name.chars()
            .all(|letter| letter.is_ascii_lowercase())
            .then_some(name)
    })
}

/// Is one alternative of an SPDX expression allowed in all its parts?
fn permits(expression: &str, allowed: &BTreeSet<&str>) -> bool {
    let flat = expression.replace(['(', ')'], "").replace('/', " OR ");
    // Without its parentheses `(A OR B) AND C` reads `A OR (B AND C)`: asking for
    // every part that an AND joins keeps the answer on the safe side.
    let strict = flat.contains(" AND ");
    let mut parts = flat
        .split(" AND ")
        .flat_map(|part| part.split(" OR "))
        .map(str::trim);
    if strict {
        parts.all(|part| allowed.contains(part))
    } else {
        parts.any(|part| allowed.contains(part))
    }
}

fn between<'a>(text: &'a str, start: &str, end: &str) -> &'a str {
    let (_, rest) = text.split_once(start).unwrap_or_default();
    rest.split_once(end).map_or("", |(inside, _)| inside)
}

fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
