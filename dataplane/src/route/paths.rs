//! The index from a path to the few routes worth trying.
//!
//! Exact paths are hashed, prefixes stand in a trie, and whatever cannot be
//! looked up by bytes is in a list of its own. Each list is in the order of
//! preference, so that only its first fitting route counts, and none behind the
//! best of the other lists is tried.

use super::conditions::element_prefix;
use super::trie::PrefixTrie;
use meridian_model::route::PathMatch;
use std::collections::{BTreeMap, HashMap};

/// Position of a route in its table; the lower is preferred.
pub(super) type Position = u32;

/// Ascending; nearly always a single one.
type Positions = Box<[Position]>;

/// Routes of one table by path.
#[derive(Debug, Clone)]
pub(super) struct PathIndex {
    exact: HashMap<Box<str>, Positions>,
    prefixes: PrefixTrie<Positions>,
    /// Regular expressions and paths in any case.
    loose: Positions,
}

impl PathIndex {
    /// Indexes conditions in the order of preference.
    pub(super) fn new<'a>(paths: impl IntoIterator<Item = &'a PathMatch>) -> Self {
        let mut exact: HashMap<&str, Vec<Position>> = HashMap::new();
        let mut prefixes: BTreeMap<&str, Vec<Position>> = BTreeMap::new();
        let mut loose = Vec::new();
        for (path, position) in paths.into_iter().zip(0..) {
            match path {
                PathMatch::Exact(path) => exact.entry(path).or_default().push(position),
                PathMatch::Any => prefixes.entry("").or_default().push(position),
                PathMatch::Prefix(prefix) => prefixes.entry(prefix).or_default().push(position),
                PathMatch::ElementPrefix(prefix) => {
                    let prefix = element_prefix(prefix);
                    prefixes.entry(prefix).or_default().push(position);
                }
                PathMatch::ExactIgnoringCase(_)
                | PathMatch::PrefixIgnoringCase(_)
                | PathMatch::Regex(_) => loose.push(position),
            }
        }
        let exact = exact.into_iter();
        let prefixes = prefixes.into_iter();
        Self {
            exact: exact.map(|(path, at)| (path.into(), at.into())).collect(),
            prefixes: PrefixTrie::new(prefixes.map(|(prefix, at)| (prefix, at.into()))),
            loose: loose.into(),
        }
    }

    /// The lowest position that `holds`, of those whose path may match.
    pub(super) fn first(
        &self,
        path: &str,
        mut holds: impl FnMut(Position) -> bool,
    ) -> Option<Position> {
        let mut best = None;
        for positions in self.candidates(path) {
            let limit = best.unwrap_or(Position::MAX);
            best = positions
                .iter()
                .copied()
                .take_while(|position| *position < limit)
                .find(|position| holds(*position))
                .or(best);
        }
        best
    }

    /// Lists of positions whose path may match, each in ascending order.
    fn candidates(&self, path: &str) -> impl Iterator<Item = &[Position]> {
        let exact = self.exact.get(path);
        exact
            .into_iter()
            .chain(self.prefixes.prefixes_of(path))
            .map(|positions| &**positions)
            .chain(std::iter::once(&*self.loose))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tried(paths: &[PathMatch], path: &str) -> Vec<Position> {
        let index = PathIndex::new(paths);
        let mut tried = Vec::new();
        index.first(path, |position| {
            tried.push(position);
            false
        });
        tried
    }

    #[test]
    fn only_prefixes_of_the_path_are_tried() {
        let prefix = |text: &str| PathMatch::Prefix(text.into());
        let paths = [
            prefix("/"),
            prefix("/a"),
            prefix("/a/b"),
            prefix("/a/c"),
            prefix("/ab"),
            prefix("/b"),
            PathMatch::Any,
            PathMatch::Exact("/a/bc".into()),
        ];
        assert_eq!(tried(&paths, "/a/bc"), [7, 6, 0, 1, 2]);
        assert_eq!(tried(&paths, "/a/bd"), [6, 0, 1, 2]);
        assert_eq!(tried(&paths, "/a/d"), [6, 0, 1]);
        assert_eq!(tried(&paths, "/abc"), [6, 0, 1, 4]);
        assert_eq!(tried(&paths, "/c"), [6, 0]);
        assert_eq!(tried(&paths, "*"), [6]);
    }

    #[test]
    fn a_table_of_ten_thousand_tries_one_route() {
        let paths: Vec<_> = (0..10_000)
            .map(|n| PathMatch::ElementPrefix(format!("/service-{n}/v1")))
            .collect();
        assert_eq!(tried(&paths, "/service-777/v1/orders"), [777]);
        assert!(tried(&paths, "/service-10001/v1").is_empty());
    }

    #[test]
    fn the_lowest_position_wins_over_all_lists() {
        let paths = [
            PathMatch::Regex(meridian_model::Pattern::new(".*").unwrap()),
            PathMatch::Exact("/a".into()),
            PathMatch::Any,
        ];
        let index = PathIndex::new(&paths);
        assert_eq!(index.first("/a", |_| true), Some(0));
        assert_eq!(index.first("/a", |position| position > 0), Some(1));
        assert_eq!(index.first("/a", |position| position > 1), Some(2));
        assert_eq!(index.first("/a", |_| false), None);
    }
}
