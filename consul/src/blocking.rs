//! Blocking queries: following an answer without asking in a busy loop.
//!
//! [`Cursor`] holds Consul's rules as a pure state machine; [`Watch`] drives it over HTTP. A
//! return of a blocking query proves nothing: it comes back at its timeout, and after writes that
//! changed nothing, so contents are compared.

mod cursor;
mod pacing;
mod watch;

pub use cursor::{Cursor, Position};
pub use pacing::{Backoff, Pacing, Rate};
pub use watch::{Watch, WatchEvent};
