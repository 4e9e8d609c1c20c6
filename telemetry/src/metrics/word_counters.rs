//! A counter for each word of a closed set, found by index.
//!
//! Series come into being with their first event. All of them at once would be
//! some 20 kB a cluster, nearly all of it zeros for ever.

use std::marker::PhantomData;
use std::sync::OnceLock;

use prometheus::{IntCounter, IntCounterVec};

use super::words::Word;

/// Counters of one label set by a last label that is a [`Word`].
#[derive(Debug)]
pub(super) struct WordCounters<W> {
    family: IntCounterVec,
    /// All labels but the last.
    labels: Vec<String>,
    counters: Box<[OnceLock<IntCounter>]>,
    words: PhantomData<fn(W)>,
}

impl<W: Word> WordCounters<W> {
    pub(super) fn new(family: &IntCounterVec, labels: &[&str]) -> Self {
        Self {
            family: family.clone(),
            labels: labels.iter().map(|label| (*label).to_owned()).collect(),
            counters: W::ALL.iter().map(|_| OnceLock::new()).collect(),
            words: PhantomData,
        }
    }

    /// Adds one to the counter of a word. One load, but for a word's first time.
    pub(super) fn inc(&self, word: W) {
        self.counters[word.index()]
            .get_or_init(|| self.family.with_label_values(&self.with_word(word)))
            .inc();
    }

    /// Removes the series that came into being.
    pub(super) fn forget(&self) {
        for word in W::ALL {
            // Fails only for a series that is not there, which is what is wanted.
            let _ = self.family.remove_label_values(&self.with_word(*word));
        }
    }

    fn with_word(&self, word: W) -> Vec<&str> {
        let labels = self.labels.iter().map(String::as_str);
        labels.chain([word.as_str()]).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Verdict;
    use prometheus::Opts;
    use prometheus::core::Collector;

    #[test]
    fn makes_a_series_with_its_first_event_and_forgets_it() {
        let opts = Opts::new("verdicts", "of a test");
        let family = IntCounterVec::new(opts, &["listener", "verdict"]).unwrap();
        let series = || family.collect()[0].get_metric().len();
        let counters = WordCounters::new(&family, &["public"]);
        assert_eq!(series(), 0);
        counters.inc(Verdict::Deny);
        counters.inc(Verdict::Deny);
        assert_eq!(series(), 1);
        assert_eq!(family.with_label_values(&["public", "deny"]).get(), 2);
        counters.forget();
        assert_eq!(series(), 0);
    }
}
