//! Opaque configuration: the free-form `Config` of proxies and upstreams.
//!
//! Consul decodes it weakly (a number may be written as text), and so is it read here.
//! A value of the wrong kind is refused by itself; the setting then has its default.

use meridian_model::Rejection;
use serde_json::{Map, Value};
use std::time::Duration;

/// Reads settings and collects what it had to refuse.
pub(crate) struct Opaque<'a> {
    resource: &'a str,
    config: &'a Map<String, Value>,
    /// What was refused so far.
    pub(crate) rejected: Vec<Rejection>,
}

impl<'a> Opaque<'a> {
    pub(crate) fn new(resource: &'a str, config: &'a Map<String, Value>) -> Self {
        Self {
            resource,
            config,
            rejected: Vec::new(),
        }
    }

    /// A text; an empty one is unset.
    pub(crate) fn text(&mut self, key: &str) -> Option<String> {
        match self.config.get(key) {
            None | Some(Value::Null) => None,
            Some(Value::String(text)) => Some(text.clone()).filter(|text| !text.is_empty()),
            Some(other) => self.refuse(key, other, "a text"),
        }
    }

    /// A whole number.
    pub(crate) fn number(&mut self, key: &str) -> Option<u64> {
        let value = self.config.get(key)?;
        match whole(value) {
            _ if value.is_null() => None,
            Some(number) => Some(number),
            None => self.refuse(key, value, "a whole number"),
        }
    }

    /// A number that must fit `T`.
    pub(crate) fn fitting<T: TryFrom<u64>>(&mut self, key: &str) -> Option<T> {
        let number = self.number(key)?;
        match T::try_from(number) {
            Ok(fits) => Some(fits),
            Err(_) => self.refuse(key, &Value::from(number), "a smaller number"),
        }
    }

    /// A number of milliseconds, as Consul names such settings (`*_ms`).
    pub(crate) fn duration(&mut self, key: &str) -> Option<Duration> {
        self.number(key).map(Duration::from_millis)
    }

    /// A table of further settings; an absent one is empty.
    pub(crate) fn table(&mut self, key: &str) -> Option<&'a Map<String, Value>> {
        match self.config.get(key) {
            None | Some(Value::Null) => None,
            Some(Value::Object(table)) => Some(table),
            Some(other) => self.refuse(key, other, "a table"),
        }
    }

    /// Notes that a setting has the wrong form.
    pub(crate) fn refuse<T>(&mut self, key: &str, value: &Value, expected: &str) -> Option<T> {
        self.rejected.push(Rejection {
            resource: self.resource.to_owned(),
            reason: format!("`{key}` is {value}, expected {expected}; its default is used"),
        });
        None
    }
}

/// A whole number, written as one, as a float without fraction, or as text.
pub(crate) fn whole(value: &Value) -> Option<u64> {
    match value {
        Value::Number(number) => number.as_u64().or_else(|| {
            let float = number.as_f64()?;
            // Within the integers that a float holds exactly.
            let exact = float.fract() == 0.0 && (0.0..9e15).contains(&float);
            exact.then_some(float as u64)
        }),
        Value::String(text) => text.parse().ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn numbers_are_read_in_every_form_that_consul_takes() {
        let config = json!({"a_ms": 5, "b_ms": 5.0, "c_ms": "5", "d_ms": null});
        let mut opaque = Opaque::new("r", config.as_object().unwrap());
        for key in ["a_ms", "b_ms", "c_ms"] {
            assert_eq!(
                opaque.duration(key),
                Some(Duration::from_millis(5)),
                "{key}"
            );
        }
        assert_eq!(opaque.duration("d_ms"), None);
        assert_eq!(opaque.duration("absent"), None);
        assert_eq!(opaque.rejected, []);
    }

    #[test]
    fn wrong_kinds_are_refused_by_themselves() {
        let config = json!({"a": "x", "b": 1.5, "c": -1, "d": [], "port": 70000});
        let mut opaque = Opaque::new("proxy web", config.as_object().unwrap());
        for key in ["a", "b", "c", "d"] {
            assert_eq!(opaque.number(key), None, "{key}");
        }
        assert_eq!(opaque.fitting::<u16>("port"), None);
        assert_eq!(opaque.rejected.len(), 5);
        assert!(opaque.rejected[0].reason.contains("`a` is \"x\""));
    }
}
