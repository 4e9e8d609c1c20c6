//! The YAML file format of Meridian, and how it becomes a
//! [`Blueprint`](meridian_model::Blueprint).
//!
//! A file passes four steps, and every step reports all that it finds:
//!
//! 1. `yaml`: text into a tree that knows its lines.
//! 2. `shape`: the tree against the JSON Schema of the types in [`mod@file`].
//!    What is broken is stood in for, so that the rest can still be checked.
//! 3. [`mod@file`]: what was written, one serde type a block.
//! 4. `lower`: what is meant. References, certificates and reachability are
//!    checked here.
//!
//! Only a file without an error is given out: [`Loaded`], otherwise [`Report`].
//! [`mod@schema`] and `reference` write down the format for editors and
//! readers.

mod load;
mod lower;
mod path;
mod report;
mod shape;
mod startup;
mod suggest;
mod yaml;

pub mod file;
pub mod reference;
pub mod schema;

pub use file::{GatewayFile, MeshFile};
pub use load::{Gateway, Loaded, Mesh};
pub use report::{Problem, Report, Severity};
pub use startup::{
    AccessLog, AccessLogDestination, AccessLogFormat, Consul, ConsulTls, LogLevel, Startup,
    Telemetry, TokenSource, Tracing,
};
