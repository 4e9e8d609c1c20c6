//! The frame around every Meridian program: what `gateway`, `meshd` and
//! `meridian` do alike between `main` and the data plane.
//!
//! Read in the order of a program's life: [`options`] on the command line and
//! [`settings`] in the file say how it runs, and make a [`frame`] with the client
//! of Consul; [`supervise`] sets the process up;
//! [`proxy`] opens telemetry and the admin listener, starts the data plane, and
//! drains it; sources count in [`Counts`]; all of that runs in [`control`], and
//! [`outcome`] is the exit code.
//! [`validate`] is the subcommand that starts nothing.

pub mod control;
pub mod frame;
pub mod options;
pub mod outcome;
pub mod proxy;
pub mod settings;
pub mod supervise;
pub mod validate;

mod counts;
mod scrape;

pub use counts::Counts;
pub use frame::{Frame, PlanError, RunError};
pub use options::{ConsulOptions, ProgramOptions};
pub use outcome::Outcome;
pub use proxy::{Opened, Proxy, StartError};
pub use settings::{Named, Settings, SettingsError};
pub use supervise::{Process, ProcessError};
