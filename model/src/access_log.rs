//! An access log that is configured with the traffic instead of with the program.

use std::path::PathBuf;

/// Where finished requests and connections are written down, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessLogPlan {
    /// Where lines go.
    pub destination: LogDestination,
    /// How a line looks, in the words of Envoy's access log.
    pub line: LinePlan,
}

/// Where lines go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogDestination {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// A file that is appended to.
    File(PathBuf),
}

/// How a line looks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinePlan {
    /// This text, its operators replaced; it says where the line ends.
    Text(String),
    /// A JSON object of these fields, operators replaced in their values.
    Json(Vec<(String, String)>),
}
