//! The counts that are expected, in a file that is checked in.
//!
//! A line for each scene: name, instructions for one request, and a note on why
//! the count last changed.

use std::fmt::{self, Write as _};
use std::fs;
use std::path::Path;

use anyhow::Context;

/// By how much a request may become dearer without a note, in percent.
const TOLERANCE: u64 = 5;

const HEAD: &str = "\
# Instructions that the proxies execute for one request, with their share of the runtime's and
# the libraries' work: `make instructions`. More than 5 % above these fails;
# `make instructions NOTE='why'` writes new ones.
";

/// The file.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Budget {
    lines: Vec<Line>,
}

#[derive(Debug, PartialEq)]
struct Line {
    scene: String,
    count: u64,
    note: String,
}

/// A count beside what was expected.
#[derive(Debug)]
pub(crate) struct Judged {
    scene: String,
    counted: u64,
    expected: Option<u64>,
}

impl Budget {
    /// Reads a file; one that is not there expects nothing yet.
    ///
    /// # Errors
    /// When it can't be read or makes no sense.
    pub(crate) fn read(file: &Path) -> anyhow::Result<Self> {
        let text = match fs::read_to_string(file) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            read => read.with_context(|| format!("reading {}", file.display()))?,
        };
        Self::parse(&text).with_context(|| format!("reading {}", file.display()))
    }

    fn parse(text: &str) -> anyhow::Result<Self> {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let lines = lines.map(|line| {
            let mut words = line.splitn(3, ' ').map(str::trim);
            let mut word = || words.next().with_context(|| format!("too short: {line}"));
            Ok(Line {
                scene: word()?.to_owned(),
                count: word()?
                    .parse()
                    .with_context(|| format!("no count: {line}"))?,
                note: word()?.to_owned(),
            })
        });
        Ok(Self {
            lines: lines.collect::<anyhow::Result<_>>()?,
        })
    }

    /// Compares a count with what is expected.
    pub(crate) fn judge(&self, scene: &str, counted: u64) -> Judged {
        let line = self.lines.iter().find(|line| line.scene == scene);
        Judged {
            scene: scene.to_owned(),
            counted,
            expected: line.map(|line| line.count),
        }
    }

    /// Expects this from now on.
    pub(crate) fn set(&mut self, scene: &str, count: u64, note: &str) {
        self.lines.retain(|line| line.scene != scene);
        self.lines.push(Line {
            scene: scene.to_owned(),
            count,
            note: note.to_owned(),
        });
    }

    /// Writes the file.
    ///
    /// # Errors
    /// When it can't be written.
    pub(crate) fn write(&self, file: &Path) -> anyhow::Result<()> {
        fs::write(file, self.text()).with_context(|| format!("writing {}", file.display()))
    }

    fn text(&self) -> String {
        let mut text = HEAD.to_owned();
        for Line { scene, count, note } in &self.lines {
            // Writing to a string can't fail.
            let _ = writeln!(text, "{scene} {count} {note}");
        }
        text
    }
}

impl Judged {
    /// Whether a request became dearer by more than is let pass, or nobody said what it may cost.
    pub(crate) fn is_exceeded(&self) -> bool {
        self.expected
            .is_none_or(|expected| self.counted * 100 > expected * (100 + TOLERANCE))
    }

    /// Whether it became so much cheaper that a later loss would hide behind it.
    fn is_outdated(&self) -> bool {
        self.expected
            .is_some_and(|expected| self.counted * 100 < expected * (100 - TOLERANCE))
    }

    /// In percent; none where nothing was expected. For people: what is decided is decided
    /// in whole numbers.
    fn growth(&self) -> Option<f64> {
        #[expect(clippy::cast_precision_loss, reason = "counts stay far below 2^52")]
        let growth = |expected: u64| (self.counted as f64 / expected as f64 - 1.0) * 100.0;
        self.expected.map(growth)
    }
}

impl fmt::Display for Judged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} instructions", self.scene, self.counted)?;
        let Some(growth) = self.growth() else {
            return write!(f, ", none expected");
        };
        write!(f, ", {growth:+.1} % against what is expected")?;
        if self.is_outdated() {
            write!(f, ": write the new count down")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_survives_reading_and_writing() {
        let mut budget = Budget::default();
        budget.set("edge", 1000, "the first count");
        budget.set("mesh", 5000, "");
        budget.set("edge", 900, "fewer copies of the head");
        let text = budget.text();
        assert!(text.ends_with("mesh 5000 \nedge 900 fewer copies of the head\n"));
        assert_eq!(Budget::parse(&text).unwrap(), budget);
        assert!(Budget::parse("edge many note").is_err());
    }

    #[test]
    fn growth_beyond_the_tolerance_is_exceeded() {
        let mut budget = Budget::default();
        budget.set("edge", 1000, "");
        for (counted, exceeded) in [(900, false), (1050, false), (1051, true)] {
            assert_eq!(budget.judge("edge", counted).is_exceeded(), exceeded);
        }
        assert!(budget.judge("unheard of", 1).is_exceeded());
    }
}
