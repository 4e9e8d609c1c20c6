//! A regular expression that always matches the whole text.
//!
//! Consul and the Gateway API both anchor; an unanchored expression in an
//! authorization rule would be a hole.

use std::fmt;

/// A compiled, anchored regular expression. Equal when written alike.
#[derive(Clone)]
pub struct Pattern(regex::Regex);

impl Pattern {
    /// Compiles `text` so that it must match from the first to the last character.
    ///
    /// # Errors
    /// When `text` is no valid expression or would compile to more than 1 MiB.
    pub fn new(text: &str) -> Result<Self, regex::Error> {
        let compile = |text: &str| {
            regex::RegexBuilder::new(text)
                .size_limit(MAX_COMPILED_BYTES)
                .build()
        };
        // Sound by itself: `a)|(b` would close the group that the anchors need.
        compile(text)?;
        compile(&format!("^(?:{text})$")).map(Self)
    }

    /// As [`Pattern::new`], ignoring case.
    ///
    /// # Errors
    /// See [`Pattern::new`].
    pub fn ignoring_case(text: &str) -> Result<Self, regex::Error> {
        Self::new(text)?;
        Self::new(&format!("(?i:{text})"))
    }

    /// Whether the whole of `text` matches.
    pub fn matches(&self, text: &str) -> bool {
        self.0.is_match(text)
    }

    /// The expression with its anchors.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

/// One expression may cost this much memory; the regex crate's own default is
/// ten times that, too much for one of 10,000 routes.
const MAX_COMPILED_BYTES: usize = 1 << 20;

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for Pattern {}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/{}/", self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::Pattern;

    #[test]
    fn matches_only_the_whole_text() {
        let pattern = Pattern::new("a|b").unwrap();
        assert!(pattern.matches("a"));
        assert!(!pattern.matches("ab"));
        assert!(!pattern.matches("xa"));
    }

    #[test]
    fn refuses_text_that_would_escape_its_anchors() {
        for text in ["a)|(b", "a)|(?:b", ")", "a|b)"] {
            assert!(Pattern::new(text).is_err(), "{text}");
        }
        assert!(Pattern::ignoring_case("a)|(b").is_err());
    }

    #[test]
    fn refuses_expressions_that_compile_to_too_much() {
        assert!(Pattern::new(&format!("(?:{}){{1000}}", "[a-z]{1,100}")).is_err());
    }
}
