//! Matches that no request can reach, because an earlier one is the same.

use super::Context;
use crate::path::Path;
use meridian_model::RouteMatch;
use std::collections::HashMap;

/// Remembers which match stands first on each host of each listener.
#[derive(Debug, Default)]
pub(super) struct Reach {
    first: HashMap<(usize, String, String), Path>,
}

impl Reach {
    /// Places a match on these hosts (listener, host). Reports it if it is
    /// reached on none of them.
    pub(super) fn place(
        &mut self,
        matches: &RouteMatch,
        hosts: &[(usize, String)],
        cx: &mut Context<'_>,
        path: &Path,
    ) {
        let conditions = canonical(matches);
        let mut before = None;
        let mut reached = false;
        for (listener, host) in hosts {
            let place = (*listener, host.clone(), conditions.clone());
            match self.first.get(&place) {
                Some(first) => before = Some(first.clone()),
                None => {
                    reached = true;
                    self.first.insert(place, path.clone());
                }
            }
        }
        if let (Some(before), false) = (before, reached)
            && cx.sound(&before)
        {
            let line = cx.line(&before);
            let message = format!("unreachable: {before} in line {line} matches the same");
            cx.error(path, message);
        }
    }
}

/// Equal for matches that differ only in the order of their conditions.
fn canonical(matches: &RouteMatch) -> String {
    let mut headers: Vec<String> = matches.headers.iter().map(|h| format!("{h:?}")).collect();
    let mut query: Vec<String> = matches.query.iter().map(|q| format!("{q:?}")).collect();
    headers.sort_unstable();
    query.sort_unstable();
    format!(
        "{:?} {:?} {headers:?} {query:?}",
        matches.path, matches.methods
    )
}
