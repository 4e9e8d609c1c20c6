//! `validate FILE`: every problem of a configuration file at once.

use crate::Outcome;
use clap::Args;
use meridian_config::{Loaded, Report};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Which file to check, and for whom the answer is.
#[derive(Debug, Clone, Args)]
pub struct Validate {
    /// The file. Paths in it are relative to its folder.
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Answer with one JSON document: `{"file", "problems": [{"severity", "line", "path", "message", "suggestion"}]}`.
    #[arg(long)]
    pub json: bool,
}

impl Validate {
    /// Checks the file with `load`. The answer goes to standard output.
    ///
    /// # Errors
    /// When standard output can't be written.
    pub fn run<T>(&self, load: impl Fn(&Path) -> Result<Loaded<T>, Report>) -> io::Result<Outcome> {
        self.answer(load, &mut io::stdout().lock())
    }

    fn answer<T>(
        &self,
        load: impl Fn(&Path) -> Result<Loaded<T>, Report>,
        output: &mut impl Write,
    ) -> io::Result<Outcome> {
        let (report, outcome) = match load(&self.file) {
            Ok(loaded) => (loaded.warnings, Outcome::Done),
            Err(report) => (report, Outcome::Misconfigured),
        };
        if self.json {
            serde_json::to_writer_pretty(&mut *output, &report)?;
            writeln!(output)?;
        } else {
            if !report.problems.is_empty() {
                writeln!(output, "{report}")?;
            }
            if outcome == Outcome::Done {
                writeln!(output, "{}: good", self.file.display())?;
            } else {
                let errors = report.errors().count();
                let noun = if errors == 1 { "error" } else { "errors" };
                writeln!(output, "{}: {errors} {noun}", self.file.display())?;
            }
        }
        Ok(outcome)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use meridian_config::MeshFile;

    fn answer(text: &str, json: bool) -> (Outcome, String) {
        let validate = Validate {
            file: "mesh.yaml".into(),
            json,
        };
        let mut output = Vec::new();
        let load = |path: &Path| MeshFile::parse(text, &path.display().to_string());
        let outcome = validate.answer(load, &mut output).unwrap();
        (outcome, String::from_utf8(output).unwrap())
    }

    #[test]
    fn a_good_file_is_called_so() {
        let (outcome, output) = answer("version: mesh/v1\n", false);
        assert_eq!(outcome, Outcome::Done);
        assert_eq!(output, "mesh.yaml: good\n");
    }

    #[test]
    fn every_error_stands_on_its_line() {
        let text = "version: mesh/v1\nadmn: {}\nthreads: many\n";
        let (outcome, output) = answer(text, false);
        assert_eq!(outcome, Outcome::Misconfigured);
        assert!(output.contains("mesh.yaml:2: "), "{output}");
        assert!(output.contains("did you mean \"admin\"?"), "{output}");
        assert!(output.contains("mesh.yaml:3: "), "{output}");
        assert!(output.ends_with("mesh.yaml: 2 errors\n"), "{output}");
    }

    #[test]
    fn tools_get_the_same_as_json() {
        let (outcome, output) = answer("version: mesh/v1\nadmn: {}\n", true);
        assert_eq!(outcome, Outcome::Misconfigured);
        let document: serde_json::Value = serde_json::from_str(&output).unwrap();
        assert_eq!(document["problems"][0]["line"], 2);
        assert_eq!(document["problems"][0]["severity"], "error");
    }
}
