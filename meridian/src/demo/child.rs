//! Child processes with their logs in files: stopped with the demo, or left behind on purpose.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs::File;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// How long a program may take to end: our own drain, and a little.
const PATIENCE: Duration = Duration::from_secs(30);

/// Between two looks whether a program has ended.
const LOOK: Duration = Duration::from_millis(50);

/// Lines of a log that are shown when something went wrong.
const TAIL: usize = 15;

/// Why a program could not be run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ChildError {
    #[error("open the log of {name}")]
    Log {
        name: String,
        #[source]
        source: io::Error,
    },
    #[error("start {name} ({})", program.display())]
    Start {
        name: String,
        program: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{name} has ended: {status}")]
    Ended { name: String, status: ExitStatus },
    #[error("interrupted")]
    Interrupted,
}

/// A program to start.
#[derive(Debug)]
pub(crate) struct Command {
    pub(crate) name: String,
    pub(crate) program: PathBuf,
    pub(crate) arguments: Vec<String>,
    /// Where its log goes.
    pub(crate) folder: PathBuf,
}

/// A running program; killed when dropped.
#[derive(Debug)]
pub(crate) struct Child {
    name: String,
    log: PathBuf,
    /// `None` once it is left behind. Behind a lock, since looking for its end changes it.
    process: Option<Mutex<std::process::Child>>,
}

impl Child {
    /// Starts it in a process group of its own: Ctrl-C reaches the demo alone,
    /// which then stops everything in order.
    pub(crate) fn start(command: &Command) -> Result<Self, ChildError> {
        let name = command.name.clone();
        let log = command.folder.join(format!("{name}.log"));
        let output = File::create(&log)
            .and_then(|file| Ok((file.try_clone()?, file)))
            .map_err(|source| ChildError::Log {
                name: name.clone(),
                source,
            })?;
        let process = std::process::Command::new(&command.program)
            .args(&command.arguments)
            .current_dir(&command.folder)
            .stdin(Stdio::null())
            .stdout(output.0)
            .stderr(output.1)
            .process_group(0)
            .spawn()
            .map_err(|source| ChildError::Start {
                name: name.clone(),
                program: command.program.clone(),
                source,
            })?;
        Ok(Self {
            name,
            log,
            process: Some(Mutex::new(process)),
        })
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn id(&self) -> u32 {
        self.process
            .as_ref()
            .map_or(0, |process| held(process).id())
    }

    /// Asks it to end, waits, and kills it at the deadline.
    pub(crate) async fn stop(self) {
        if let Ok(id) = i32::try_from(self.id()) {
            // Fails only when it has ended already.
            let _ = kill(Pid::from_raw(id), Signal::SIGTERM);
        }
        let deadline = Instant::now() + PATIENCE;
        while self.end().is_none() && Instant::now() < deadline {
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Lets it go on without us; its process id.
    pub(crate) fn leave(mut self) -> u32 {
        let id = self.id();
        self.process = None;
        id
    }

    /// Shows the end of its log.
    #[expect(clippy::print_stderr, reason = "it is what went wrong")]
    pub(crate) fn show_log(&self) {
        eprintln!("--- {}", self.name);
        for line in tail(&self.log) {
            eprintln!("    {line}");
        }
    }

    fn end(&self) -> Option<ExitStatus> {
        // An error means that nobody can tell: then it is not seen to end.
        held(self.process.as_ref()?).try_wait().ok().flatten()
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if let Some(process) = &self.process {
            let mut process = held(process);
            // Both fail only when it has ended and been waited for.
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

/// Returns when one of the children has ended, which none should.
pub(crate) async fn first_end<'a>(children: impl Iterator<Item = &'a Child> + Clone) -> ChildError {
    loop {
        let ended = children
            .clone()
            .find_map(|child| Some((child.name.clone(), child.end()?)));
        if let Some((name, status)) = ended {
            return ChildError::Ended { name, status };
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn held(process: &Mutex<std::process::Child>) -> std::sync::MutexGuard<'_, std::process::Child> {
    process.lock().unwrap_or_else(PoisonError::into_inner)
}

fn tail(log: &Path) -> Vec<String> {
    let text = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<_> = text.lines().map(str::to_owned).collect();
    lines[lines.len().saturating_sub(TAIL)..].to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(folder: &Path, script: &str) -> Child {
        Child::start(&Command {
            name: "shell".into(),
            program: "/bin/sh".into(),
            arguments: vec!["-c".into(), script.into()],
            folder: folder.to_owned(),
        })
        .unwrap()
    }

    #[tokio::test]
    async fn stops_by_asking() {
        let folder = tempfile::tempdir().unwrap();
        let child = shell(
            folder.path(),
            "trap 'echo asked; exit 0' TERM; echo up; while :; do sleep 0.05; done",
        );
        let log = child.log.clone();
        let deadline = Instant::now() + PATIENCE;
        while tail(&log).is_empty() && Instant::now() < deadline {
            tokio::time::sleep(LOOK).await;
        }
        child.stop().await;
        assert_eq!(tail(&log), ["up", "asked"]);
    }

    #[tokio::test]
    async fn an_early_end_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let children = [shell(folder.path(), "exit 3")];
        let error = first_end(children.iter()).await;
        assert!(error.to_string().contains("shell has ended"), "{error}");
    }
}
