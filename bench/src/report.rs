//! Results for people (a Markdown table) and for programs (JSON).

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;

use anyhow::Context;
use serde_json::json;

use crate::turns::{Measure, Series, Spread};

/// What a ratio of ours to a peer's has to be, or our own figure.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bar {
    measure: Measure,
    /// None where our own figure counts, whoever stands beside it.
    peer: Option<&'static str>,
    limit: f64,
    at_least: bool,
}

impl Bar {
    /// More is better.
    pub(crate) const fn at_least(measure: Measure, peer: &'static str, limit: f64) -> Self {
        Self {
            measure,
            peer: Some(peer),
            limit,
            at_least: true,
        }
    }

    /// Our own figure, more being better.
    pub(crate) const fn own_at_least(measure: Measure, limit: f64) -> Self {
        Self {
            measure,
            peer: None,
            limit,
            at_least: true,
        }
    }

    /// Less is better.
    pub(crate) const fn at_most(measure: Measure, peer: &'static str, limit: f64) -> Self {
        Self {
            measure,
            peer: Some(peer),
            limit,
            at_least: false,
        }
    }

    fn cleared(self, ratio: f64) -> bool {
        if self.at_least {
            ratio >= self.limit
        } else {
            ratio <= self.limit
        }
    }

    fn words(self, ratio: f64) -> String {
        let sign = if self.at_least { '≥' } else { '≤' };
        let verdict = if self.cleared(ratio) {
            "met"
        } else {
            "**short**"
        };
        format!("{sign} {}: {verdict}", self.limit)
    }
}

/// One case's result.
#[derive(Debug)]
pub(crate) struct Table {
    /// Name of the case.
    pub(crate) case: String,
    /// What it has to clear.
    pub(crate) bars: Vec<Bar>,
    /// One a contender; ours is the last.
    pub(crate) series: Vec<Series>,
}

/// Writes `CASE.json`: every sample of every round.
///
/// # Errors
/// When the file can't be written.
pub(crate) fn write_json(folder: &Path, table: &Table) -> anyhow::Result<()> {
    let file = folder.join(format!("{}.json", table.case));
    let value = json!({"case": table.case, "series": table.series});
    let text = serde_json::to_string_pretty(&value).context("encoding a result")?;
    std::fs::write(&file, text).with_context(|| format!("writing {}", file.display()))
}

/// First what has a bar, then each case under the command that measures it: a row for each
/// measure and peer, with medians, the least and the most.
pub(crate) fn markdown(tables: &[Table]) -> String {
    let mut bars = String::new();
    let mut cases = String::new();
    for table in tables {
        let Some((ours, peers)) = table.series.split_last() else {
            continue;
        };
        // Writing to a string can't fail.
        let _ = writeln!(cases, "\n#### `make bench CASE={}`\n", table.case);
        cases.push_str(
            "| measure | peer | peer's | ours | ratio | bar |\n|---|---|---|---|---|---|\n",
        );
        for measure in shown(table, ours) {
            for peer in peers {
                let Some(row) = Row::of(table, measure, ours, peer) else {
                    continue;
                };
                let _ = writeln!(cases, "| {} |", row.cells().join(" | "));
                if !row.bar.is_empty() {
                    let _ = writeln!(bars, "| {} | {} |", table.case, row.cells().join(" | "));
                }
            }
        }
    }
    if !bars.is_empty() {
        bars.insert_str(
            0,
            "| case | measure | peer | peer's | ours | ratio | bar |\n|---|---|---|---|---|---|---|\n",
        );
    }
    bars + &cases
}

/// What was taken, in a fixed order. Failures are shown where there were any,
/// and bytes where they are what the case is about.
fn shown(table: &Table, ours: &Series) -> Vec<Measure> {
    let taken = ours.samples.iter().flat_map(|sample| sample.keys());
    let mut measures: Vec<_> = taken.copied().collect();
    measures.sort_unstable();
    measures.dedup();
    measures.retain(|measure| match measure {
        Measure::Failures => ours
            .spread(*measure)
            .is_some_and(|failed| failed.most > 0.0),
        Measure::MebibytesPerSecond => table.bars.iter().any(|bar| bar.measure == *measure),
        _ => true,
    });
    measures
}

