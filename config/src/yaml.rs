//! YAML text into a tree that knows its lines.
//!
//! Scalars stay text: what they mean depends on what is expected in their
//! place, so `value: 1` is a header's value and `version: no` is no boolean.

use crate::path::{Path, Segment};
use granit_parser::{Event, Options, Parser, ScalarStyle, Span};
use std::collections::HashMap;
use std::iter::Peekable;

/// A value and where it begins.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    /// Line, from 1.
    pub(crate) line: usize,
    /// What stands there.
    pub(crate) value: Value,
}

/// What stands in one place.
#[derive(Debug, Clone)]
pub(crate) enum Value {
    /// `null`, `~` or nothing at all.
    Nothing,
    /// Text, and whether it stood without quotes.
    Scalar(String, Plain),
    /// Items.
    List(Vec<Node>),
    /// Entries in the order they were written. A key may stand twice.
    Mapping(Vec<Entry>),
}

/// Whether a scalar stood without quotes, so that it may be a number or a boolean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Plain(pub(crate) bool);

/// A key and its value.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    /// The key.
    pub(crate) key: String,
    /// Line of the key, from 1.
    pub(crate) line: usize,
    /// The value.
    pub(crate) node: Node,
}

/// Why a text is no tree.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(crate) struct SyntaxError {
    /// Line, from 1.
    pub(crate) line: usize,
    /// What was expected.
    pub(crate) message: String,
}

/// Reads one document.
pub(crate) fn parse(text: &str) -> Result<Node, SyntaxError> {
    let mut options = Options::default();
    options.flow_nesting_limit = MAX_DEPTH;
    options.block_nesting_limit = MAX_DEPTH;
    let mut reader = Reader {
        events: Parser::new_from_str_with_options(text, options).peekable(),
        anchors: HashMap::new(),
        nodes: 0,
    };
    reader.document()
}

impl Node {
    /// The line of what `path` names, or of the innermost part of it that exists.
    pub(crate) fn line_of(&self, path: &Path) -> usize {
        self.walk(path).0
    }

    /// Whether something stands at `path`.
    pub(crate) fn has(&self, path: &Path) -> bool {
        self.walk(path).1
    }

    fn walk(&self, path: &Path) -> (usize, bool) {
        let (mut node, mut line) = (self, self.line);
        for segment in path.segments() {
            let next = match (&node.value, segment) {
                (Value::Mapping(entries), Segment::Key(key)) => entries
                    .iter()
                    .find(|entry| &entry.key == key)
                    .map(|entry| (&entry.node, entry.line)),
                (Value::List(items), Segment::Index(index)) => {
                    items.get(*index).map(|item| (item, item.line))
                }
                _ => None,
            };
            match next {
                Some((inner, at)) => (node, line) = (inner, at),
                None => return (line, false),
            }
        }
        (line, true)
    }
}

/// The format itself is eleven levels deep; twice that is room to grow, and a
/// file of brackets does not reach the stack's end.
const MAX_DEPTH: usize = 24;

/// A hundred thousand routes; a tree of that many nodes takes some 100 MiB.
/// Aliases count as often as they are used, so that nine lines cannot become
/// a billion nodes.
const MAX_NODES: usize = 1_000_000;

struct Reader<I: Iterator> {
    events: Peekable<I>,
    /// Anchored nodes with the number of nodes in each.
    anchors: HashMap<usize, (Node, usize)>,
    nodes: usize,
}

type Scan<'t> = Result<(Event<'t>, Span), granit_parser::ScanError>;

impl<'t, I: Iterator<Item = Scan<'t>>> Reader<I> {
    fn document(&mut self) -> Result<Node, SyntaxError> {
        let mut tree = None;
        loop {
            let (event, span) = self.next()?;
            match event {
                Event::StreamEnd => break,
                Event::StreamStart | Event::DocumentEnd => {}
                Event::DocumentStart(..) if tree.is_none() => {}
                Event::DocumentStart(..) => {
                    return Err(error(&span, "expected one document, found a second"));
                }
                event => tree = Some(self.node(event, &span)?),
            }
        }
        Ok(tree.unwrap_or(Node {
            line: 1,
            value: Value::Nothing,
        }))
    }

    fn next(&mut self) -> Result<(Event<'t>, Span), SyntaxError> {
        match self.events.next() {
            Some(Ok(event)) => Ok(event),
            Some(Err(scan)) => Err(SyntaxError {
                line: scan.marker().line(),
                message: format!("not YAML: {}", scan.info()),
            }),
            None => Ok((Event::StreamEnd, Span::default())),
        }
    }

