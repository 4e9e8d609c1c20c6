//! A tree against a JSON Schema: every unknown key, missing key and wrong type
//! at once.
//!
//! It knows the part of JSON Schema that the types of [`crate::file`] use.
//! Broken values are stood in for by valid ones, so that what is sound can be
//! checked further; the outcome is used only if nothing was broken.

use crate::file::SYNTAXES;
use crate::path::Path;
use crate::report::Severity;
use crate::suggest::nearest;
use crate::yaml::{Entry, Node, Plain, Value};
use serde_json::{Map, Value as Json};
use std::collections::HashSet;

/// A problem whose line is not yet looked up.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) severity: Severity,
    pub(crate) path: Path,
    /// Line, where it is not that of the path.
    pub(crate) line: Option<usize>,
    pub(crate) message: String,
    pub(crate) suggestion: Option<String>,
}

impl Found {
    /// An error at `path`.
    pub(crate) fn error(path: &Path, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            path: path.clone(),
            line: None,
            message: message.into(),
            suggestion: None,
        }
    }

    /// With what was probably meant.
    pub(crate) fn meaning(mut self, suggestion: Option<&str>) -> Self {
        self.suggestion = suggestion.map(str::to_owned);
        self
    }
}

/// What came of a tree.
#[derive(Debug)]
pub(crate) struct Fitted {
    /// A value of the schema.
    pub(crate) value: Json,
    /// What is wrong with the tree.
    pub(crate) found: Vec<Found>,
    /// Places whose value was not written so, or perhaps not meant so.
    pub(crate) broken: Vec<Path>,
}

/// Makes a value of the schema out of a tree.
pub(crate) fn fit(tree: &Node, schema: &Json) -> Fitted {
    let mut fitting = Fitting {
        root: schema,
        found: Vec::new(),
        broken: Vec::new(),
    };
    let value = fitting.value(tree, schema, &Path::default());
    Fitted {
        value,
        found: fitting.found,
        broken: fitting.broken,
    }
}

/// Follows a reference to its definition.
pub(crate) fn resolve<'s>(root: &'s Json, schema: &'s Json) -> &'s Json {
    schema
        .get("$ref")
        .and_then(Json::as_str)
        .and_then(|reference| root.pointer(reference.strip_prefix('#')?))
        .unwrap_or(schema)
}

/// The values of an enumeration, with their schemas; empty for other types.
pub(crate) fn choices(schema: &Json) -> Vec<(&Json, &Json)> {
    let listed = schema.get("enum").and_then(Json::as_array);
    let documented = schema.get("oneOf").and_then(Json::as_array);
    listed
        .into_iter()
        .flatten()
        .chain(schema.get("const"))
        .map(|choice| (choice, schema))
        .chain(documented.into_iter().flatten().flat_map(choices))
        .collect()
}

/// Smallest and largest value of an integer.
pub(crate) fn bounds(schema: &Json) -> (i64, i64) {
    let number = |key: &str| schema.get(key).and_then(Json::as_i64);
    let widest = match schema.get("format").and_then(Json::as_str) {
        Some("uint8") => u8::MAX.into(),
        Some("uint16") => u16::MAX.into(),
        _ => u32::MAX.into(),
    };
    (
        number("minimum").unwrap_or(0),
        number("maximum").unwrap_or(widest),
    )
}

struct Fitting<'s> {
    root: &'s Json,
    found: Vec<Found>,
    broken: Vec<Path>,
}

impl<'s> Fitting<'s> {
    fn value(&mut self, node: &Node, schema: &'s Json, path: &Path) -> Json {
        let schema = resolve(self.root, schema);
        let kind = schema.get("type").and_then(Json::as_str);
        let fitted = match (kind, &node.value) {
            (Some("object"), Value::Mapping(entries)) => {
                Ok(self.object(node, entries, schema, path))
            }
            (Some("array"), Value::List(items)) => Ok(self.array(items, schema, path)),
            (Some("object" | "array"), _) => Err(mismatch(schema, node)),
            (_, Value::Scalar(text, plain)) => {
                scalar(text, *plain, schema).ok_or_else(|| mismatch(schema, node))
            }
            _ => Err(mismatch(schema, node)),
        };
        fitted.unwrap_or_else(|message| {
            let meant = match &node.value {
                Value::Scalar(text, _) => nearest(
                    text,
                    choices(schema).into_iter().filter_map(|(c, _)| c.as_str()),
                ),
                _ => None,
            };
            let problem = Found::error(path, message).meaning(meant);
            self.broke(problem);
            stand_in(self.root, schema)
        })
    }

    fn object(&mut self, node: &Node, entries: &[Entry], schema: &'s Json, path: &Path) -> Json {
        let Some(known) = schema.get("properties").and_then(Json::as_object) else {
            return Json::Object(Map::new());
        };
        let mut seen = HashSet::new();
        let mut object = Map::new();
        for entry in entries {
            let path = path.key(&entry.key);
            if !seen.insert(entry.key.as_str()) {
                let mut problem = Found::error(&path, "key stands twice");
                problem.line = Some(entry.line);
                self.broke(problem);
            } else if let Some(schema) = known.get(&entry.key) {
                object.insert(entry.key.clone(), self.value(&entry.node, schema, &path));
            } else {
                self.unknown_key(entry, entries, known, &path);
            }
        }
        for key in required(schema) {
            if !object.contains_key(key) {
                let mut problem = Found::error(&path.key(key), "required key is missing");
                problem.line = Some(node.line);
                self.broke(problem);
                object.insert(key.to_owned(), stand_in(self.root, &known[key]));
            }
        }
        Json::Object(object)
    }

