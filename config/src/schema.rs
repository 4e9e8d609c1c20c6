//! The JSON Schema of the format, made of the types in [`crate::file`].
//!
//! Editors read the checked-in copies in `config/schema/`; the loader itself
//! checks files against it, so that the two cannot differ.

use crate::{GatewayFile, MeshFile};
use schemars::generate::SchemaSettings;
use schemars::transform::RecursiveTransform;
use schemars::{JsonSchema, Schema};
use serde_json::Value;

/// Schema of the gateway's file, `edge/v1`.
pub fn gateway() -> Value {
    of::<GatewayFile>()
}

/// Schema of the mesh proxy's file, `mesh/v1`.
pub fn mesh() -> Value {
    of::<MeshFile>()
}

fn of<T: JsonSchema>() -> Value {
    SchemaSettings::draft2020_12()
        .with_transform(RecursiveTransform(forbid_null))
        .into_generator()
        .into_root_schema_for::<T>()
        .to_value()
}

/// What may be left out may not be written as nothing: `tls:` with an empty
/// value is a forgotten block, not plain text. Defaults of whole blocks go,
/// too: their keys have their own.
fn forbid_null(schema: &mut Schema) {
    let Some(object) = schema.as_object_mut() else {
        return;
    };
    if let Some(Value::Array(types)) = object.get_mut("type") {
        types.retain(|name| name != "null");
        if let [only] = types.as_slice() {
            let only = only.clone();
            object.insert("type".to_owned(), only);
        }
    }
    if let Some(Value::Array(mut members)) = object.remove("anyOf") {
        members.retain(|member| member.get("type").is_none_or(|name| name != "null"));
        match members.pop() {
            Some(Value::Object(only)) if members.is_empty() => {
                for (key, value) in only {
                    object.entry(key).or_insert(value);
                }
            }
            last => {
                members.extend(last);
                object.insert("anyOf".to_owned(), Value::Array(members));
            }
        }
    }
    if matches!(
        object.get("default"),
        Some(Value::Null | Value::Object(_) | Value::Array(_))
    ) {
        object.remove("default");
    }
}
