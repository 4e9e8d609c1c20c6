//! Every shipped file loads, and none of its keys can be misspelt unnoticed.

#![expect(
    clippy::unwrap_used,
    reason = "the lint spares tests, but not the functions they call"
)]

use meridian_config::{GatewayFile, MeshFile, Report, reference, schema};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use std::fs;
use std::path::{Path, PathBuf};

#[test]
fn every_shipped_file_loads_without_a_warning() {
    let files = shipped();
    assert!(files.len() >= 6, "{files:?}");
    for file in &files {
        let stage = Stage::new();
        let path = stage.write(file, &read(file));
        let report = load(&path);
        assert!(report.is_empty(), "{report}");
    }
}

#[test]
fn the_file_that_the_readme_shows_loads_without_a_warning() {
    let readme = read(&crate_dir().join("../README.md"));
    let mut blocks = readme.split("```yaml\n").skip(1);
    let file = blocks.next().and_then(|rest| rest.split("```").next());
    let loaded = GatewayFile::parse(file.unwrap(), "README.md");
    let report = loaded.map_or_else(|report| report, |loaded| loaded.warnings);
    assert!(report.is_empty(), "{report}");
    assert_eq!(blocks.next(), None, "one file is shown");
}

#[test]
fn every_misspelt_key_is_refused_by_name() {
    for file in shipped() {
        let stage = Stage::new();
        let text = read(&file);
        let keys = keys(&text);
        assert!(keys.len() > 5, "{}: {keys:?}", file.display());
        for (position, key) in keys {
            let misspelt = format!("{key}x");
            let mut mutated = text.clone();
            mutated.replace_range(position..position + key.len(), &misspelt);
            let report = load(&stage.write(&file, &mutated));
            let line = text[..position].matches('\n').count() + 1;
            let named = report.errors().any(|problem| {
                problem.path.ends_with(&misspelt)
                    && problem.line == Some(line)
                    && problem.suggestion.as_deref() == Some(key)
            });
            assert!(named, "{} with {misspelt}:\n{report}", file.display());
            // What follows from the misspelling is not reported beside it.
            let others = report
                .errors()
                .filter(|p| !p.path.ends_with(&misspelt) && p.message != "required key is missing");
            assert_eq!(
                others.count(),
                0,
                "{} with {misspelt}:\n{report}",
                file.display()
            );
        }
    }
}

#[test]
fn any_line_may_be_missing() {
    for file in shipped() {
        let stage = Stage::new();
        let text = read(&file);
        let lines: Vec<&str> = text.split_inclusive('\n').collect();
        for missing in 0..lines.len() {
            let mut rest = lines.clone();
            rest.remove(missing);
            // Sound or not, it is read to its end, and errors have a line.
            let report = load(&stage.write(&file, &rest.concat()));
            let placed = report.problems.iter().all(|problem| problem.line.is_some());
            assert!(
                placed,
                "{} without line {missing}:\n{report}",
                file.display()
            );
        }
    }
}

#[test]
fn the_checked_in_schemas_are_those_of_the_types() {
    for (name, schema) in [("gateway", schema::gateway()), ("mesh", schema::mesh())] {
        let text = serde_json::to_string_pretty(&schema).unwrap() + "\n";
        same(&crate_dir().join(format!("schema/{name}.v1.json")), &text);
    }
}

#[test]
fn the_reference_is_that_of_the_types() {
    same(
        &crate_dir().join("../docs/configuration.md"),
        &reference::markdown(),
    );
}

/// Compares a generated file with the checked-in one; `UPDATE=1` rewrites that.
fn same(path: &Path, generated: &str) {
    if std::env::var_os("UPDATE").is_some() {
        fs::write(path, generated).unwrap();
    }
    let checked_in = fs::read_to_string(path).unwrap_or_default();
    let message = "is out of date; run UPDATE=1 cargo test -p meridian-config";
    assert!(checked_in == generated, "{} {message}", path.display());
}

fn load(path: &Path) -> Report {
    let mesh = path.file_name().is_some_and(|name| name == "mesh.yaml");
    if mesh {
        MeshFile::load(path).map_or_else(|report| report, |loaded| loaded.warnings)
    } else {
        GatewayFile::load(path).map_or_else(|report| report, |loaded| loaded.warnings)
    }
}

fn shipped() -> Vec<PathBuf> {
    let yaml = |dir: PathBuf| {
        fs::read_dir(dir)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| {
                path.extension()
                    .is_some_and(|extension| extension == "yaml")
            })
    };
    let mut files: Vec<_> = yaml(crate_dir())
        .chain(yaml(crate_dir().join("examples")))
        .collect();
    files.sort();
    files
}

fn crate_dir() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap()
}

/// Positions of all keys: words before a colon, outside comments and quotes.
fn keys(text: &str) -> Vec<(usize, &str)> {
    let mut keys = Vec::new();
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        let code = line.split('#').next().unwrap_or_default();
        let mut quote = None;
        for (at, character) in code.char_indices() {
            match (quote, character) {
                (None, '"' | '\'') => quote = Some(character),
                (Some(open), _) if open == character => quote = None,
                (None, ':') if code[at + 1..].starts_with([' ', '\n']) => {
                    let word = code[..at].rfind(|c: char| !c.is_ascii_alphanumeric());
                    let word = word.map_or(0, |before| before + 1);
                    keys.push((start + word, &code[word..at]));
                }
                _ => {}
            }
        }
        start += line.len();
    }
    keys
}

/// A directory with the certificates that the examples name.
struct Stage(tempfile::TempDir);

impl Stage {
    fn new() -> Self {
        let stage = Self(tempfile::tempdir().unwrap());
        fs::create_dir(stage.0.path().join("tls")).unwrap();
        for (name, host) in [("api", "api.example.com"), ("shop", "*.shop.example.com")] {
            let CertifiedKey { cert, signing_key } =
                generate_simple_self_signed([host.to_owned()]).unwrap();
            fs::write(stage.0.path().join(format!("tls/{name}.crt")), cert.pem()).unwrap();
            let key = signing_key.serialize_pem();
            fs::write(stage.0.path().join(format!("tls/{name}.key")), key).unwrap();
        }
        stage
    }

    fn write(&self, original: &Path, text: &str) -> PathBuf {
        let path = self.0.path().join(original.file_name().unwrap());
        fs::write(&path, text).unwrap();
        path
    }
}
