//! Where the programs under test and their peers are.

use std::env;
use std::path::{Path, PathBuf};

/// The Consul that `make setup` chose.
pub fn consul() -> PathBuf {
    peer("CONSUL_BIN")
}

/// The Envoy that `make setup` chose.
pub fn envoy() -> PathBuf {
    peer("ENVOY_BIN")
}

/// One of our own programs, built beside this test binary.
///
/// # Panics
/// When it has not been built: a test package can't make Cargo build the
/// binaries of another one.
pub fn ours(name: &str) -> PathBuf {
    let program = profile_directory().join(name);
    assert!(
        program.is_file(),
        "{} is missing: run `make build` (or `cargo build --workspace --bins`)",
        program.display()
    );
    program
}

/// From the environment, or else from the file that the set-up script writes.
fn peer(variable: &str) -> PathBuf {
    if let Some(path) = env::var_os(variable) {
        return path.into();
    }
    let file = profile_directory().with_file_name("tools.env");
    let text = std::fs::read_to_string(&file).unwrap_or_default();
    text.lines()
        .find_map(|line| line.strip_prefix(&format!("export {variable}=")))
        .map_or_else(
            || {
                panic!(
                    "{variable} is not set and not in {}: run `make setup`",
                    file.display()
                )
            },
            PathBuf::from,
        )
}

/// `target/debug`, from `target/debug/deps/it-0123456789abcdef` or `target/debug/bench`.
fn profile_directory() -> PathBuf {
    let program = env::current_exe().expect("the path of this program");
    program
        .ancestors()
        .skip(1)
        .find(|folder| !folder.ends_with("deps"))
        .map(Path::to_path_buf)
        .expect("a program lies in the profile's directory, or in `deps` below it")
}
