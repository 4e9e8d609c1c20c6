//! `docs/configuration.md`, made of the schema: one table a block.

use crate::schema;
use crate::shape::{choices, expectation, plain, resolve};
use serde_json::Value;
use std::fmt::Write;

/// The reference of both files, as Markdown.
pub fn markdown() -> String {
    let (gateway, mesh) = (schema::gateway(), schema::mesh());
    let mut page = INTRODUCTION.to_owned();
    // A block of both files is explained once.
    let mut shown = Vec::new();
    file(&mut page, "The gateway's file", &gateway, &mut shown);
    file(&mut page, "The mesh proxy's file", &mesh, &mut shown);
    page
}

const INTRODUCTION: &str = "\
# Configuration

<!-- Made from the types in config/src/file by a test: UPDATE=1 cargo test -p meridian-config. -->

Two programs read a YAML file: `gateway run --config FILE` and `meshd run --config FILE`.
`gateway validate FILE` checks one and reports every mistake at once, with its line.

- Keys that are not listed here are refused, and so is a key with nothing behind it.
- Durations are written as in the Gateway API: `10s`, `1m30s`, `250ms`. Sizes are `512`, `60Ki`, `10Mi`.
- Paths of files are relative to the directory of the file that names them.
- Secrets never stand in the file, only references to them.
- Aliases of YAML work, tags do not.
- Editors check and complete with the schemas in `config/schema/`:
  `# yaml-language-server: $schema=schema/gateway.v1.json`.

Complete examples are [`config/gateway.yaml`](../config/gateway.yaml), [`config/mesh.yaml`](../config/mesh.yaml) and [`config/examples/`](../config/examples/).
";

fn file<'s>(page: &mut String, title: &str, schema: &'s Value, shown: &mut Vec<Shown<'s>>) {
    heading(page, 2, title);
    prose(page, schema);
    // Blocks stand in the order in which they are first named.
    let mut next = shown.len();
    block(page, schema, schema, shown);
    while let Some((name, definition)) = shown.get(next).copied() {
        heading(page, 3, name);
        prose(page, definition);
        if definition.get("properties").is_some() {
            block(page, schema, definition, shown);
        } else {
            values(page, definition);
        }
        next += 1;
    }
}

fn heading(page: &mut String, level: usize, title: &str) {
    page.push('\n');
    page.push_str(&"#".repeat(level));
    line(page, &format!(" {title}\n"));
}

fn prose(page: &mut String, schema: &Value) {
    if let Some(text) = description(schema) {
        line(page, &format!("{text}\n"));
    }
}

fn block<'s>(page: &mut String, root: &'s Value, schema: &'s Value, shown: &mut Vec<Shown<'s>>) {
    let keys = schema.get("properties").and_then(Value::as_object);
    line(page, "| key | value | default | meaning |");
    line(page, "|---|---|---|---|");
    for (key, property) in keys.into_iter().flatten() {
        let value = value(root, property, shown);
        let default = default(schema, key, property);
        let meaning = description(property).unwrap_or_default();
        line(
            page,
            &format!("| `{key}` | {value} | {default} | {meaning} |"),
        );
    }
}

fn values(page: &mut String, schema: &Value) {
    line(page, "| value | meaning |");
    line(page, "|---|---|");
    for (choice, documented) in choices(schema) {
        // A plain list has one description, that of the whole.
        let own = documented
            .get("const")
            .and_then(|_| description(documented));
        let meaning = own.unwrap_or_default();
        line(page, &format!("| `{}` | {meaning} |", plain(choice)));
    }
}

type Shown<'s> = (&'s str, &'s Value);

/// What to write, with a link to the block's own section.
fn value<'s>(root: &'s Value, schema: &'s Value, shown: &mut Vec<Shown<'s>>) -> String {
    if let Some(items) = schema.get("items") {
        let link = if items.get("$ref").is_some() {
            " of"
        } else {
            ":"
        };
        return format!("list{link} {}", value(root, items, shown));
    }
    let reference = schema.get("$ref").and_then(Value::as_str);
    match reference.and_then(|reference| reference.rsplit('/').next()) {
        Some(name) => {
            if !shown.iter().any(|(known, _)| *known == name) {
                shown.push((name, resolve(root, schema)));
            }
            format!("[{name}](#{})", name.to_lowercase())
        }
        None => expectation(schema),
    }
}

fn default(block: &Value, key: &str, property: &Value) -> String {
    let required = block.get("required").and_then(Value::as_array);
    if required.is_some_and(|keys| keys.iter().any(|required| required == key)) {
        return "required".to_owned();
    }
    property
        .get("default")
        .map(|default| format!("`{}`", plain(default)))
        .unwrap_or_default()
}

fn description(schema: &Value) -> Option<String> {
    let text = schema.get("description")?.as_str()?;
    // Tables have one line a row; a bar would begin a new cell.
    Some(text.replace('\n', " ").replace('|', "\\|"))
}

fn line(page: &mut String, text: &str) {
    // Writing to a String cannot fail.
    let _ = writeln!(page, "{text}");
}
