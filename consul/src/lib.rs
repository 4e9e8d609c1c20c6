//! A client for Consul's HTTP API: what a proxy, a gateway or an operator's tool needs of it.
//!
//! Reads are values: [`Client::leaf`], [`Client::discovery_chain`] and the others return a
//! [`Query`], which is sent once ([`Query::once`]) or followed ([`Query::watch`]). A watch is a
//! blocking query kept running: it yields what changed, says when the agent is away, and starts
//! from scratch when the agent is back. Writes are plain `async` methods.
//!
//! ```no_run
//! use consul::{Client, ClientConfig, blocking::{Pacing, WatchEvent}};
//!
//! # async fn example() -> Result<(), consul::Error> {
//! let client = Client::new(ClientConfig::from_env(|name| std::env::var(name).ok())?)?;
//! let agent = client.agent_self().once().await?.value;
//! println!("agent {} of {}", agent.config.node_name, agent.config.datacenter);
//!
//! let mut instances = client.health_connect("web").datacenter("dc2").watch(Pacing::default());
//! loop {
//!     match instances.next().await {
//!         WatchEvent::Changed { value, .. } => println!("{} instances", value.len()),
//!         WatchEvent::Recovered { .. } => println!("the agent is back, nothing changed"),
//!         WatchEvent::Failed { error, consecutive } => println!("failure {consecutive}: {error}"),
//!     }
//! }
//! # }
//! ```

mod address;
mod call;
mod client;
mod config;
mod connections;
mod error;
mod query;
mod secret;
mod tls;
mod wire;

pub mod blocking;

pub mod acl;
pub mod agent;
pub mod catalog;
pub mod chain;
pub mod coordinate;
pub mod entry;
pub mod health;
pub mod intention;
pub mod kv;
pub mod prepared;
pub mod session;
pub mod xds;

pub use address::Address;
pub use client::Client;
pub use config::{BasicAuth, ClientConfig, Limits};
pub use error::{ConfigError, Endpoint, Error};
pub use query::{Consistency, Meta, Query, Raw, Response};
pub use secret::{Secret, Token};
pub use tls::{Authorities, ClientPair, TlsConfig};
pub use wire::Unknown;
pub use wire::positive_duration;

/// The README's example, compiled.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
