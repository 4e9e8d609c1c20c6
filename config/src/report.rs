//! Everything that is wrong with a file, at once.

use serde::Serialize;
use std::fmt;

/// Every error of a file, and the warnings beside them, in the order of their
/// lines.
///
/// `Display` is one line a problem:
/// `gateway.yaml:41: routes[3].matches[0].path.type: unknown value "Prefix", …`.
/// `Serialize` gives tools the same as data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The file, as it was named to us.
    pub file: String,
    /// What is wrong with it.
    pub problems: Vec<Problem>,
}

/// One thing that is wrong, where, and what was expected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Problem {
    /// Whether it keeps the file from being used.
    pub severity: Severity,
    /// Line, from 1. `None` where the file could not be read at all.
    pub line: Option<usize>,
    /// Place in the file: `routes[3].matches[0].path`. Empty for the file itself.
    pub path: String,
    /// What is wrong and what is expected.
    pub message: String,
    /// What was probably meant.
    pub suggestion: Option<String>,
}

/// Whether a problem keeps a file from being used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Severity {
    /// It does.
    Error,
    /// It does not, but is worth a look.
    Warning,
}

impl Report {
    pub(crate) fn new(file: &str, mut problems: Vec<Problem>) -> Self {
        problems.sort_by_key(|problem| problem.line);
        Self {
            file: file.to_owned(),
            problems,
        }
    }

    /// Whether there is nothing to say.
    pub fn is_empty(&self) -> bool {
        self.problems.is_empty()
    }

    /// The problems that keep the file from being used.
    pub fn errors(&self) -> impl Iterator<Item = &Problem> {
        self.problems
            .iter()
            .filter(|problem| problem.severity == Severity::Error)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, problem) in self.problems.iter().enumerate() {
            if position > 0 {
                f.write_str("\n")?;
            }
            f.write_str(&self.file)?;
            if let Some(line) = problem.line {
                write!(f, ":{line}")?;
            }
            write!(f, ": {problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Report {}

impl fmt::Display for Problem {
    /// Without file and line, which [`Report`] puts before it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.severity == Severity::Warning {
            f.write_str("warning: ")?;
        }
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.message)?;
        if let Some(suggestion) = &self.suggestion {
            write!(f, "; did you mean {suggestion:?}?")?;
        }
        Ok(())
    }
}
