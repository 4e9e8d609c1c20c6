//! The index from a path to the few routes worth trying.
//!
//! Exact paths are hashed. Prefixes stand in one sorted list, each with a link
//! to the longest other prefix that it starts with: the longest prefix of a
//! path is then the entry just before it in the list, or one on the chain of
//! links from there, and all its shorter prefixes follow on that chain.
//! Whatever cannot be looked up by bytes is in a list of its own.

use super::conditions::element_prefix;
use meridian_model::route::PathMatch;
use std::collections::{BTreeMap, HashMap};

/// Position of a route in its table; the lower is preferred.
pub(super) type Position = u32;

/// Routes of one table by path.
#[derive(Debug, Clone)]
pub(super) struct PathIndex {
    exact: HashMap<Box<str>, Vec<Position>>,
    prefixes: Vec<PrefixNode>,
    /// Regular expressions and paths in any case.
    loose: Vec<Position>,
}

#[derive(Debug, Clone)]
struct PrefixNode {
    prefix: Box<str>,
    parent: Option<usize>,
    positions: Vec<Position>,
}

impl PathIndex {
    /// Indexes conditions in the order of preference.
    pub(super) fn new<'a>(paths: impl IntoIterator<Item = &'a PathMatch>) -> Self {
        let mut exact: HashMap<Box<str>, Vec<Position>> = HashMap::new();
        let mut prefixes: BTreeMap<&str, Vec<Position>> = BTreeMap::new();
        let mut loose = Vec::new();
        for (path, position) in paths.into_iter().zip(0..) {
            match path {
                PathMatch::Exact(path) => {
                    exact
                        .entry(path.as_str().into())
                        .or_default()
                        .push(position);
                }
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
        Self {
            exact,
            prefixes: linked(prefixes),
            loose,
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
        let exact = self.exact.get(path).map(Vec::as_slice);
        let prefixes = std::iter::successors(self.longest_prefix(path), |node| {
            self.prefixes.get(node.parent?)
        })
        .map(|node| node.positions.as_slice());
        exact
            .into_iter()
            .chain(prefixes)
            .chain(std::iter::once(self.loose.as_slice()))
    }

    fn longest_prefix(&self, path: &str) -> Option<&PrefixNode> {
        let after = self
            .prefixes
            .partition_point(|node| node.prefix.as_ref() <= path);
        let mut node = self.prefixes.get(after.checked_sub(1)?)?;
        while !path.starts_with(node.prefix.as_ref()) {
            node = self.prefixes.get(node.parent?)?;
        }
        Some(node)
    }
}

fn linked(prefixes: BTreeMap<&str, Vec<Position>>) -> Vec<PrefixNode> {
    let mut nodes: Vec<PrefixNode> = Vec::with_capacity(prefixes.len());
    // The chain of prefixes around the place in the sorted list.
    let mut open: Vec<usize> = Vec::new();
    for (prefix, positions) in prefixes {
        while let Some(&last) = open.last() {
            if prefix.starts_with(nodes[last].prefix.as_ref()) {
                break;
            }
            open.pop();
        }
        open.push(nodes.len());
        let parent = open.len().checked_sub(2).map(|place| open[place]);
        nodes.push(PrefixNode {
            prefix: prefix.into(),
            parent,
            positions,
        });
    }
    nodes
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
    fn only_prefixes_of_the_path_are_tried_longest_first() {
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
        assert_eq!(tried(&paths, "/a/bc"), [7, 2, 1, 0, 6]);
        assert_eq!(tried(&paths, "/a/bd"), [2, 1, 0, 6]);
        assert_eq!(tried(&paths, "/a/d"), [1, 0, 6]);
        assert_eq!(tried(&paths, "/abc"), [4, 1, 0, 6]);
        assert_eq!(tried(&paths, "/c"), [0, 6]);
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