    fn unknown_key(
        &mut self,
        entry: &Entry,
        entries: &[Entry],
        known: &Map<String, Json>,
        path: &Path,
    ) {
        let unwritten = known
            .keys()
            .map(String::as_str)
            .filter(|key| entries.iter().all(|entry| entry.key != **key));
        let meant = nearest(&entry.key, unwritten);
        let names: Vec<&str> = known.keys().map(String::as_str).collect();
        let message = format!("unknown key, expected one of {}", names.join(", "));
        if let Some(meant) = meant {
            self.broken.push(path.beside(meant));
        }
        self.broke(Found::error(path, message).meaning(meant));
    }

    fn array(&mut self, items: &[Node], schema: &'s Json, path: &Path) -> Json {
        let least = schema.get("minItems").and_then(Json::as_u64).unwrap_or(0);
        if (items.len() as u64) < least {
            self.broke(Found::error(path, "expected at least one item"));
        }
        let inner = schema.get("items").unwrap_or(&Json::Null);
        let items = items
            .iter()
            .enumerate()
            .map(|(index, item)| self.value(item, inner, &path.index(index)));
        Json::Array(items.collect())
    }

    fn broke(&mut self, problem: Found) {
        self.broken.push(problem.path.clone());
        self.found.push(problem);
    }
}

fn required(schema: &Json) -> impl Iterator<Item = &str> {
    let keys = schema.get("required").and_then(Json::as_array);
    keys.into_iter().flatten().filter_map(Json::as_str)
}

/// Reads a scalar as what the schema expects; `None` where it is none.
fn scalar(text: &str, Plain(plain): Plain, schema: &Json) -> Option<Json> {
    let value = match schema.get("type").and_then(Json::as_str) {
        Some("boolean") if plain => text.parse::<bool>().ok()?.into(),
        Some("integer") if plain => {
            let (least, most) = bounds(schema);
            let number = text.parse::<i64>().ok()?;
            (least..=most).contains(&number).then(|| number.into())?
        }
        Some("number") if plain => {
            let bound = |key: &str| schema.get(key).and_then(Json::as_f64);
            let number = text.parse::<f64>().ok().filter(|n| n.is_finite())?;
            let (least, most) = (bound("minimum"), bound("maximum"));
            let inside = least.is_none_or(|l| number >= l) && most.is_none_or(|m| number <= m);
            inside.then(|| number.into())?
        }
        Some("boolean" | "integer" | "number") => return None,
        _ => {
            let format = schema.get("format").and_then(Json::as_str);
            let syntax = SYNTAXES.iter().find(|s| Some(s.format) == format);
            if syntax.is_some_and(|syntax| !(syntax.accepts)(text)) {
                return None;
            }
            Json::String(text.to_owned())
        }
    };
    let choices = choices(schema);
    (choices.is_empty() || choices.iter().any(|(choice, _)| **choice == value)).then_some(value)
}

/// What is there and what should be.
fn mismatch(schema: &Json, node: &Node) -> String {
    let expected = expectation(schema);
    match &node.value {
        Value::Nothing => format!("expected {expected}, found nothing"),
        Value::List(_) => format!("expected {expected}, found a list"),
        Value::Mapping(_) => format!("expected {expected}, found a mapping"),
        Value::Scalar(text, _) if !choices(schema).is_empty() => {
            format!("unknown value {text:?}, expected {expected}")
        }
        Value::Scalar(text, _) => format!("expected {expected}, found {text:?}"),
    }
}

/// What the schema expects, in words.
pub(crate) fn expectation(schema: &Json) -> String {
    let choices = choices(schema);
    if !choices.is_empty() {
        let names: Vec<String> = choices.iter().map(|(choice, _)| plain(choice)).collect();
        return match names.as_slice() {
            [only] => only.clone(),
            several => format!("one of {}", several.join(", ")),
        };
    }
    let format = schema.get("format").and_then(Json::as_str);
    if let Some(syntax) = SYNTAXES.iter().find(|s| Some(s.format) == format) {
        return syntax.expected.to_owned();
    }
    match schema.get("type").and_then(Json::as_str) {
        Some("object") => {
            let keys = schema.get("properties").and_then(Json::as_object);
            let keys: Vec<&str> = keys
                .into_iter()
                .flatten()
                .map(|(k, _)| k.as_str())
                .collect();
            format!("a mapping with the keys {}", keys.join(", "))
        }
        Some("array") => "a list".to_owned(),
        Some("boolean") => "true or false".to_owned(),
        Some("integer") => {
            let (least, most) = bounds(schema);
            format!("an integer from {least} to {most}")
        }
        Some("number") => {
            let bound = |key: &str| schema.get(key).map(ToString::to_string).unwrap_or_default();
            format!("a number from {} to {}", bound("minimum"), bound("maximum"))
        }
        _ => "text".to_owned(),
    }
}

/// A JSON scalar as it is written in YAML.
pub(crate) fn plain(value: &Json) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}

/// The smallest valid value.
fn stand_in(root: &Json, schema: &Json) -> Json {
    let schema = resolve(root, schema);
    if let Some((choice, _)) = choices(schema).first() {
        return (*choice).clone();
    }
    match schema.get("type").and_then(Json::as_str) {
        Some("object") => required(schema)
            .map(|key| (key.to_owned(), stand_in(root, &schema["properties"][key])))
            .collect(),
        Some("array") => Json::Array(Vec::new()),
        Some("boolean") => Json::Bool(false),
        Some("integer") => bounds(schema).0.into(),
        Some("number") => 0.into(),
        _ => {
            let format = schema.get("format").and_then(Json::as_str);
            let syntax = SYNTAXES.iter().find(|s| Some(s.format) == format);
            syntax.map_or("", |syntax| syntax.sample).into()
        }
    }
}
