//! Logs, metrics, traces and access logs of the Meridian programs.
//!
//! A leaf of the workspace: nothing here knows what a snapshot or a source is.
//! The data plane resolves its handles when a snapshot is built, and on the
//! request path only adds to atomics or moves a finished record into a bounded
//! queue. Formatting, encoding and writing happen elsewhere.
//!
//! | module | what |
//! |---|---|
//! | [`log`] | the program's own log through `tracing`, its level changeable at run time |
//! | [`metrics`] | Prometheus families, resolved handles, the [`metrics::catalogue`] of names |
//! | [`trace`] | W3C trace context in and out, spans to an OTLP collector |
//! | [`access_log`] | one line a request or connection, written by a thread of its own |
//! | [`text`] | strings that are captured on the request path and rendered off it |
//! | [`error`] | [`error::Chain`], an error with all its causes on one line |

pub mod access_log;
pub mod error;
pub mod log;
pub mod metrics;
pub mod text;
pub mod trace;

pub use access_log::{AccessLog, AccessRecord};
pub use error::Chain;
pub use metrics::Metrics;
pub use text::Text;
pub use trace::{SpanSink, TraceContext, TraceState};
