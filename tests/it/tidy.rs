//! The rules of the workspace, read from its manifests and files, so that a plain
//! `cargo test` holds them.

mod documents;

use std::collections::BTreeSet;
use std::path::Path;

use meridian_tests::workspace::{Source, folder, members, metadata, root, sources};
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
const MODEL_USES: [&str; 2] = ["http", "regex"];

/// Its versions are taken deliberately: docs/decisions/0002-no-pingora-proxy-crate.md.
const PINGORA: &str = "=0.9.1";

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
    let metadata = metadata();
    let ours = array(&metadata["packages"]).filter(|package| package["source"] == Value::Null);
    let all = ours.flat_map(|package| array(&package["dependencies"]));
    let named = |one: &&Value| {
        one["name"]
            .as_str()
            .unwrap_or_default()
            .starts_with("pingora")
    };
    let pingora: Vec<_> = all.filter(named).collect();
    assert!(!pingora.is_empty(), "nobody uses Pingora");
    for dependency in pingora {
        assert_eq!(dependency["req"], PINGORA, "{}", dependency["name"]);
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
    for package in array(&metadata["packages"]) {
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
    for package in array(&metadata["packages"]) {
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

/// What nobody uses is built all the same, and makes an arrow that isn't there.
#[test]
fn every_dependency_is_used() {
    let (metadata, sources) = (metadata(), sources());
    let mut unused = Vec::new();
    for package in array(&metadata["packages"]).filter(|one| one["source"] == Value::Null) {
        let folder = folder(package);
        let within = sources
            .iter()
            .filter(|source| source.path.starts_with(&folder));
        let within: Vec<_> = within.collect();
        for dependency in array(&package["dependencies"]) {
            let name = dependency["rename"]
                .as_str()
                .or_else(|| dependency["name"].as_str());
            let name = name.unwrap_or_default().replace('-', "_");
            if !within.iter().any(|source| names(&source.text, &name)) {
                unused.push(format!("{folder}: {name}"));
            }
        }
    }
    assert!(unused.is_empty(), "\n{}", unused.join("\n"));
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
        if source.path.ends_with("mod.rs") {
            return Some("`mod.rs`: use `name.rs` beside `name/`".to_owned());
        }
        let path = source.path.with_extension("");
        let empty = EMPTY_NAMES
            .iter()
            .find(|name| path.iter().any(|part| part == **name))?;
        Some(format!("`{empty}` says nothing about what is inside"))
    });
}

#[test]
fn no_test_is_switched_off() {
    each_source(|source| {
        let attributes = source.text.split("#[").skip(1);
        let switched = |attribute: &str| {
            let conditional = attribute.starts_with("cfg_attr") && attribute.contains("ignore");
            attribute.starts_with("ignore") || conditional
        };
        let attribute = attributes
            .filter_map(|rest| rest.split(']').next())
            .find(|attribute| switched(attribute))?;
        Some(format!("contains `{attribute}`"))
    });
}

/// Among them is that no code is unsafe.
#[test]
fn every_crate_is_held_to_the_lints_of_the_workspace() {
    assert!(read("Cargo.toml").contains("unsafe_code = \"forbid\""));
    for name in members(&metadata()).keys() {
        let manifest = read(format!("{name}/Cargo.toml"));
        let held = manifest.contains("\n[lints]\nworkspace = true\n");
        assert!(held, "{name} has lints of its own, or none");
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
    for package in array(&metadata["packages"]) {
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

/// Does a path in `text` begin with this crate?
fn names(text: &str, krate: &str) -> bool {
    let part = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    text.match_indices(krate).any(|(start, _)| {
        let after = &text[start + krate.len()..];
        after.starts_with("::") && !text[..start].ends_with(part)
    })
}

fn array(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// Folder of a crate of ours, from its package name.
fn inner_folder(package: &str) -> Option<&str> {
    let name = package.strip_prefix("meridian-").unwrap_or(package);
    ARROWS
        .iter()
        .map(|(folder, _)| *folder)
        .find(|folder| *folder == name)
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
