//! What belongs to a name of a handshake: exact names first, then the longest suffix.

use meridian_model::sni::SniName;
use std::collections::HashMap;

/// Values by the names that clients ask for. Looking up neither locks nor allocates.
#[derive(Debug)]
pub struct SniMap<T> {
    exact: HashMap<String, T>,
    /// By what names end in, longest first.
    suffixes: Vec<(String, T)>,
}

impl<T: Clone> SniMap<T> {
    /// Of two values for one name, the first is used.
    pub(crate) fn new<'a>(entries: impl IntoIterator<Item = (&'a [SniName], T)>) -> Self {
        let mut exact = HashMap::new();
        let mut suffixes: Vec<(String, T)> = Vec::new();
        for (names, value) in entries {
            for name in names {
                match name {
                    SniName::Exact(name) => {
                        exact.entry(name.clone()).or_insert_with(|| value.clone());
                    }
                    SniName::Suffix(suffix) => suffixes.push((suffix.clone(), value.clone())),
                }
            }
        }
        // Stable, so that the first of two equal ones stays the first.
        suffixes.sort_by_key(|(suffix, _)| std::cmp::Reverse(suffix.len()));
        Self { exact, suffixes }
    }
}

impl<T> SniMap<T> {
    /// The value for a name in lower case.
    pub(crate) fn find(&self, name: &str) -> Option<&T> {
        self.exact.get(name).or_else(|| {
            let covers = |suffix: &str| name.len() > suffix.len() && name.ends_with(suffix);
            let mut suffixes = self.suffixes.iter();
            suffixes
                .find(|(suffix, _)| covers(suffix))
                .map(|(_, value)| value)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exact(name: &str) -> SniName {
        SniName::Exact(name.to_owned())
    }

    fn suffix(name: &str) -> SniName {
        SniName::Suffix(name.to_owned())
    }

    #[test]
    fn exact_names_win_then_the_longest_suffix() {
        let map = SniMap::new([
            (&[suffix(".td")][..], "td"),
            (&[suffix(".dc2.td"), exact("dc2.td")][..], "dc2"),
            (&[exact("web.dc2.td")][..], "web"),
            (&[exact("web.dc2.td"), suffix(".td")][..], "late"),
        ]);
        let cases = [
            ("web.dc2.td", Some("web")),
            ("api.dc2.td", Some("dc2")),
            ("v1.api.dc2.td", Some("dc2")),
            ("dc2.td", Some("dc2")),
            ("dc3.td", Some("td")),
            (".td", None),
            ("td", None),
            ("web.dc2.other", None),
        ];
        for (name, expected) in cases {
            assert_eq!(map.find(name).copied(), expected, "{name}");
        }
    }
}
