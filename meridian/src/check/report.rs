//! What was found: groups of lines, each with its verdict and, if it is bad, its remedy.

use super::trouble::explain;
use serde_json::{Value, json};
use std::fmt;

/// Everything that was found, in the order in which it was looked at.
#[derive(Debug, Default)]
pub(crate) struct Report {
    groups: Vec<Group>,
}

#[derive(Debug)]
struct Group {
    name: String,
    lines: Vec<Line>,
}

#[derive(Debug)]
struct Line {
    verdict: Verdict,
    /// What is so, as a sentence without a full stop.
    finding: String,
    /// What to do about it; empty where nothing is.
    remedy: String,
}

/// How good a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Verdict {
    /// As it should be.
    Good,
    /// It works, but somebody should know.
    Warning,
    /// It does not work.
    Bad,
}

impl Verdict {
    fn sign(self) -> char {
        match self {
            Self::Good => '√',
            Self::Warning => '‼',
            Self::Bad => '×',
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Good => "ok",
            Self::Warning => "warning",
            Self::Bad => "failed",
        }
    }
}

impl Report {
    /// Begins a group: lines belong to it until the next one begins.
    pub(crate) fn group(&mut self, name: impl Into<String>) {
        self.groups.push(Group {
            name: name.into(),
            lines: Vec::new(),
        });
    }

    /// Says what is as it should be.
    pub(crate) fn good(&mut self, finding: impl Into<String>) {
        self.line(Verdict::Good, finding, "");
    }

    /// Says what works and should be known, and what to do.
    pub(crate) fn warn(&mut self, finding: impl Into<String>, remedy: impl Into<String>) {
        self.line(Verdict::Warning, finding, remedy);
    }

    /// Says what does not work, and what to do.
    pub(crate) fn bad(&mut self, finding: impl Into<String>, remedy: impl Into<String>) {
        self.line(Verdict::Bad, finding, remedy);
    }

    /// Says that a question to Consul failed, and what helps. `right` is what the question needs of
    /// a token, such as `service:write on "web"`; empty where every token will do.
    pub(crate) fn failed(&mut self, error: &consul::Error, right: &str) {
        let (finding, remedy) = explain(error, right);
        self.bad(finding, remedy);
    }

    fn line(&mut self, verdict: Verdict, finding: impl Into<String>, remedy: impl Into<String>) {
        if self.groups.is_empty() {
            self.group("check");
        }
        if let Some(group) = self.groups.last_mut() {
            group.lines.push(Line {
                verdict,
                finding: finding.into(),
                remedy: remedy.into(),
            });
        }
    }

    /// Whether nothing is broken. Warnings don't count.
    pub(crate) fn is_good(&self) -> bool {
        self.count(Verdict::Bad) == 0
    }

    fn count(&self, verdict: Verdict) -> usize {
        let lines = self.groups.iter().flat_map(|group| &group.lines);
        lines.filter(|line| line.verdict == verdict).count()
    }

    /// The same for programs.
    pub(crate) fn document(&self) -> Value {
        let line = |line: &Line| {
            json!({
                "state": line.verdict.word(),
                "finding": line.finding,
                "remedy": (!line.remedy.is_empty()).then_some(&line.remedy),
            })
        };
        let group = |group: &Group| {
            json!({
                "name": group.name,
                "checks": group.lines.iter().map(line).collect::<Vec<_>>(),
            })
        };
        json!({
            "ok": self.is_good(),
            "failed": self.count(Verdict::Bad),
            "warnings": self.count(Verdict::Warning),
            "groups": self.groups.iter().map(group).collect::<Vec<_>>(),
        })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for group in &self.groups {
            writeln!(f, "{}", group.name)?;
            for line in &group.lines {
                writeln!(f, "{} {}", line.verdict.sign(), line.finding)?;
                if !line.remedy.is_empty() {
                    writeln!(f, "    {}", line.remedy)?;
                }
            }
            writeln!(f)?;
        }
        let (bad, warnings) = (self.count(Verdict::Bad), self.count(Verdict::Warning));
        let sign = if bad > 0 { Verdict::Bad } else { Verdict::Good }.sign();
        match (bad, warnings) {
            (0, 0) => writeln!(f, "{sign} all is well"),
            _ => writeln!(f, "{sign} {bad} failed, {warnings} to know about"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let mut report = Report::default();
        report.group("agent");
        report.good("the agent answers");
        report.group("token");
        report.warn("it ends in 40 min", "replace it");
        report
    }

    #[test]
    fn every_line_has_its_sign_and_its_remedy() {
        let mut report = report();
        assert!(report.is_good(), "a warning breaks nothing");
        report.bad("it is refused", "give another one");
        let text = report.to_string();
        let expected = "agent\n√ the agent answers\n\ntoken\n‼ it ends in 40 min\n    replace it\n\
                        × it is refused\n    give another one\n\n× 1 failed, 1 to know about\n";
        assert_eq!(text, expected);
        assert!(!report.is_good());
    }

    #[test]
    fn programs_get_the_same() {
        let document = report().document();
        assert_eq!(document["ok"], true);
        assert_eq!(document["warnings"], 1);
        assert_eq!(document["groups"][0]["checks"][0]["remedy"], Value::Null);
        assert_eq!(document["groups"][1]["checks"][0]["state"], "warning");
        assert_eq!(document["groups"][1]["checks"][0]["remedy"], "replace it");
    }
}
