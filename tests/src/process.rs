//! A child process that can't outlive its test, with its log in a file.

use std::env;
use std::ffi::OsStr;
use std::fs::OpenOptions;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

pub use nix::sys::signal::Signal;
use nix::sys::signal::kill;
use nix::unistd::Pid;

use crate::wait;

/// A running program. Dropping it kills it, also while a test panics.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts a program; both its outputs are appended to `log`.
    ///
    /// `setpriv` asks the kernel to kill it when the starting thread ends, which
    /// covers a test binary that is itself killed.
    pub(crate) fn spawn<A: AsRef<OsStr>>(
        name: &str,
        program: &Path,
        arguments: impl IntoIterator<Item = A>,
        log: &Path,
    ) -> Self {
        let output = OpenOptions::new()
            .create(true)
            .append(true)
            .open(log)
            .expect("a log file");
        let mut command = Command::new("setpriv");
        for (variable, _) in env::vars_os().filter(|(variable, _)| steers(variable)) {
            command.env_remove(variable);
        }
        let child = command
            .args(["--pdeathsig", "KILL", "--"])
            .arg(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(output.try_clone().expect("a second handle on the log"))
            .stderr(output)
            .spawn()
            .unwrap_or_else(|error| panic!("{name} did not start: {error}"));
        Self {
            name: name.to_owned(),
            child,
            log: log.to_owned(),
        }
    }

    /// Name given at start; used in messages.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Operating-system id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        kill(self.pid(), signal)
            .unwrap_or_else(|error| panic!("{signal} to {}: {error}", self.name));
    }

    /// Kills the process and waits until it is gone.
    pub fn kill(&mut self) {
        // An error means that it has ended already, which is what is asked for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Fails the test when the process has ended.
    pub fn assert_running(&mut self) {
        if let Some(status) = self.try_exit() {
            panic!("{} has ended: {status}", self.name);
        }
    }

    /// Exit status, once the process has ended.
    pub fn try_exit(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("the state of a child")
    }

    /// Waits for the process to end by itself; its exit code, or the signal as
    /// a negative number.
    pub async fn exit_code(&mut self, limit: Duration) -> i32 {
        let what = format!("end of {}", self.name);
        let status = wait::until(&what, limit, async || {
            self.try_exit().ok_or("still running")
        })
        .await;
        status
            .code()
            .unwrap_or_else(|| -status.signal().unwrap_or_default())
    }

    /// Resident memory in bytes, as `ps` shows it.
    pub fn resident_memory(&self) -> u64 {
        let path = format!("/proc/{}/status", self.id());
        let status = std::fs::read_to_string(path).expect("status of a running process");
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .expect("a VmRSS line");
        let kibibytes: u64 = line
            .trim()
            .trim_end_matches(" kB")
            .parse()
            .expect("a number of KiB");
        kibibytes * 1024
    }

    /// Everything logged so far.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.id()).expect("a process id"))
    }
}

/// Would this variable of the developer's shell change what a program does?
fn steers(variable: &OsStr) -> bool {
    let name = variable.to_string_lossy().to_ascii_uppercase();
    name == "RUST_LOG"
        || name.ends_with("_PROXY")
        || name.starts_with("CONSUL_")
        || name.starts_with("OTEL_")
}

impl Drop for Process {
    fn drop(&mut self) {
        // A program that counts what it executes writes that down when it ends by itself.
        if env::var_os("LLVM_PROFILE_FILE").is_some() && kill(self.pid(), Signal::SIGTERM).is_ok() {
            let _ = self.child.wait();
        }
        self.kill();
    }
}
