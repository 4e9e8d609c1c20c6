//! "Did you mean": the nearest of the names that would have been right.

/// The candidate that was most likely meant by `written`, if one is near enough.
///
/// Near is: at most a third of the letters differ, case aside; or one holds
/// the other, as `Prefix` and `PathPrefix`.
pub(crate) fn nearest<'c>(
    written: &str,
    candidates: impl IntoIterator<Item = &'c str>,
) -> Option<&'c str> {
    let written = written.to_lowercase();
    candidates
        .into_iter()
        .filter_map(|candidate| Some((distance(&written, &candidate.to_lowercase())?, candidate)))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Shorter texts are held by too many names to mean one of them.
const SHORTEST_PART: usize = 3;

fn distance(written: &str, candidate: &str) -> Option<usize> {
    let distance = strsim::osa_distance(written, candidate);
    let allowed = written.chars().count().max(candidate.chars().count()) / 3;
    let shorter = written.len().min(candidate.len());
    let holds =
        shorter >= SHORTEST_PART && (written.contains(candidate) || candidate.contains(written));
    (distance <= allowed.max(1) && shorter > 1 || holds).then_some(distance)
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn finds_misspelt_names() {
        let names = ["listeners", "backends", "backendPolicies", "routes"];
        assert_eq!(nearest("listener", names), Some("listeners"));
        assert_eq!(nearest("Backends", names), Some("backends"));
        assert_eq!(nearest("ruotes", names), Some("routes"));
        assert_eq!(
            nearest("Prefix", ["Exact", "PathPrefix"]),
            Some("PathPrefix")
        );
    }

    #[test]
    fn guesses_nothing_from_nothing() {
        assert_eq!(nearest("zzz", ["listeners", "routes"]), None);
    }
}
