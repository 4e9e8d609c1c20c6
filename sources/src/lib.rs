//! Where Meridian learns what is wanted and what exists.
//!
//! A source watches (a file, Consul, an embedded registry), translates what it learns into the
//! model with pure functions, and publishes [`Snapshot`](meridian_model::Snapshot)s over a
//! `tokio::sync::watch` channel. It runs on the control plane's runtime; the data plane only ever
//! reads the newest snapshot. While a source's origin is away, the last good snapshot stays, and
//! says how old it is.
//!
//! - [`consul_mesh`]: a sidecar, from its registration in Consul.
//! - [`consul_gateway`]: an ingress or API gateway, from its entries in Consul.
//! - [`sni_gateway`]: a mesh or terminating gateway, from what Consul knows.
//! - [`mod@file`] and [`resolve`]: a gateway, from a configuration file and from wherever its
//!   backends are found.
//! - [`Memory`]: what Consul said last, for a start while it is away.
//! - [`register`]: the gateway as a service of the mesh.
//! - [`embedded`]: both without Consul, for development and tests.

pub mod intent;
pub mod publish;

pub mod consul_gateway;
pub mod consul_mesh;
pub mod embedded;
pub mod file;
pub mod register;
pub mod resolve;
pub mod sni_gateway;

mod causes;
mod chain;
mod dns;
mod gateways;
mod jwks;
mod knowledge;
mod memory;
mod role;
mod settling;
mod translate;
mod watching;

#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
#[cfg(test)]
mod properties;

pub use intent::Intent;
pub use memory::{Memory, MemoryError, MemoryOptions};
pub use publish::{Source, SourceMetrics};
pub use watching::ConsulOptions;
