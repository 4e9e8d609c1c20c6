//! Where the programs are: our own beside this one, the others where people put them.

use std::env;
use std::path::{Path, PathBuf};

/// A program was not found.
#[derive(Debug, thiserror::Error)]
#[error("{name} not found; {hint}")]
pub(crate) struct ToolError {
    name: &'static str,
    hint: &'static str,
}

/// One of our own programs: beside this one, or on PATH.
pub(crate) fn ours(name: &'static str) -> Result<PathBuf, ToolError> {
    env::current_exe()
        .ok()
        .and_then(|this| Some(this.parent()?.join(name)))
        .filter(|path| path.is_file())
        .or_else(|| on_path(name))
        .ok_or(ToolError {
            name,
            hint: "build it with `make build`",
        })
}

/// Consul: CONSUL_BIN, PATH, or what `make setup` has built.
pub(crate) fn consul() -> Result<PathBuf, ToolError> {
    named("CONSUL_BIN")
        .or_else(|| on_path("consul"))
        .or_else(|| cached("consul"))
        .ok_or(ToolError {
            name: "consul",
            hint: "`make setup` builds one, or set CONSUL_BIN",
        })
}

/// Envoy: ENVOY_BIN, PATH, or what `make setup` has fetched.
pub(crate) fn envoy() -> Result<PathBuf, ToolError> {
    named("ENVOY_BIN")
        .or_else(|| on_path("envoy"))
        .or_else(|| cached("envoy"))
        .ok_or(ToolError {
            name: "envoy",
            hint: "`make setup` fetches one, or set ENVOY_BIN",
        })
}

fn named(variable: &str) -> Option<PathBuf> {
    env::var_os(variable).map(PathBuf::from)
}

fn on_path(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path)
        .map(|folder| folder.join(name))
        .find(|program| program.is_file())
}

/// The newest of the set-up script's cache, which keeps a folder for each version.
fn cached(name: &str) -> Option<PathBuf> {
    let cache = named("XDG_CACHE_HOME")
        .or_else(|| Some(Path::new(&env::var_os("HOME")?).join(".cache")))?;
    newest(&cache.join("meridian").join("tools"), name)
}

fn newest(tools: &Path, name: &str) -> Option<PathBuf> {
    std::fs::read_dir(tools)
        .ok()?
        .filter_map(|entry| Some(entry.ok()?.path().join(name)))
        .filter_map(|program| Some((program.metadata().ok()?.modified().ok()?, program)))
        .max()
        .map(|(_, program)| program)
}

#[cfg(test)]
mod tests {
    use super::newest;

    #[test]
    fn finds_a_program_in_a_cache_of_versions() {
        let cache = tempfile::tempdir().unwrap();
        assert_eq!(newest(cache.path(), "consul"), None);
        std::fs::create_dir(cache.path().join("envoy-1")).unwrap();
        std::fs::create_dir(cache.path().join("0123")).unwrap();
        let consul = cache.path().join("0123").join("consul");
        std::fs::write(&consul, "").unwrap();
        assert_eq!(newest(cache.path(), "consul"), Some(consul));
    }
}
