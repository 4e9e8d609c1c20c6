//! The shared library that moves bytes.
//!
//! It reads the newest [`meridian_model::Snapshot`] and knows nothing of where
//! snapshots come from. [`DataPlane`] is the door: it follows a stream of
//! snapshots, opens their listeners and serves them on threads of its own.
//!
//! From the socket inwards:
//!
//! | module | what |
//! |---|---|
//! | [`plane`] | start, follow snapshots, report, drain |
//! | [`listener`] | sockets that open and close while traffic flows |
//! | [`tls`] | one provider, verifiers that know SPIFFE |
//! | `http1` | what both ends of an HTTP/1.1 message have in common |
//! | [`downstream`] | a client's stream, guarded where the bytes enter |
//! | `proxy` | HTTP: admission, tries, exchange, record |
//! | `stream`, [`relay`] | TCP |
//! | `authorize`, `jwt` | intentions, and the tokens they ask for |
//! | [`route`], [`normalize`], [`headers`] | what a request matches and becomes |
//! | `tables` | all of it prepared from a snapshot |
//! | [`balance`], [`resilience`] | which endpoint, how often, how long |
//! | `external` | services that are asked about requests |
//! | `call`, `grpc` | requests of our own |
//! | `logs` | access logs for collectors |
//! | `upstream` | connections to endpoints |
//! | `gather` | a turn of an HTTP/2 connection in one write |
//! | `access_log` | which log takes finished requests |
//! | [`probe`] | one handshake, for an operator who asks |
//! | [`admin`] | the operators' own listener |
//! | [`workers`], [`drain`] | threads, and their end |

pub mod plane;

pub mod listener;

pub mod tls;

mod http1;

pub mod downstream;

mod proxy;

pub mod relay;
mod stream;

mod access_log;
mod authorize;
mod external;
mod jwt;

pub mod headers;
pub mod normalize;
pub mod route;

mod sni;
mod tables;

pub mod balance;
pub mod resilience;

mod call;
mod gather;
mod grpc;
mod logs;
mod upstream;

pub mod probe;

pub mod admin;

#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
#[cfg(test)]
mod properties;

pub mod drain;
pub mod workers;

pub use plane::{DataPlane, DrainReport, Readiness, Settings, StartError, Telemetry};
