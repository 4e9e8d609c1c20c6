//! How an error is shown: each cause once, on one line.
//!
//! Error types in this workspace leave their source out of `Display`, so that
//! whoever prints them decides. This is that printer.

use std::error::Error;
use std::fmt;

/// Shows an error and its causes, outermost first, joined by `": "`.
///
/// Some foreign errors repeat their source in their own message.
/// A cause whose text already stands at the end of the one before is left out.
#[derive(Clone, Copy)]
pub struct Chain<'a>(pub &'a (dyn Error + 'static));

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = self.0.to_string();
        f.write_str(&shown)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            let text = error.to_string();
            if !text.is_empty() && !shown.ends_with(&text) {
                write!(f, ": {text}")?;
                shown = text;
            }
            cause = error.source();
        }
        Ok(())
    }
}

impl fmt::Debug for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{text}")]
    struct Layer {
        text: &'static str,
        #[source]
        source: Option<Box<Self>>,
    }

    fn layers(texts: &[&'static str]) -> Layer {
        let (text, rest) = texts.split_first().expect("at least one layer");
        let source = (!rest.is_empty()).then(|| Box::new(layers(rest)));
        Layer { text, source }
    }

    #[test]
    fn joins_every_cause_in_order() {
        let error = layers(&["load leaf", "read file", "no such file"]);
        assert_eq!(
            Chain(&error).to_string(),
            "load leaf: read file: no such file"
        );
    }

    #[test]
    fn prints_a_cause_once_when_the_outer_error_repeats_it() {
        let error = layers(&["read file: no such file", "no such file"]);
        assert_eq!(Chain(&error).to_string(), "read file: no such file");
    }

    #[test]
    fn prints_a_lone_error_as_it_is() {
        assert_eq!(Chain(&layers(&["timed out"])).to_string(), "timed out");
    }
}
