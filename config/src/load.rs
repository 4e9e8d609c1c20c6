//! From a file to what is meant, or to everything that is wrong with it.

use crate::lower::{self, Context};
use crate::report::{Problem, Report, Severity};
use crate::shape::{self, Found};
use crate::{GatewayFile, MeshFile, Startup, schema, yaml};
use meridian_model::Blueprint;
use serde::de::DeserializeOwned;
use std::fs;
use std::path::{Path, PathBuf};

/// A file without an error.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded<T> {
    /// What is meant.
    pub value: T,
    /// What is worth a look; often nothing.
    pub warnings: Report,
    /// Other files that were read, such as certificates: a change of one is a
    /// change of the configuration.
    pub inputs: Vec<PathBuf>,
}

/// What a gateway's file means.
#[derive(Debug, Clone, PartialEq)]
pub struct Gateway {
    /// Listeners, routes and backends.
    pub blueprint: Blueprint,
    /// Settings that hold from start to stop.
    pub startup: Startup,
    /// Name of the gateway as a service of Consul's mesh; always there when a
    /// backend goes through the mesh.
    pub service: Option<String>,
}

/// What a mesh proxy's file means.
#[derive(Debug, Clone, PartialEq)]
pub struct Mesh {
    /// Settings that hold from start to stop.
    pub startup: Startup,
}

impl GatewayFile {
    /// Reads a gateway's file. Paths in it are relative to its directory.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn load(path: &Path) -> Result<Loaded<Gateway>, Report> {
        load(path, Self::parse_in)
    }

    /// Reads a gateway's file from `text`; `name` stands in messages. Paths in
    /// it are relative to the working directory.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn parse(text: &str, name: &str) -> Result<Loaded<Gateway>, Report> {
        Self::parse_in(text, name, Path::new(""))
    }

    fn parse_in(text: &str, name: &str, base: &Path) -> Result<Loaded<Gateway>, Report> {
        parse(text, name, base, &schema::gateway(), lower::gateway)
    }
}

impl MeshFile {
    /// Reads a mesh proxy's file. Paths in it are relative to its directory.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn load(path: &Path) -> Result<Loaded<Mesh>, Report> {
        load(path, Self::parse_in)
    }

    /// Reads a mesh proxy's file from `text`; `name` stands in messages. Paths
    /// in it are relative to the working directory.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn parse(text: &str, name: &str) -> Result<Loaded<Mesh>, Report> {
        Self::parse_in(text, name, Path::new(""))
    }

    fn parse_in(text: &str, name: &str, base: &Path) -> Result<Loaded<Mesh>, Report> {
        parse(text, name, base, &schema::mesh(), lower::mesh)
    }
}

fn load<T>(
    path: &Path,
    parse: impl Fn(&str, &str, &Path) -> Result<Loaded<T>, Report>,
) -> Result<Loaded<T>, Report> {
    let name = path.display().to_string();
    let text = fs::read_to_string(path)
        .map_err(|error| Report::new(&name, vec![about_file(format!("cannot read: {error}"))]))?;
    parse(&text, &name, path.parent().unwrap_or(path))
}

fn parse<F: DeserializeOwned, T>(
    text: &str,
    name: &str,
    base: &Path,
    schema: &serde_json::Value,
    lower: fn(&F, &mut Context<'_>) -> T,
) -> Result<Loaded<T>, Report> {
    let tree = yaml::parse(text).map_err(|error| {
        let mut problem = about_file(error.message);
        problem.line = Some(error.line);
        Report::new(name, vec![problem])
    })?;
    let fitted = shape::fit(&tree, schema);
    let mut context = Context::new(&tree, base, fitted.broken);
    let mut found = fitted.found;
    let lowered = match serde_json::from_value::<F>(fitted.value) {
        Ok(file) => Some(lower(&file, &mut context)),
        // The schema is stricter than the types, so this is no one's typing error.
        Err(error) => {
            found.push(Found::error(
                &crate::path::Path::default(),
                error.to_string(),
            ));
            None
        }
    };
    found.append(&mut context.found);
    let problems = found.into_iter().map(|f| place(f, &tree)).collect();
    let report = Report::new(name, problems);
    match lowered {
        Some(value) if report.errors().next().is_none() => Ok(Loaded {
            value,
            warnings: report,
            inputs: context.inputs,
        }),
        _ => Err(report),
    }
}

fn place(found: Found, tree: &yaml::Node) -> Problem {
    Problem {
        severity: found.severity,
        line: Some(found.line.unwrap_or_else(|| tree.line_of(&found.path))),
        path: found.path.to_string(),
        message: found.message,
        suggestion: found.suggestion,
    }
}

fn about_file(message: String) -> Problem {
    Problem {
        severity: Severity::Error,
        line: None,
        path: String::new(),
        message,
        suggestion: None,
    }
}
