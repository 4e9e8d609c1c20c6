//! The differences that are meant, and the judgement over all others.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use meridian_tests::workspace;
use serde_json::Value;

use super::observe::{Ask, Difference, Outcome, differences};

/// A difference that docs/consul.md explains.
struct Known {
    /// Words of the document that name it.
    document: &'static str,
    /// Is it this one? With what meshd made of the request.
    covers: fn(&Ask, &Outcome, &Difference) -> bool,
}

const KNOWN: &[Known] = &[
    Known {
        document: "`x-envoy-upstream-service-time`",
        covers: |_, _, difference| difference.what == "response x-envoy-upstream-service-time",
    },
    Known {
        document: "`x-envoy-expected-rq-timeout-ms`",
        covers: |_, _, difference| difference.what == "request x-envoy-expected-rq-timeout-ms",
    },
    Known {
        document: "`x-envoy-original-path`",
        covers: |_, _, difference| difference.what == "request x-envoy-original-path",
    },
    Known {
        document: "`connection: keep-alive`",
        covers: |_, _, difference| difference.what == "response connection",
    },
    Known {
        document: "`x-request-id` of the request",
        covers: |_, _, difference| difference.what == "response x-request-id",
    },
    Known {
        document: "is not sent again for a class of answers",
        covers: |ask, _, difference| {
            ask.method == "POST" && ["status", "tries"].contains(&difference.what.as_str())
        },
    },
    Known {
        document: "with a problem document",
        covers: |ask, meshd, _| refusable(ask) && is_refused(meshd),
    },
    Known {
        document: "forms a dot segment",
        covers: |ask, meshd, _| ask.target.contains('.') && is_refused(meshd),
    },
    Known {
        document: "`server: envoy`",
        covers: |_, _, difference| difference.what == "response server",
    },
];

/// Did meshd refuse the request's form?
fn is_refused(meshd: &Outcome) -> bool {
    meshd.status == 400 && meshd.words.contains(r#""error":"bad_request""#)
}

/// Is there an escape in the path that stands for nothing, or for NUL?
fn malformed(target: &str) -> bool {
    let path = target.split('?').next().unwrap_or_default();
    let mut escapes = path.split('%').skip(1);
    escapes.any(|escape| {
        let digits = escape.bytes().take(2).filter(u8::is_ascii_hexdigit);
        digits.count() < 2 || escape.starts_with("00")
    })
}

/// Is there something in the request for which its form may be refused?
fn refusable(ask: &Ask) -> bool {
    let lower = ask.target.to_ascii_lowercase();
    let underscore = ask.headers.iter().any(|(name, _)| name.contains('_'));
    malformed(&ask.target) || lower.contains("%2f") || lower.contains("%5c") || underscore
}

/// Most unexplained differences that are printed.
const PRINTED: usize = 30;

/// What was compared so far.
pub(crate) struct Verdict {
    seed: u64,
    cases: usize,
    unknown: Vec<String>,
    kinds: BTreeMap<String, usize>,
}

impl Verdict {
    /// Nothing compared yet.
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            seed,
            cases: 0,
            unknown: Vec::new(),
            kinds: BTreeMap::new(),
        }
    }

    /// Compares the outcomes of one request under a rule.
    pub(crate) fn judge(&mut self, rule: &Value, ask: &Ask, [envoy, meshd]: &[Outcome; 2]) {
        self.cases += 1;
        let mut unknown = differences(envoy, meshd);
        unknown.retain(|difference| {
            !KNOWN
                .iter()
                .any(|known| (known.covers)(ask, meshd, difference))
        });
        for difference in &unknown {
            *self.kinds.entry(difference.what.clone()).or_default() += 1;
        }
        if !unknown.is_empty() {
            let mut text = format!("{ask:?}\n  under {rule}\n");
            for difference in unknown {
                let _ = writeln!(text, "  {difference}");
            }
            self.unknown.push(text);
        }
    }

    /// Fails the test unless so many cases were compared without a difference.
    pub(crate) fn pronounce(self, least: usize) {
        assert!(self.cases >= least, "only {} cases", self.cases);
        let shown: String = self.unknown.iter().take(PRINTED).cloned().collect();
        assert!(
            self.unknown.is_empty(),
            "seed {}: {} of {} cases differ: {:?}\n{shown}",
            self.seed,
            self.unknown.len(),
            self.cases,
            self.kinds,
        );
    }
}

#[test]
fn every_known_difference_stands_in_the_document() {
    let path = workspace::root().join("docs/consul.md");
    let text = std::fs::read_to_string(path).expect("docs/consul.md");
    let (_, differences) = text
        .split_once("## Differences, and why")
        .expect("the document's list");
    let flat = differences.split_whitespace().collect::<Vec<_>>().join(" ");
    for known in KNOWN {
        assert!(flat.contains(known.document), "{}", known.document);
    }
}
