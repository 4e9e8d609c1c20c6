//! A B A B …: each contender in turn, as many rounds as planned, and what comes
//! out of comparing them within each round.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

/// How long a case is measured.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    /// How often every contender has its turn.
    pub(crate) rounds: usize,
    /// Load before the first round, so that caches, pools and allocators are warm.
    pub(crate) warm_up: Duration,
    /// Length of a turn.
    pub(crate) turn: Duration,
    /// Quiet before memory is looked at: allocators give back after a while what they needed
    /// only once.
    pub(crate) rest: Duration,
}

impl Plan {
    /// Five rounds show an outlier.
    pub(crate) const FULL: Self = Self {
        rounds: 5,
        warm_up: Duration::from_secs(2),
        turn: Duration::from_secs(5),
        rest: Duration::from_secs(3),
    };
    /// Shorter turns where samples differ little: they keep the suite under half an hour.
    pub(crate) const SHORT: Self = Self {
        rounds: 5,
        warm_up: Duration::from_secs(1),
        turn: Duration::from_secs(3),
        rest: Duration::from_secs(3),
    };
    /// Fewer rounds where samples hardly differ at all.
    pub(crate) const STEADY: Self = Self {
        rounds: 3,
        ..Self::SHORT
    };
    /// As short as the load generators allow: whole seconds.
    pub(crate) const SMOKE: Self = Self {
        rounds: 1,
        warm_up: Duration::ZERO,
        turn: Duration::from_secs(1),
        rest: Duration::ZERO,
    };
}

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Measure {
    /// Good replies a second.
    RequestsPerSecond,
    /// Payload moved, MiB a second.
    MebibytesPerSecond,
    /// Processor seconds of the contender for 1,000 requests.
    ProcessorPerThousand,
    /// Milliseconds.
    MedianLatency,
    /// Milliseconds.
    NinetyNinth,
    /// Milliseconds until something was seen.
    Delay,
    /// MiB, after the turn.
    Resident,
    /// Requests without a good reply.
    Failures,
    /// Share of its own capacity that a contender still carries at twice that.
    Kept,
}

impl Measure {
    /// Words for a table.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::RequestsPerSecond => "requests/s",
            Self::MebibytesPerSecond => "MiB/s",
            Self::ProcessorPerThousand => "CPU s per 1,000 requests",
            Self::MedianLatency => "p50, ms",
            Self::NinetyNinth => "p99, ms",
            Self::Delay => "delay, ms",
            Self::Resident => "resident, MiB",
            Self::Failures => "failures",
            Self::Kept => "goodput / capacity",
        }
    }
}

/// What one turn showed.
pub(crate) type Sample = BTreeMap<Measure, f64>;

/// All turns of one contender.
#[derive(Debug, Serialize)]
pub(crate) struct Series {
    /// Name of the contender.
    pub(crate) contender: &'static str,
    /// One sample a round.
    pub(crate) samples: Vec<Sample>,
}

/// Gives every contender its turns. The last contender is ours.
pub(crate) fn take<C>(
    plan: Plan,
    contenders: &[(&'static str, C)],
    mut turn: impl FnMut(&C) -> Sample,
) -> Vec<Series> {
    let mut series: Vec<_> = contenders
        .iter()
        .map(|(contender, _)| Series {
            contender,
            samples: Vec::new(),
        })
        .collect();
    for _ in 0..plan.rounds {
        for ((_, contender), series) in contenders.iter().zip(&mut series) {
            series.samples.push(turn(contender));
        }
    }
    series
}

/// Middle and ends of some figures.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Spread {
    /// Median.
    pub(crate) median: f64,
    /// Least.
    pub(crate) least: f64,
    /// Most.
    pub(crate) most: f64,
}

impl Spread {
    /// Of figures; none of no figures.
    pub(crate) fn of(figures: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<_> = figures.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        let (&least, &most) = (sorted.first()?, sorted.last()?);
        let middle = sorted.len() / 2;
        let median = if sorted.len() % 2 == 1 {
            sorted[middle]
        } else {
            f64::midpoint(sorted[middle - 1], sorted[middle])
        };
        Some(Self {
            median,
            least,
            most,
        })
    }
}

impl Series {
    /// Spread of a measure over the rounds; none where it was not taken.
    pub(crate) fn spread(&self, measure: Measure) -> Option<Spread> {
        Spread::of(self.samples.iter().filter_map(|s| s.get(&measure).copied()))
    }

    /// Spread of our figure divided by a peer's, round by round.
    pub(crate) fn ratio(&self, peer: &Self, measure: Measure) -> Option<Spread> {
        let rounds = self.samples.iter().zip(&peer.samples);
        let ratios = rounds.filter_map(|(ours, theirs)| {
            let theirs = *theirs.get(&measure)?;
            (theirs > 0.0).then_some(ours.get(&measure)? / theirs)
        });
        Spread::of(ratios)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(contender: &'static str, figures: &[f64]) -> Series {
        let samples = figures
            .iter()
            .map(|figure| Sample::from([(Measure::Delay, *figure)]));
        Series {
            contender,
            samples: samples.collect(),
        }
    }

    #[test]
    fn contenders_alternate() {
        let plan = Plan {
            rounds: 2,
            ..Plan::SMOKE
        };
        let mut order = String::new();
        take(plan, &[("a", 'A'), ("b", 'B')], |name| {
            order.push(*name);
            Sample::new()
        });
        assert_eq!(order, "ABAB");
    }

    #[test]
    fn ratios_are_taken_within_a_round() {
        // The machine is twice as slow in the second round: for both.
        let ratio =
            series("ours", &[10.0, 20.0]).ratio(&series("peer", &[20.0, 40.0]), Measure::Delay);
        let half = Spread {
            median: 0.5,
            least: 0.5,
            most: 0.5,
        };
        assert_eq!(ratio, Some(half));
    }

    #[test]
    fn a_measure_that_was_not_taken_has_no_spread() {
        assert_eq!(series("ours", &[1.0]).spread(Measure::Resident), None);
    }
}