/// One measure of ours beside a peer's.
struct Row {
    measure: Measure,
    peer: &'static str,
    theirs: Spread,
    ours: Spread,
    ratio: Option<Spread>,
    /// The bar and whether it was cleared; empty where there is none.
    bar: String,
}

impl Row {
    /// None where it was not taken of both.
    fn of(table: &Table, measure: Measure, ours: &Series, peer: &Series) -> Option<Self> {
        let (own, theirs) = (ours.spread(measure)?, peer.spread(measure)?);
        let ratio = ours.ratio(peer, measure);
        let mut bars = table.bars.iter();
        let bar = bars.find(|bar| {
            bar.measure == measure && bar.peer.is_none_or(|named| named == peer.contender)
        });
        let words = bar.and_then(|bar| match bar.peer {
            Some(_) => Some(bar.words(ratio?.median)),
            None => Some(format!("ours {}", bar.words(own.median))),
        });
        Some(Self {
            measure,
            peer: peer.contender,
            theirs,
            ours: own,
            ratio,
            bar: words.unwrap_or_default(),
        })
    }

    fn cells(&self) -> [String; 6] {
        [
            self.measure.title().to_owned(),
            self.peer.to_owned(),
            cell(self.theirs),
            cell(self.ours),
            self.ratio.map(cell).unwrap_or_default(),
            self.bar.clone(),
        ]
    }
}

/// `12.3 (11.0 … 14.2)`, with three significant digits or all before the point.
fn cell(spread: Spread) -> String {
    let digits = match spread.median.abs() {
        size if size >= 100.0 => 0,
        size if size >= 10.0 => 1,
        size if size >= 1.0 => 2,
        _ => 3,
    };
    format!(
        "{:.digits$} ({:.digits$} … {:.digits$})",
        spread.median, spread.least, spread.most
    )
}

/// Tells the person who waits where the run is.
pub(crate) fn progress(text: &str) {
    // Nobody listens any more: the results are in files.
    let _ = writeln!(std::io::stderr(), "{text}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::turns::Sample;

    fn series(contender: &'static str, figure: f64) -> Series {
        Series {
            contender,
            samples: vec![Sample::from([(Measure::RequestsPerSecond, figure)])],
        }
    }

    fn table(ours: f64, bars: Vec<Bar>) -> Table {
        Table {
            case: "edge".to_owned(),
            bars,
            series: vec![series("Envoy", 100.0), series("gateway", ours)],
        }
    }

    #[test]
    fn a_row_says_whether_the_bar_was_cleared() {
        let bars = vec![Bar::at_least(Measure::RequestsPerSecond, "Envoy", 2.0)];
        let met = markdown(&[table(250.0, bars.clone())]);
        assert!(met.contains("| 2.50 (2.50 … 2.50) | ≥ 2: met |"), "{met}");
        assert!(markdown(&[table(150.0, bars)]).contains("≥ 2: **short**"));
    }

    #[test]
    fn each_case_names_its_command_and_its_bars_come_first() {
        let row = "| requests/s | Envoy | 100 (100 … 100) | 250 (250 … 250) | 2.50 (2.50 … 2.50) |";
        let plain = markdown(&[table(250.0, Vec::new())]);
        let head = "\n#### `make bench CASE=edge`\n\n";
        assert!(plain.starts_with(head), "{plain}");
        assert!(plain.ends_with(&format!("{row}  |\n")), "{plain}");
        let bars = vec![Bar::at_least(Measure::RequestsPerSecond, "Envoy", 2.0)];
        let judged = markdown(&[table(250.0, bars)]);
        let (bars, cases) = judged.split_once(head).unwrap();
        assert!(
            bars.contains(&format!("| edge {row} ≥ 2: met |\n")),
            "{bars}"
        );
        assert!(cases.contains(&format!("\n{row} ≥ 2: met |\n")), "{cases}");
    }
}
