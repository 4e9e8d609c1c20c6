//! Header changes of routers and splitters.

use super::header_text;
use consul::chain::HeaderModifiers;
use http::HeaderName;
use meridian_model::HeaderText;
use meridian_model::route::HeaderModifier;
use std::collections::BTreeMap;

/// Translates changes; a name or value that HTTP doesn't allow is an error.
pub(crate) fn modifier(written: &HeaderModifiers) -> Result<HeaderModifier, String> {
    Ok(HeaderModifier {
        remove: written
            .remove
            .iter()
            .map(|name| header_name(name))
            .collect::<Result<_, _>>()?,
        set: pairs(&written.set)?,
        add: pairs(&written.add)?,
    })
}

/// The change that does what `first` and then `second` do. Each of them removes, sets
/// and adds, in this order.
pub(super) fn followed_by(first: &HeaderModifier, second: &HeaderModifier) -> HeaderModifier {
    let outlives = |(name, _): &&(HeaderName, HeaderText)| {
        let set = second.set.iter().any(|(set, _)| set == name);
        !set && !second.remove.contains(name)
    };
    let joined = |of: fn(&HeaderModifier) -> &Vec<(HeaderName, HeaderText)>| {
        let kept = of(first).iter().filter(outlives);
        kept.chain(of(second)).cloned().collect()
    };
    HeaderModifier {
        remove: first.remove.iter().chain(&second.remove).cloned().collect(),
        set: joined(|modifier| &modifier.set),
        add: joined(|modifier| &modifier.add),
    }
}

fn pairs(written: &BTreeMap<String, String>) -> Result<Vec<(HeaderName, HeaderText)>, String> {
    written
        .iter()
        .map(|(name, value)| {
            let text = header_text::read(value)
                .map_err(|reason| format!("the value of header `{name}`: {reason}"))?;
            Ok((header_name(name)?, text))
        })
        .collect()
}

fn header_name(name: &str) -> Result<HeaderName, String> {
    HeaderName::from_bytes(name.as_bytes()).map_err(|_| format!("`{name}` is no header name"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn made(written: serde_json::Value) -> HeaderModifier {
        modifier(&serde_json::from_value(written).unwrap()).unwrap()
    }

    #[test]
    fn two_changes_become_one() {
        let cases = [
            // Set twice: the second.
            (
                json!({"Set": {"a": "1"}}),
                json!({"Set": {"a": "2"}}),
                json!({"Set": {"a": "2"}}),
            ),
            // What was set or added is removed again.
            (
                json!({"Set": {"a": "1"}, "Add": {"b": "1"}}),
                json!({"Remove": ["a", "b"]}),
                json!({"Remove": ["a", "b"]}),
            ),
            // What was added gives way to what is set.
            (
                json!({"Add": {"a": "1"}}),
                json!({"Set": {"a": "2"}}),
                json!({"Set": {"a": "2"}}),
            ),
            // What was removed may be set.
            (
                json!({"Remove": ["a"]}),
                json!({"Set": {"a": "2"}}),
                json!({"Remove": ["a"], "Set": {"a": "2"}}),
            ),
            (
                json!({"Set": {"a": "1"}}),
                json!({"Add": {"a": "2"}}),
                json!({"Set": {"a": "1"}, "Add": {"a": "2"}}),
            ),
        ];
        for (first, second, both) in cases {
            let actual = followed_by(&made(first.clone()), &made(second.clone()));
            assert_eq!(actual, made(both), "{first} then {second}");
        }
        let twice = followed_by(
            &made(json!({"Add": {"a": "1"}})),
            &made(json!({"Add": {"a": "2"}})),
        );
        let values: Vec<_> = twice.add.iter().map(|(_, value)| value.clone()).collect();
        let value = |text| header_text::read(text).unwrap();
        assert_eq!(values, [value("1"), value("2")]);
    }
}
