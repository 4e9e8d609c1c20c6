//! HTTP: one request from its head to its log line.
//!
//! The loop stands on sessions of our own for HTTP/1 and on h2, and is our own (the reasons are in
//! docs/decisions/0002). Its phases, in the order of a request:
//!
//! 1. [`admission`]: violations found in the bytes, protocol checks,
//!    normalization, authorization, routing. Answers or says where to forward.
//! 2. [`checking`]: external authorizations, the one thing that is waited for.
//! 3. [`forward`]: tries; each picks an endpoint, connects or reuses, and
//!    exchanges ([`exchange`]) request and response.
//! 4. [`record`]: metrics, access log and spans, once, whatever happened.
//!
//! [`respond`] is the only place that turns an error into a response.

mod admission;
pub(crate) mod authority;
mod blame;
mod checking;
mod connection;
mod deadline;
mod exchange;
mod failure;
mod forward;
mod forwarded;
mod heads;
mod pace;
mod record;
mod replay;
mod respond;
mod retry;
mod trailers;

pub(crate) use connection::{ConnectionApp, Shared};
pub(crate) use forwarded::percent_encoded_pem;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use heads::append_element;
