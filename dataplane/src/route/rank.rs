//! The order in which routes are preferred, fixed when the table is compiled.
//!
//! Both orders of the model are total and depend on the routes alone, so the
//! routes are sorted once; of those that match, the first in line wins.

use super::conditions::element_prefix;
use meridian_model::Route;
use meridian_model::route::{PathMatch, Precedence};
use std::cmp::Reverse;

/// Brings `routes` into the order in which they are preferred.
pub(super) fn sort(routes: &mut [&Route], precedence: Precedence) {
    match precedence {
        Precedence::FirstMatch => {}
        // Stable: the first in the list wins a tie.
        Precedence::MostSpecific => routes.sort_by_key(|route| specificity(route)),
    }
}

type Specificity = (
    PathKind,
    Reverse<usize>,
    bool,
    Reverse<usize>,
    Reverse<usize>,
);

fn specificity(route: &Route) -> Specificity {
    let conditions = &route.matches;
    let (kind, length) = path_kind(&conditions.path);
    (
        kind,
        Reverse(length),
        conditions.methods.is_empty(),
        Reverse(conditions.headers.len()),
        Reverse(conditions.query.len()),
    )
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum PathKind {
    Exact,
    Prefix,
    Regex,
    /// A condition that every path fulfils. Gateway API leaves the place of
    /// regular expressions open; behind the catch-all `/`, which is its
    /// default match, they would never be reached.
    All,
}

fn path_kind(path: &PathMatch) -> (PathKind, usize) {
    let prefix = |length: usize| match length {
        0 => (PathKind::All, 0),
        length => (PathKind::Prefix, length),
    };
    match path {
        PathMatch::Any => (PathKind::All, 0),
        PathMatch::Exact(path) | PathMatch::ExactIgnoringCase(path) => {
            (PathKind::Exact, path.len())
        }
        PathMatch::ElementPrefix(path) => prefix(element_prefix(path).len()),
        PathMatch::Prefix(path) | PathMatch::PrefixIgnoringCase(path) => {
            prefix(if path == "/" { 0 } else { path.len() })
        }
        PathMatch::Regex(_) => (PathKind::Regex, 0),
    }
}
