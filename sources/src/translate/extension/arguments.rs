//! Arguments of an extension, read as Consul reads them: names in any case, numbers with or
//! without a fraction of zero. What nobody asked for can be named afterwards.

use crate::translate::opaque::whole;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// A table of arguments.
pub(super) struct Arguments<'a> {
    /// Where it stands: empty, or `Config.` and the like.
    path: String,
    /// What nobody has asked for yet, by its name in lower case.
    left: BTreeMap<String, (&'a str, &'a Value)>,
    /// What of inner tables nobody asked for.
    unknown: Vec<String>,
}

impl<'a> Arguments<'a> {
    /// Reads the outermost table; none at all is an empty one.
    pub(super) fn read(value: &'a Value) -> Result<Self, String> {
        match value {
            Value::Null => Ok(Self::of(String::new(), None)),
            Value::Object(table) => Ok(Self::of(String::new(), Some(table))),
            other => Err(format!("its arguments are {other}, expected a table")),
        }
    }

    fn of(path: String, table: Option<&'a Map<String, Value>>) -> Self {
        let entries = table.into_iter().flatten();
        Self {
            path,
            left: entries
                .map(|(name, value)| (name.to_ascii_lowercase(), (name.as_str(), value)))
                .collect(),
            unknown: Vec::new(),
        }
    }

    /// An argument; null is none.
    pub(super) fn value(&mut self, name: &str) -> Option<&'a Value> {
        let (_, value) = self.left.remove(&name.to_ascii_lowercase())?;
        Some(value).filter(|value| !value.is_null())
    }

    /// A text; an empty one is none.
    pub(super) fn text(&mut self, name: &str) -> Result<Option<&'a str>, String> {
        match self.value(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.as_str()).filter(|text| !text.is_empty())),
            Some(other) => Err(self.wrong(name, other, "a text")),
        }
    }

    /// A whole number that fits `T`.
    pub(super) fn number<T: TryFrom<u64>>(&mut self, name: &str) -> Result<Option<T>, String> {
        let Some(value) = self.value(name) else {
            return Ok(None);
        };
        let number = whole(value).filter(|_| value.is_number());
        let fits = number.and_then(|number| T::try_from(number).ok());
        match fits {
            Some(number) => Ok(Some(number)),
            None => Err(self.wrong(name, value, "a whole number that is not too large")),
        }
    }

    /// Yes or no.
    pub(super) fn flag(&mut self, name: &str) -> Result<Option<bool>, String> {
        match self.value(name) {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(*flag)),
            Some(other) => Err(self.wrong(name, other, "true or false")),
        }
    }

    /// An inner table. Give it back to [`Arguments::done`].
    pub(super) fn table(&mut self, name: &str) -> Result<Option<Self>, String> {
        let path = format!("{}{name}.", self.path);
        match self.value(name) {
            None => Ok(None),
            Some(Value::Object(table)) => Ok(Some(Self::of(path, Some(table)))),
            Some(other) => Err(self.wrong(name, other, "a table")),
        }
    }

    /// Inner tables. Give each back to [`Arguments::done`].
    pub(super) fn list(&mut self, name: &str) -> Result<Vec<Self>, String> {
        let items = match self.value(name) {
            None => return Ok(Vec::new()),
            Some(Value::Array(items)) => items,
            Some(other) => return Err(self.wrong(name, other, "a list")),
        };
        let mut tables = Vec::with_capacity(items.len());
        for (index, item) in items.iter().enumerate() {
            let path = format!("{}{name}[{index}]", self.path);
            match item {
                Value::Object(table) => tables.push(Self::of(format!("{path}."), Some(table))),
                other => return Err(format!("`{path}` is {other}, expected a table")),
            }
        }
        Ok(tables)
    }

    /// Nobody will ask an inner table for more.
    pub(super) fn done(&mut self, inner: Self) {
        self.unknown.extend(inner.unknown());
    }

    /// A complaint about an argument.
    pub(super) fn wrong(&self, name: &str, value: &Value, expected: &str) -> String {
        format!("`{}{name}` is {value}, expected {expected}", self.path)
    }

    /// Names what nobody has asked for.
    pub(super) fn unknown(mut self) -> Vec<String> {
        let path = &self.path;
        let left = self.left.into_values();
        let named = left.map(|(name, _)| format!("`{path}{name}` is not honoured"));
        self.unknown.extend(named);
        self.unknown
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn names_are_found_in_any_case_and_what_is_left_is_named() {
        let value = json!({"maxtokens": 5, "Other": 1, "Inner": [{"a": "x", "b": true}]});
        let mut arguments = Arguments::read(&value).unwrap();
        assert_eq!(arguments.number::<u32>("MaxTokens"), Ok(Some(5)));
        let mut inner = arguments.list("Inner").unwrap().remove(0);
        assert_eq!(inner.text("A"), Ok(Some("x")));
        arguments.done(inner);
        let unknown = arguments.unknown();
        assert_eq!(
            unknown,
            ["`Inner[0].b` is not honoured", "`Other` is not honoured"]
        );
    }

    #[test]
    fn wrong_kinds_are_refused_by_name() {
        let value = json!({"a": "5", "b": -1, "c": 70000, "d": {}, "e": null, "f": 5.0});
        let mut arguments = Arguments::read(&value).unwrap();
        assert!(arguments.number::<u16>("a").unwrap_err().contains("`a`"));
        assert!(arguments.number::<u16>("b").is_err());
        assert!(arguments.number::<u16>("c").is_err());
        assert!(arguments.list("d").is_err());
        assert_eq!(arguments.number::<u16>("e"), Ok(None));
        assert_eq!(arguments.number::<u16>("f"), Ok(Some(5)));
        assert!(Arguments::read(&json!([])).is_err());
    }
}
