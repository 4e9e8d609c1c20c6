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
