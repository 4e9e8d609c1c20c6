//! Which of many prefixes a path starts with.
//!
//! A radix trie over bytes: a node for each place where prefixes part or end.
//! Looking a path up visits only nodes on its own way, a handful even among
//! 10,000 prefixes.

/// Values by prefix.
#[derive(Debug, Clone)]
pub(super) struct PrefixTrie<T> {
    /// The root is the first.
    nodes: Box<[Node<T>]>,
}

#[derive(Debug, Clone)]
struct Node<T> {
    /// Bytes between the parent and this node.
    label: Box<[u8]>,
    value: Option<T>,
    /// First bytes of the children's labels, ascending, with their places.
    children: Box<[(u8, u32)]>,
}

impl<T> PrefixTrie<T> {
    /// Builds a trie from prefixes in ascending order, each only once.
    pub(super) fn new<'a>(prefixes: impl IntoIterator<Item = (&'a str, T)>) -> Self {
        let mut entries: Vec<_> = prefixes
            .into_iter()
            .map(|(prefix, value)| (prefix.as_bytes(), Some(value)))
            .collect();
        let mut nodes = Vec::new();
        add(&mut nodes, &mut entries, 0, 0);
        Self {
            nodes: nodes.into(),
        }
    }

    /// Values of all prefixes of `path`, the shortest first.
    pub(super) fn prefixes_of(&self, path: &str) -> impl Iterator<Item = &T> {
        let root = self.nodes.first().map(|root| (root, path.as_bytes()));
        std::iter::successors(root, |(node, rest)| self.child(node, rest))
            .filter_map(|(node, _)| node.value.as_ref())
    }

    /// The child on the way, with what remains of the path after it.
    fn child<'a, 'p>(
        &'a self,
        node: &'a Node<T>,
        rest: &'p [u8],
    ) -> Option<(&'a Node<T>, &'p [u8])> {
        let next = rest.first()?;
        let place = node
            .children
            .binary_search_by_key(next, |(byte, _)| *byte)
            .ok()?;
        let child = self.nodes.get(node.children.get(place)?.1 as usize)?;
        Some((child, rest.strip_prefix(&*child.label)?))
    }
}

/// Adds a node for sorted `entries`, which agree in their first `end` bytes, of which the first
/// `start` stand in nodes above. Returns its place.
fn add<T>(
    nodes: &mut Vec<Node<T>>,
    entries: &mut [(&[u8], Option<T>)],
    start: usize,
    end: usize,
) -> u32 {
    let place = nodes.len();
    let label = entries
        .first()
        .and_then(|(prefix, _)| prefix.get(start..end));
    nodes.push(Node {
        label: label.unwrap_or_default().into(),
        value: None,
        children: Box::default(),
    });
    let ends_here = entries
        .first()
        .is_some_and(|(prefix, _)| prefix.len() == end);
    let (here, below) = entries.split_at_mut(usize::from(ends_here));
    let value = here.first_mut().and_then(|(_, value)| value.take());
    let mut children = Vec::new();
    for group in below.chunk_by_mut(|(a, _), (b, _)| a.get(end) == b.get(end)) {
        let (Some((first, _)), Some((last, _))) = (group.first(), group.last()) else {
            continue;
        };
        let Some(byte) = first.get(end).copied() else {
            continue;
        };
        let common = first.iter().zip(*last).take_while(|(a, b)| a == b).count();
        children.push((byte, add(nodes, group, end, common)));
    }
    if let Some(node) = nodes.get_mut(place) {
        node.value = value;
        node.children = children.into();
    }
    // Positions of routes have no more bits, and there are at most two nodes a route.
    u32::try_from(place).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn finds_just_the_prefixes_of_a_path() {
        let mut rng = fastrand::Rng::with_seed(9);
        let text = |rng: &mut fastrand::Rng, most: usize| -> String {
            (0..rng.usize(0..=most))
                .map(|_| ['/', 'a', 'b'][rng.usize(0..3)])
                .collect()
        };
        for _ in 0..500 {
            let prefixes: BTreeSet<_> = (0..rng.usize(0..20)).map(|_| text(&mut rng, 5)).collect();
            let trie = PrefixTrie::new(prefixes.iter().map(|prefix| (prefix.as_str(), prefix)));
            for _ in 0..20 {
                let path = text(&mut rng, 8);
                let found: Vec<_> = trie.prefixes_of(&path).copied().collect();
                let expected: Vec<_> = prefixes
                    .iter()
                    .filter(|prefix| path.starts_with(prefix.as_str()))
                    .collect();
                assert_eq!(found, expected, "{path} in {prefixes:?}");
            }
        }
    }

    #[test]
    fn a_lookup_visits_few_nodes() {
        let mut prefixes: Vec<_> = (0..10_000).map(|n| format!("/service-{n}/v1")).collect();
        prefixes.sort();
        let trie = PrefixTrie::new(prefixes.iter().map(|prefix| (prefix.as_str(), ())));
        let start = trie
            .nodes
            .first()
            .map(|root| (root, &b"/service-7777/v1/orders"[..]));
        let visited = std::iter::successors(start, |(node, rest)| trie.child(node, rest));
        assert!(visited.count() <= 7);
    }
}
