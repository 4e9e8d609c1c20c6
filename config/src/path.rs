//! Places inside a file: `routes[3].matches[0].path`.

use std::fmt;

/// A place inside a file. The empty path is the whole of it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(crate) struct Path(Vec<Segment>);

/// One step down.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Segment {
    /// Into a mapping.
    Key(String),
    /// Into a list.
    Index(usize),
}

impl Path {
    /// The value under `key`.
    pub(crate) fn key(&self, key: &str) -> Self {
        self.with(Segment::Key(key.to_owned()))
    }

    /// The item at `index`.
    pub(crate) fn index(&self, index: usize) -> Self {
        self.with(Segment::Index(index))
    }

    /// The value under `key` beside this one.
    pub(crate) fn beside(&self, key: &str) -> Self {
        let (_, above) = self.0.split_last().unzip();
        Self(above.unwrap_or_default().to_vec()).key(key)
    }

    /// Steps from the top.
    pub(crate) fn segments(&self) -> &[Segment] {
        &self.0
    }

    /// The path and all that it lies in, from the top.
    pub(crate) fn lineage(&self) -> impl Iterator<Item = Self> {
        (0..=self.0.len()).map(|length| Self(self.0[..length].to_vec()))
    }

    fn with(&self, segment: Segment) -> Self {
        let mut segments = Vec::with_capacity(self.0.len() + 1);
        segments.extend_from_slice(&self.0);
        segments.push(segment);
        Self(segments)
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, segment) in self.0.iter().enumerate() {
            match segment {
                Segment::Key(key) if position == 0 => f.write_str(key)?,
                Segment::Key(key) => write!(f, ".{key}")?,
                Segment::Index(index) => write!(f, "[{index}]")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::Path;

    #[test]
    fn is_written_as_people_write_it() {
        let path = Path::default().key("routes").index(3).key("path");
        assert_eq!(path.to_string(), "routes[3].path");
    }

    #[test]
    fn lies_in_all_that_hold_it() {
        let path = Path::default().key("routes").index(3);
        let lineage: Vec<String> = path.lineage().map(|path| path.to_string()).collect();
        assert_eq!(lineage, ["", "routes", "routes[3]"]);
    }
}