    fn node(&mut self, event: Event<'t>, span: &Span) -> Result<Node, SyntaxError> {
        let before = self.nodes;
        self.count(1, span)?;
        let (value, anchor) = match event {
            Event::Scalar(.., Some(_))
            | Event::SequenceStart(.., Some(_))
            | Event::MappingStart(.., Some(_)) => {
                return Err(error(span, "expected no tag: types follow from the place"));
            }
            Event::Scalar(text, style, anchor, None) => {
                (scalar(&text, style == ScalarStyle::Plain), anchor)
            }
            Event::SequenceStart(_, anchor, None) => (self.list()?, anchor),
            Event::MappingStart(_, anchor, None) => (self.mapping()?, anchor),
            Event::Alias(anchor) => {
                let Some((node, size)) = self.anchors.get(&anchor).cloned() else {
                    return Err(error(
                        span,
                        "expected an alias of an earlier, complete value",
                    ));
                };
                self.count(size, span)?;
                return Ok(node);
            }
            _ => return Err(error(span, "expected a value")),
        };
        let node = Node {
            line: span.start.line(),
            value,
        };
        if anchor != 0 {
            let size = self.nodes - before;
            // The copy kept for later uses is memory, too.
            self.count(size, span)?;
            self.anchors.insert(anchor, (node.clone(), size));
        }
        Ok(node)
    }

    fn list(&mut self) -> Result<Value, SyntaxError> {
        let mut items = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, _) => return Ok(Value::List(items)),
                (event, span) => items.push(self.node(event, &span)?),
            }
        }
    }

    fn mapping(&mut self) -> Result<Value, SyntaxError> {
        let mut entries = Vec::new();
        loop {
            let (event, span) = self.next()?;
            let key = match event {
                Event::MappingEnd => return Ok(Value::Mapping(entries)),
                Event::Scalar(text, ..) => text.into_owned(),
                _ => return Err(error(&span, "expected a name as key")),
            };
            let (event, value_span) = self.next()?;
            entries.push(Entry {
                key,
                line: span.start.line(),
                node: self.node(event, &value_span)?,
            });
        }
    }

    fn count(&mut self, nodes: usize, span: &Span) -> Result<(), SyntaxError> {
        self.nodes = self.nodes.saturating_add(nodes);
        if self.nodes > MAX_NODES {
            let message = format!("expected at most {MAX_NODES} values, aliases counted");
            return Err(error(span, &message));
        }
        Ok(())
    }
}

fn scalar(text: &str, plain: bool) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" if plain => Value::Nothing,
        _ => Value::Scalar(text.to_owned(), Plain(plain)),
    }
}

fn error(span: &Span, message: &str) -> SyntaxError {
    SyntaxError {
        line: span.start.line(),
        message: message.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::{Value, parse};
    use crate::path::Path;

    #[test]
    fn knows_the_lines_of_keys_and_items() {
        let tree = parse("a: 1\nb:\n- x\n- y: 2\n  z: 3\n").unwrap();
        let item = Path::default().key("b").index(1);
        assert_eq!(tree.line_of(&item.key("z")), 5);
        assert_eq!(tree.line_of(&item.key("absent")), 4);
        assert!(tree.has(&item) && !tree.has(&item.key("absent")));
    }

    #[test]
    fn aliases_stand_for_their_anchors() {
        let tree = parse("a: &x {k: v}\nb: *x\n").unwrap();
        assert!(tree.has(&Path::default().key("b").key("k")));
    }

    #[test]
    fn refuses_a_bomb_of_aliases() {
        let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..9 {
            let alias = format!("*a{}", level - 1);
            let items = vec![alias; 10].join(", ");
            bomb.push_str(&format!("a{level}: &a{level} [{items}]\n"));
        }
        let error = parse(&bomb).unwrap_err();
        assert!(error.message.contains("at most 1000000 values"), "{error}");
    }

    #[test]
    fn refuses_depth_tags_and_second_documents() {
        assert!(parse(&"[".repeat(1000)).is_err());
        assert!(parse("a: !include x\n").is_err());
        assert!(parse("a: 1\n---\nb: 2\n").is_err());
        assert!(parse("a: &x [*x]\n").is_err());
    }

    #[test]
    fn an_empty_file_is_nothing() {
        assert!(matches!(parse("# empty\n").unwrap().value, Value::Nothing));
    }
}
